//! The key that approves of PCR values: RSA, its public half.
//!
//! Owns: which keys are taken, the public area and Name under which a TPM knows it, and its fingerprint in the file of
//! signatures. Two areas are in use for one key, so two Names and two policies: [`KeyForm`].
//! Limits: RSA alone, as in systemd.

use std::fmt;

use domain::{Sha256Digest, TpmName};
use sha2::{Digest as _, Sha256};
use tss_esapi::{structures::Public, traits::UnMarshall as _};

use super::pem;
use crate::{TpmError, error::Doing as _};

/// `TPMA_OBJECT` sign, decrypt and userWithAuth: as systemd loads it.
const ATTRIBUTES: u32 = (1 << 18) | (1 << 17) | (1 << 6);
/// 2^16 + 1, the only exponent that every TPM takes.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// The longest PEM text of such a key, in bytes.
const MAX_PEM: usize = 2048;

/// The fingerprint by which the file of signatures names a key: SHA-256 of the PKCS#1 `RSAPublicKey`.
pub(super) type KeyFingerprint = Sha256Digest;

/// How a key's public area says that its exponent is 65537.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// The number itself: systemd 252 (Debian 12) and 253.
    Explicit,
    /// Zero, which stands for it (TPM 2.0 Library part 2, 12.2.3.5): later systemd.
    Default,
}

/// Why a text holds no key that can approve of PCR values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicyKey {
    /// Not the PEM of an RSA public key.
    #[error("this is not an RSA public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    Pem,
    /// Too short, too long for a TPM, or with another exponent than 65537.
    #[error("a policy key is RSA of 2048, 3072 or 4096 bits with the exponent 65537")]
    Kind,
}

/// The public half of the key that approves of PCR values: a token's `tpm2_pubkey`.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyKey {
    pem: Box<[u8]>,
    modulus: Box<[u8]>,
    fingerprint: KeyFingerprint,
}

impl PolicyKey {
    /// Reads the PEM, which is kept as it is.
    ///
    /// # Errors
    /// [`InvalidPolicyKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidPolicyKey> {
        if pem.len() > MAX_PEM {
            return Err(InvalidPolicyKey::Pem);
        }
        let rsa = pem::read(pem).ok_or(InvalidPolicyKey::Pem)?;
        let top = rsa.modulus.first().is_some_and(|first| first & 0x80 != 0);
        if !top || !matches!(rsa.modulus.len(), 256 | 384 | 512) || rsa.exponent != EXPONENT {
            return Err(InvalidPolicyKey::Kind);
        }
        Ok(Self {
            pem: pem.into(),
            modulus: rsa.modulus.into(),
            fingerprint: Sha256Digest::of(&rsa.pkcs1),
        })
    }

    /// The text that it was read from.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Its name in the file of signatures: `pkfp`.
    #[must_use]
    pub const fn fingerprint(&self) -> &Sha256Digest {
        &self.fingerprint
    }

    /// Its Name in a TPM.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a Name of SHA-256 has 34 bytes, which every TpmName can hold"
    )]
    pub fn name(&self, form: KeyForm) -> TpmName {
        let mut name = vec![0, 0x0b];
        name.extend_from_slice(&Sha256::digest(self.area(form)));
        TpmName::try_from(name).expect("a name fits")
    }

    pub(crate) fn public(&self, form: KeyForm) -> Result<Public, TpmError> {
        Public::unmarshall(&self.area(form)).doing("take the policy key")
    }

    /// The length of its signatures in bytes.
    pub(crate) fn signature_len(&self) -> usize {
        self.modulus.len()
    }

    /// `TPMT_PUBLIC`: RSA, SHA-256, no policy, no cipher, no scheme.
    fn area(&self, form: KeyForm) -> Vec<u8> {
        let bytes = u16::try_from(self.modulus.len()).unwrap_or(u16::MAX);
        let exponent: u32 = match form {
            KeyForm::Explicit => 65_537,
            KeyForm::Default => 0,
        };
        let mut area = vec![0, 0x01, 0, 0x0b];
        area.extend_from_slice(&ATTRIBUTES.to_be_bytes());
        area.extend_from_slice(&[0, 0, 0, 0x10, 0, 0x10]);
        area.extend_from_slice(&bytes.saturating_mul(8).to_be_bytes());
        area.extend_from_slice(&exponent.to_be_bytes());
        area.extend_from_slice(&bytes.to_be_bytes());
        area.extend_from_slice(&self.modulus);
        area
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyKey({})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use openssl::{bn::BigNum, pkey::PKey, rsa::Rsa};
    use tss_esapi::traits::Marshall as _;

    use super::*;

    fn pem(bits: u32, exponent: u32) -> Vec<u8> {
        let key = Rsa::generate_with_e(bits, &BigNum::from_u32(exponent).unwrap()).unwrap();
        PKey::from_rsa(key).unwrap().public_key_to_pem().unwrap()
    }

    #[test]
    fn rsa_keys_of_a_tpms_lengths_are_taken_and_others_are_not() {
        let key = PolicyKey::from_pem(&pem(2048, 65_537)).unwrap();
        for form in [KeyForm::Explicit, KeyForm::Default] {
            assert_eq!(key.public(form).unwrap().marshall().unwrap(), key.area(form));
        }
        assert_ne!(key.name(KeyForm::Explicit), key.name(KeyForm::Default));
        assert_eq!(
            PolicyKey::from_pem(&pem(1024, 65_537)),
            Err(InvalidPolicyKey::Kind)
        );
        assert_eq!(PolicyKey::from_pem(&pem(2048, 3)), Err(InvalidPolicyKey::Kind));
        assert_eq!(PolicyKey::from_pem(b"key"), Err(InvalidPolicyKey::Pem));
        assert_eq!(PolicyKey::from_pem(&[b'-'; 4096]), Err(InvalidPolicyKey::Pem));
    }
}
