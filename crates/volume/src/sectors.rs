//! Encrypting and decrypting whole sectors, as dm-crypt does.
//!
//! Owns: the two ciphers that there are, their keys and their IV: the number of the sector as 64-bit little endian,
//! counted in 512-byte units also where a sector has 4096 bytes (LUKS2 section 3.3, dm-crypt without
//! `iv_large_sectors`). One context serves all sectors of a worker: a new one per sector is three times slower.

use domain::VolumeKey;
use openssl::{cipher::Cipher, cipher_ctx::CipherCtx, error::ErrorStack};

use crate::adiantum::{Adiantum, TWEAK_LEN};

/// Bytes of a [`VolumeKey`], and of the key of a keyslot area.
pub(crate) const KEY_LEN: usize = 64;
/// The unit of the IV, and the sector of a keyslot area.
pub(crate) const IV_UNIT: u64 = 512;

/// The cipher of a data segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataCipher {
    /// `aes-xts-plain64` with 512 bits: for every processor with AES instructions, a Pi 5 too. Keyslots always have it.
    #[default]
    AesXts,
    /// `xchacha12,aes-adiantum-plain64` with 256 bits, the first 32 bytes of a [`VolumeKey`]: for a Pi 4 and its like.
    Adiantum,
}

impl DataCipher {
    /// Its name in a header, which is dm-crypt's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesXts => "aes-xts-plain64",
            Self::Adiantum => "xchacha12,aes-adiantum-plain64",
        }
    }

    /// The cipher of a name, if it is one of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::AesXts, Self::Adiantum]
            .into_iter()
            .find(|cipher| cipher.name() == name)
    }

    /// Bytes of its key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesXts => KEY_LEN,
            Self::Adiantum => crate::adiantum::KEY_LEN,
        }
    }

    /// Shows the part of `key` that the cipher uses.
    pub(crate) fn expose<R>(self, key: &VolumeKey, f: impl FnOnce(&[u8]) -> R) -> R {
        // Never shorter than asked: no cipher has a longer key than `VolumeKey`.
        key.expose(|key| f(key.get(..self.key_len()).unwrap_or(key)))
    }
}

/// Why sectors could not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum CipherError {
    /// OpenSSL fails, or refuses an XTS key with equal halves.
    #[error("OpenSSL fails")]
    OpenSsl(#[from] ErrorStack),
    /// Fewer than 16 bytes.
    #[error("a sector has fewer than 16 bytes")]
    Short,
}

impl From<CipherError> for std::io::Error {
    fn from(error: CipherError) -> Self {
        Self::other(error)
    }
}

/// The size of a data sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SectorSize {
    /// For kernels and disks that know no other; slower everywhere.
    B512,
    /// What is written unless asked otherwise.
    #[default]
    B4096,
}

impl SectorSize {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes_u64(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// Whether a cipher turns plain into sealed, or back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// A keyed cipher of one direction, for one thread. Its key schedule is wiped when it is freed.
pub struct SectorCipher {
    engine: Engine,
    direction: Direction,
    sector: SectorSize,
}

enum Engine {
    AesXts(CipherCtx),
    Adiantum(Box<Adiantum>),
}

impl SectorCipher {
    /// Encrypts the data of the volume with this key.
    ///
    /// # Errors
    /// OpenSSL fails, or refuses an XTS key with equal halves.
    pub fn encrypting(cipher: DataCipher, key: &VolumeKey, sector: SectorSize) -> Result<Self, CipherError> {
        key.expose(|key| Self::encryptor(cipher, key, sector))
    }

    /// Decrypts the data of the volume with this key.
    ///
    /// # Errors
    /// Those of [`SectorCipher::encrypting`].
    pub fn decrypting(cipher: DataCipher, key: &VolumeKey, sector: SectorSize) -> Result<Self, CipherError> {
        key.expose(|key| Self::decryptor(cipher, key, sector))
    }

    /// For encryption. OpenSSL refuses an XTS key with equal halves.
    pub(crate) fn encryptor(
        cipher: DataCipher,
        key: &[u8; KEY_LEN],
        sector: SectorSize,
    ) -> Result<Self, CipherError> {
        Self::new(cipher, Direction::Encrypt, key, sector)
    }

    /// For decryption.
    pub(crate) fn decryptor(
        cipher: DataCipher,
        key: &[u8; KEY_LEN],
        sector: SectorSize,
    ) -> Result<Self, CipherError> {
        Self::new(cipher, Direction::Decrypt, key, sector)
    }

    fn new(
        cipher: DataCipher,
        direction: Direction,
        key: &[u8; KEY_LEN],
        sector: SectorSize,
    ) -> Result<Self, CipherError> {
        let engine = match cipher {
            DataCipher::AesXts => {
                let mut ctx = CipherCtx::new()?;
                let xts = Some(Cipher::aes_256_xts());
                match direction {
                    Direction::Encrypt => ctx.encrypt_init(xts, Some(key), None)?,
                    Direction::Decrypt => ctx.decrypt_init(xts, Some(key), None)?,
                }
                Engine::AesXts(ctx)
            }
            DataCipher::Adiantum => {
                let (key, _) = key.split_first_chunk().ok_or(CipherError::Short)?;
                Engine::Adiantum(Box::new(Adiantum::new(key)))
            }
        };
        Ok(Self {
            engine,
            direction,
            sector,
        })
    }

    /// Works on `data` in place: whole sectors, the first of which begins `offset` bytes into the segment.
    ///
    /// # Errors
    /// A last sector of fewer than 16 bytes; OpenSSL fails.
    pub fn apply(&mut self, data: &mut [u8], offset: u64) -> Result<(), CipherError> {
        let step = self.sector.bytes_u64() / IV_UNIT;
        let mut number = offset / IV_UNIT;
        // Not `chunks_exact_mut`: a short rest must never be left in clear.
        for sector in data.chunks_mut(self.sector.bytes()) {
            match &mut self.engine {
                Engine::AesXts(ctx) => xts(ctx, self.direction, number, sector)?,
                Engine::Adiantum(adiantum) => {
                    let tweak: [u8; TWEAK_LEN] = plain64(number);
                    let done = match self.direction {
                        Direction::Encrypt => adiantum.encrypt(&tweak, sector),
                        Direction::Decrypt => adiantum.decrypt(&tweak, sector),
                    };
                    if !done {
                        return Err(CipherError::Short);
                    }
                }
            }
            number = number.wrapping_add(step);
        }
        Ok(())
    }
}

fn xts(ctx: &mut CipherCtx, direction: Direction, number: u64, sector: &mut [u8]) -> Result<(), ErrorStack> {
    let iv: [u8; 16] = plain64(number);
    match direction {
        Direction::Encrypt => ctx.encrypt_init(None, None, Some(&iv))?,
        Direction::Decrypt => ctx.decrypt_init(None, None, Some(&iv))?,
    }
    let len = sector.len();
    ctx.cipher_update_inplace(sector, len).map(drop)
}

/// The IV of a sector: its number, little endian, then zeros.
fn plain64<const N: usize>(number: u64) -> [u8; N] {
    let mut iv = [0; N];
    for (to, from) in iv.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    iv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> [u8; KEY_LEN] {
        std::array::from_fn(|i| u8::try_from(i).unwrap())
    }

    #[test]
    fn sectors_round_trip_and_differ_by_place() {
        for cipher in [DataCipher::AesXts, DataCipher::Adiantum] {
            for size in [SectorSize::B512, SectorSize::B4096] {
                let plain = vec![0x5a; size.bytes() * 3];
                let mut data = plain.clone();
                SectorCipher::encryptor(cipher, &key(), size)
                    .unwrap()
                    .apply(&mut data, 8192)
                    .unwrap();
                assert_ne!(data[..size.bytes()], data[size.bytes()..2 * size.bytes()]);
                SectorCipher::decryptor(cipher, &key(), size)
                    .unwrap()
                    .apply(&mut data, 8192)
                    .unwrap();
                assert_eq!(data, plain);
            }
        }
    }

    /// IEEE 1619-2007 vector 10: AES-256-XTS, data unit 0xff, 512 bytes 00..ff twice.
    #[test]
    fn matches_the_published_vector() {
        let mut key = [0; KEY_LEN];
        data_encoding::HEXLOWER
            .decode_mut(
                b"27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592",
                &mut key,
            )
            .unwrap();
        let mut data: Vec<u8> = (0..512).map(|i| u8::try_from(i % 256).unwrap()).collect();
        let mut cipher = SectorCipher::encryptor(DataCipher::AesXts, &key, SectorSize::B512).unwrap();
        cipher.apply(&mut data, 0xff * 512).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&data[..32]),
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
        );
    }

    /// The tweak of Adiantum is the number in 512-byte units and 24 zeros, as dm-crypt fills it.
    #[test]
    fn adiantum_has_the_number_as_its_tweak() {
        let mut sector = vec![1; 4096];
        let mut cipher = SectorCipher::encryptor(DataCipher::Adiantum, &key(), SectorSize::B4096).unwrap();
        cipher.apply(&mut sector, 3 * 4096).unwrap();
        let mut expected = vec![1; 4096];
        let mut tweak = [0; 32];
        tweak[0] = 24;
        assert!(Adiantum::new(key().first_chunk().unwrap()).encrypt(&tweak, &mut expected));
        assert_eq!(sector, expected);
    }

    #[test]
    fn what_cannot_be_encrypted_is_an_error() {
        let equal = SectorCipher::encryptor(DataCipher::AesXts, &[1; KEY_LEN], SectorSize::B4096);
        assert!(matches!(equal, Err(CipherError::OpenSsl(_))));
        for cipher in [DataCipher::AesXts, DataCipher::Adiantum] {
            let mut short = [0; 4096 + 15];
            let mut cipher = SectorCipher::encryptor(cipher, &key(), SectorSize::B4096).unwrap();
            assert!(cipher.apply(&mut short, 0).is_err());
        }
    }
}
