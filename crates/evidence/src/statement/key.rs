//! The public half of an image key.
//!
//! Owns: which keys may sign statements: P-256 with an uncompressed point that is on the curve, in SubjectPublicKeyInfo as
//! `openssl pkey -pubout` writes it. An operator gives it, with the policy; the device's file only names it.

use std::fmt;

use data_encoding::BASE64;
use domain::Sha256Digest;
use p256::PublicKey;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

/// SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480), up to the point.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_LEN: usize = 65;

/// Why something is not an image key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one `PUBLIC KEY` block of PEM.
    #[error("the image key is not a PEM block `PUBLIC KEY`")]
    Pem,
    /// Not the SubjectPublicKeyInfo of a P-256 key.
    #[error("the image key is not a P-256 public key (SubjectPublicKeyInfo, uncompressed)")]
    NotP256,
    /// No point of the curve.
    #[error("the image key is not a point on P-256")]
    Point,
}

/// A key whose statements a policy believes.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageKey {
    digest: Sha256Digest,
    point: [u8; POINT_LEN],
}

impl ImageKey {
    /// Takes a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Another kind of key, or none.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let point = der.strip_prefix(&SPKI_HEAD).ok_or(KeyError::NotP256)?;
        let point: [u8; POINT_LEN] = point.try_into().map_err(|_| KeyError::NotP256)?;
        if point.first() != Some(&4) {
            return Err(KeyError::NotP256);
        }
        PublicKey::from_sec1_bytes(&point).map_err(|_| KeyError::Point)?;
        Ok(Self {
            digest: Sha256Digest::of(der),
            point,
        })
    }

    /// Takes PEM (RFC 7468) with one `PUBLIC KEY` in it and nothing else.
    ///
    /// # Errors
    /// Other PEM, or what [`ImageKey::from_spki_der`] refuses.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
        let body: String = body.ok_or(KeyError::Pem)?.split_ascii_whitespace().collect();
        let der = BASE64.decode(body.as_bytes()).map_err(|_| KeyError::Pem)?;
        Self::from_spki_der(&der)
    }

    /// SHA-256 of the SubjectPublicKeyInfo: the key's name in files and in policies.
    #[must_use]
    pub const fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.point].concat()
    }

    /// Whether `signature`, an ASN.1 DER `ECDSA-Sig-Value`, is this key's over `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point);
        key.verify(message, signature).is_ok()
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({})", self.digest)
    }
}
