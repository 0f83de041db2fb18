//! Keyslots and the digest: from a passphrase to the volume key, and back into a keyslot's area.
//!
//! Owns: the only places where the volume key is in clear besides its own type. An area is the key, split by the
//! anti-forensic splitter, encrypted with `aes-xts-plain64` in 512-byte sectors under a key made from the passphrase.
//! A key that was merged is nothing until the digest agrees: [`unlock`] returns no other.

use data_encoding::BASE64;
use domain::{SealedSecret, VolumeKey};
use openssl::{error::ErrorStack, memcmp};
use zeroize::Zeroizing;

use crate::{
    Source,
    antiforensic::{self, STRIPES},
    kdf::{Hash, Kdf, KdfError, Pbkdf2},
    sectors::{CipherError, DataCipher, KEY_LEN, SectorCipher, SectorSize},
    validate::{KeyDigest, Slot},
};

/// Bytes of the split key of a cipher; an area is this long, rounded up.
pub(crate) const fn material_len(cipher: DataCipher) -> usize {
    cipher.key_len().saturating_mul(STRIPES)
}

/// Why a keyslot could not be opened, beside a wrong passphrase.
#[derive(Debug, thiserror::Error)]
pub enum KeyslotError {
    /// The area cannot be read.
    #[error("the keyslot cannot be read")]
    Io(#[from] std::io::Error),
    /// OpenSSL failed.
    #[error("the keyslot cannot be encrypted or decrypted")]
    Crypto(#[from] CipherError),
    /// The key cannot be derived from the passphrase.
    #[error("the keyslot's key cannot be derived")]
    Kdf(#[from] KdfError),
}

impl From<ErrorStack> for KeyslotError {
    fn from(error: ErrorStack) -> Self {
        Self::Crypto(error.into())
    }
}

/// The encrypted area that gives `volume_key` to whoever knows `passphrase`.
pub(crate) fn lock(
    cipher: DataCipher,
    volume_key: &VolumeKey,
    passphrase: &[u8],
    kdf: &Kdf,
    af_hash: Hash,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Zeroizing<Vec<u8>>, KeyslotError> {
    let mut area = cipher.expose(volume_key, |key| antiforensic::split(key, af_hash, entropy))?;
    let area_key = area_key(passphrase, kdf)?;
    SectorCipher::encryptor(DataCipher::AesXts, &area_key, SectorSize::B512)?.apply(&mut area, 0)?;
    Ok(area)
}

/// The volume key, if `passphrase` is that of the slot; `None` if it is not.
pub(crate) fn unlock(
    source: &impl Source,
    cipher: DataCipher,
    slot: &Slot,
    digest: &KeyDigest,
    passphrase: &[u8],
) -> Result<Option<VolumeKey>, KeyslotError> {
    let mut material = Zeroizing::new(vec![0; material_len(cipher)]);
    source.read_at(&mut material, slot.area.offset)?;
    let area_key = area_key(passphrase, &slot.kdf)?;
    SectorCipher::decryptor(DataCipher::AesXts, &area_key, SectorSize::B512)?.apply(&mut material, 0)?;
    let candidate = VolumeKey::try_fill(|key| {
        let (used, _) = key.split_at_mut_checked(cipher.key_len()).unwrap_or_default();
        antiforensic::merge(&material, slot.af_hash, used)
    })?;
    let value = derive_digest(cipher, &candidate, &digest.kdf, digest.value.len())?;
    let same = value.len() == digest.value.len() && memcmp::eq(&value, &digest.value);
    Ok(same.then_some(candidate))
}

/// What a header keeps to know the volume key again.
pub(crate) fn derive_digest(
    cipher: DataCipher,
    key: &VolumeKey,
    kdf: &Pbkdf2,
    len: usize,
) -> Result<Vec<u8>, ErrorStack> {
    let mut value = vec![0; len];
    cipher.expose(key, |key| kdf.derive(key, &mut value))?;
    Ok(value)
}

fn area_key(passphrase: &[u8], kdf: &Kdf) -> Result<Zeroizing<[u8; KEY_LEN]>, KdfError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    kdf.derive(passphrase, key.as_mut_slice())?;
    Ok(key)
}

/// What a sealed secret is as a passphrase: its padded base64 text, as systemd has it. For a pipe to cryptsetup, which opens
/// the volume for the kernel.
#[must_use]
pub fn passphrase_of(secret: &SealedSecret) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; BASE64.encode_len(SealedSecret::LEN)]);
    secret.expose(|bytes| BASE64.encode_mut(bytes, &mut text));
    text
}
