//! Endorsement keys: the two pinned templates, and the check that a public area is one of them with a key in it.
//!
//! Owns: the templates L-1 (RSA-2048) and L-2 (P-256) of the TCG EK Credential Profile for TPM Family 2.0, 2.3 rev 2,
//! appendix B.3, byte for byte, and the identity of an EK: the SHA-256 of its SubjectPublicKeyInfo. One flipped attribute
//! bit gives another Name for the same key and still activates a credential, so nothing but the key is taken from what
//! was sent; the area is rebuilt from the template.
//! An attacker controls the area at enrolment. Whether the EK is a genuine TPM's is for its certificate or an
//! allow-list to say. Limits today: the low-range templates without a nonce only; no RSA-3072, no P-384.

use std::fmt;

use domain::{EkDigest, HashAlg, TpmName, TpmPublic};
use p256::{EncodedPoint, PublicKey, elliptic_curve::sec1::FromEncodedPoint as _};

use crate::{
    names::name_of,
    rsa::Modulus2048,
    wire::{Attributes, Curve, Parameters, ParseError, Public, Symmetric},
};

/// `PolicyA`: PolicySecret(TPM_RH_ENDORSEMENT), SHA-256.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const ATTRIBUTES: Attributes = Attributes(
    Attributes::FIXED_TPM.0
        | Attributes::FIXED_PARENT.0
        | Attributes::SENSITIVE_DATA_ORIGIN.0
        | Attributes::ADMIN_WITH_POLICY.0
        | Attributes::RESTRICTED.0
        | Attributes::DECRYPT.0,
);
const NAME_ALG: HashAlg = HashAlg::Sha256;
const SYMMETRIC: Symmetric = Symmetric::AesCfb { key_bits: 128 };
/// Bytes of an RSA-2048 modulus.
pub(crate) const MODULUS_LEN: usize = 256;
/// Bytes of a P-256 coordinate.
pub(crate) const COORDINATE_LEN: usize = 32;

/// SubjectPublicKeyInfo of an RSA-2048 key with a set top bit and exponent 65537 (RFC 8017, A.1), up to the modulus.
const RSA_SPKI_HEAD: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
];
const RSA_SPKI_TAIL: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
/// SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480), up to x.
const P256_SPKI_HEAD: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Which template an EK is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EkAlg {
    /// L-1.
    Rsa2048,
    /// L-2.
    EccP256,
}

/// `RSA-2048` or `ECC P-256`.
impl fmt::Display for EkAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rsa2048 => "RSA-2048",
            Self::EccP256 => "ECC P-256",
        })
    }
}

/// Why a public area is not an endorsement key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EkError {
    /// Not a public area at all.
    #[error("the endorsement key's public area cannot be read")]
    Malformed(#[from] ParseError),
    /// Anything but the key differs from the template.
    #[error("the endorsement key is not of the TCG's {0} template")]
    NotTheTemplate(EkAlg),
    /// A curve that no template here has.
    #[error("the endorsement key's curve is not supported, P-256 is")]
    Curve,
    /// The modulus is not one of 2048 bits, the coordinates not those of a point on the curve.
    #[error("the endorsement key is not a valid {0} key")]
    Key(EkAlg),
}

/// The key of an EK, in the lengths that its template has.
#[derive(Clone)]
pub(crate) enum EkKey {
    Rsa(Modulus2048),
    P256(PublicKey),
}

/// An endorsement key whose public area is the template with this key in it.
#[derive(Clone)]
pub struct EndorsementKey {
    public: TpmPublic,
    name: TpmName,
    spki_der: Vec<u8>,
    key: EkKey,
}

impl EndorsementKey {
    /// Takes the public area that a device sent.
    ///
    /// # Errors
    /// Anything but the key differs from the template, byte for byte; or the key is not valid.
    pub fn new(public: &TpmPublic) -> Result<Self, EkError> {
        let area = Public::parse(public.as_bytes())?;
        let (alg, rebuilt, spki_der, key) = match area.parameters {
            Parameters::Rsa { modulus, .. } => {
                let alg = EkAlg::Rsa2048;
                let key = Modulus2048::new(modulus).ok_or(EkError::Key(alg))?;
                let spki = [&RSA_SPKI_HEAD[..], modulus, &RSA_SPKI_TAIL].concat();
                (alg, rsa_area(modulus), spki, EkKey::Rsa(key))
            }
            Parameters::Ecc {
                curve: Curve::P256,
                x,
                y,
                ..
            } => {
                let alg = EkAlg::EccP256;
                let invalid = EkError::Key(alg);
                let x: &[u8; COORDINATE_LEN] = x.try_into().map_err(|_| invalid)?;
                let y: &[u8; COORDINATE_LEN] = y.try_into().map_err(|_| invalid)?;
                let point = EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
                let key: Option<PublicKey> = PublicKey::from_encoded_point(&point).into();
                let spki = [&P256_SPKI_HEAD[..], x, y].concat();
                (alg, ecc_area(x, y), spki, EkKey::P256(key.ok_or(invalid)?))
            }
            Parameters::Ecc { .. } => return Err(EkError::Curve),
        };
        if rebuilt != public.as_bytes() {
            return Err(EkError::NotTheTemplate(alg));
        }
        Ok(Self {
            name: name_of(NAME_ALG, &rebuilt),
            public: area_of(rebuilt),
            spki_der,
            key,
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what the registry indexes.
    #[must_use]
    pub fn digest(&self) -> EkDigest {
        EkDigest::of(&self.spki_der)
    }

    /// The SubjectPublicKeyInfo, as the EK's certificate has it.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The Name.
    #[must_use]
    pub const fn name(&self) -> &TpmName {
        &self.name
    }

    /// The public area, rebuilt from the template.
    #[must_use]
    pub const fn public(&self) -> &TpmPublic {
        &self.public
    }

    /// Which template.
    #[must_use]
    pub const fn alg(&self) -> EkAlg {
        match self.key {
            EkKey::Rsa(_) => EkAlg::Rsa2048,
            EkKey::P256(_) => EkAlg::EccP256,
        }
    }

    pub(crate) const fn name_alg(&self) -> HashAlg {
        NAME_ALG
    }

    pub(crate) const fn key(&self) -> &EkKey {
        &self.key
    }
}

impl fmt::Debug for EndorsementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndorsementKey({}, {})", self.alg(), self.digest())
    }
}

/// The template as TPM2_CreatePrimary takes it: its key is zeros, as the profile wants it (they are part of what the
/// TPM derives the key from).
#[must_use]
pub fn template(alg: EkAlg) -> TpmPublic {
    area_of(match alg {
        EkAlg::Rsa2048 => rsa_area(&[0; MODULUS_LEN]),
        EkAlg::EccP256 => ecc_area(&[0; COORDINATE_LEN], &[0; COORDINATE_LEN]),
    })
}

fn rsa_area(modulus: &[u8]) -> Vec<u8> {
    area(Parameters::Rsa {
        symmetric: SYMMETRIC,
        scheme: None,
        key_bits: 2048,
        exponent: 0,
        modulus,
    })
}

fn ecc_area(x: &[u8], y: &[u8]) -> Vec<u8> {
    area(Parameters::Ecc {
        symmetric: SYMMETRIC,
        scheme: None,
        curve: Curve::P256,
        x,
        y,
    })
}

fn area(parameters: Parameters<'_>) -> Vec<u8> {
    Public {
        name_alg: NAME_ALG,
        attributes: ATTRIBUTES,
        auth_policy: &POLICY_A,
        parameters,
    }
    .encode()
}

#[expect(
    clippy::expect_used,
    reason = "a template is 122 or 314 bytes, which every TpmPublic can hold"
)]
fn area_of(bytes: Vec<u8>) -> TpmPublic {
    TpmPublic::try_from(bytes).expect("a template fits")
}
