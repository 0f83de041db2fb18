//! `aes-xts-plain64`: encrypting and decrypting whole sectors, as dm-crypt does.
//!
//! Owns: the one cipher, its key length and its IV: the number of the sector as 64-bit little endian, counted in
//! 512-byte units also where a sector has 4096 bytes (LUKS2 section 3.3, dm-crypt without `iv_large_sectors`).
//! One context serves all sectors of a worker: a new one per sector is three times slower.

use openssl::{cipher::Cipher, cipher_ctx::CipherCtx, error::ErrorStack};

/// The cipher's name in a header.
pub(crate) const CIPHER: &str = "aes-xts-plain64";
/// Its key: two of AES-256.
pub(crate) const KEY_LEN: usize = 64;
/// The unit of the IV, and the sector of a keyslot area.
pub(crate) const IV_UNIT: u64 = 512;

/// The size of a data sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectorSize {
    /// What old cryptsetup writes; read only.
    B512,
    /// What we write.
    B4096,
}

impl SectorSize {
    /// Bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// Bytes.
    pub(crate) const fn bytes_u64(self) -> u64 {
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

/// A keyed cipher of one direction, for one thread. OpenSSL wipes the key schedule when it is freed.
pub(crate) struct SectorCipher {
    ctx: CipherCtx,
    direction: Direction,
    sector: SectorSize,
}

impl SectorCipher {
    /// For encryption. OpenSSL refuses a key with equal halves.
    pub(crate) fn encryptor(key: &[u8; KEY_LEN], sector: SectorSize) -> Result<Self, ErrorStack> {
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(Cipher::aes_256_xts()), Some(key), None)?;
        Ok(Self {
            ctx,
            direction: Direction::Encrypt,
            sector,
        })
    }

    /// For decryption.
    pub(crate) fn decryptor(key: &[u8; KEY_LEN], sector: SectorSize) -> Result<Self, ErrorStack> {
        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(Cipher::aes_256_xts()), Some(key), None)?;
        Ok(Self {
            ctx,
            direction: Direction::Decrypt,
            sector,
        })
    }

    /// Works on `data` in place: whole sectors, the first of which begins `offset` bytes into the segment.
    pub(crate) fn apply(&mut self, data: &mut [u8], offset: u64) -> Result<(), ErrorStack> {
        let step = self.sector.bytes_u64() / IV_UNIT;
        let mut number = offset / IV_UNIT;
        // Not `chunks_exact_mut`: a short rest must never be left in clear.
        for sector in data.chunks_mut(self.sector.bytes()) {
            let mut iv = [0; 16];
            for (to, from) in iv.iter_mut().zip(number.to_le_bytes()) {
                *to = from;
            }
            match self.direction {
                Direction::Encrypt => self.ctx.encrypt_init(None, None, Some(&iv))?,
                Direction::Decrypt => self.ctx.decrypt_init(None, None, Some(&iv))?,
            }
            let len = sector.len();
            self.ctx.cipher_update_inplace(sector, len)?;
            number = number.wrapping_add(step);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> [u8; KEY_LEN] {
        std::array::from_fn(|i| u8::try_from(i).unwrap())
    }

    #[test]
    fn sectors_round_trip_and_differ_by_place() {
        for size in [SectorSize::B512, SectorSize::B4096] {
            let plain = vec![0x5a; size.bytes() * 3];
            let mut data = plain.clone();
            SectorCipher::encryptor(&key(), size)
                .unwrap()
                .apply(&mut data, 8192)
                .unwrap();
            assert_ne!(data[..size.bytes()], data[size.bytes()..2 * size.bytes()]);
            SectorCipher::decryptor(&key(), size)
                .unwrap()
                .apply(&mut data, 8192)
                .unwrap();
            assert_eq!(data, plain);
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
        SectorCipher::encryptor(&key, SectorSize::B512)
            .unwrap()
            .apply(&mut data, 0xff * 512)
            .unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&data[..32]),
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
        );
    }

    #[test]
    fn equal_key_halves_are_refused() {
        assert!(SectorCipher::encryptor(&[1; KEY_LEN], SectorSize::B4096).is_err());
    }
}
