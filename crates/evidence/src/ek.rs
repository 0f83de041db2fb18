//! Endorsement keys: the pinned templates, and the check that a public area is one of them with a key in it.
//!
//! Owns: the templates L-1 (RSA-2048), L-2 (P-256) and H-3 (P-384) of the TCG EK Credential Profile for TPM Family 2.0,
//! 2.3 rev 2, appendices B.3 and B.4, byte for byte, and the identity of an EK: the SHA-256 of its SubjectPublicKeyInfo. One flipped attribute
//! bit gives another Name for the same key and still activates a credential, so nothing but the key is taken from what
//! was sent; the area is rebuilt from the template.
//! An attacker controls the area at enrolment. Whether the EK is a genuine TPM's is for its certificate or an
//! allow-list to say. Limits today: no other high-range template, no RSA-3072; no template with a nonce.

use std::fmt;

use domain::{EkDigest, HashAlg, TpmName, TpmPublic};
use p256::elliptic_curve::sec1::FromEncodedPoint as _;

use crate::{
    names::name_of,
    rsa::Modulus2048,
    wire::{Attributes, Curve, Parameters, ParseError, Public, Symmetric},
};

/// `PolicyA` (SHA-256): PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// `PolicyB` (SHA-384): PolicyA, or what the NV index of the profile authorises.
const POLICY_B: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07,
    0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47,
    0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];
const LOW_RANGE: Attributes = Attributes(
    Attributes::FIXED_TPM.0
        | Attributes::FIXED_PARENT.0
        | Attributes::SENSITIVE_DATA_ORIGIN.0
        | Attributes::ADMIN_WITH_POLICY.0
        | Attributes::RESTRICTED.0
        | Attributes::DECRYPT.0,
);
const HIGH_RANGE: Attributes = Attributes(LOW_RANGE.0 | Attributes::USER_WITH_AUTH.0);
/// Bytes of an RSA-2048 modulus.
pub(crate) const MODULUS_LEN: usize = 256;
/// Bytes of a P-256 coordinate.
const P256_LEN: usize = 32;
/// Bytes of a P-384 coordinate.
const P384_LEN: usize = 48;

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
/// The same of a P-384 point.
const P384_SPKI_HEAD: [u8; 24] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];

/// Which template an EK is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EkAlg {
    /// L-1.
    Rsa2048,
    /// L-2.
    EccP256,
    /// H-3.
    EccP384,
}

impl EkAlg {
    /// The hash of the Name and of what the key protects.
    pub(crate) const fn name_alg(self) -> HashAlg {
        match self {
            Self::Rsa2048 | Self::EccP256 => HashAlg::Sha256,
            Self::EccP384 => HashAlg::Sha384,
        }
    }

    /// The cipher for what the key protects.
    const fn symmetric(self) -> Symmetric {
        match self {
            Self::Rsa2048 | Self::EccP256 => Symmetric::AesCfb { key_bits: 128 },
            Self::EccP384 => Symmetric::AesCfb { key_bits: 256 },
        }
    }
}

/// `RSA-2048`, `ECC P-256` or `ECC P-384`.
impl fmt::Display for EkAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rsa2048 => "RSA-2048",
            Self::EccP256 => "ECC P-256",
            Self::EccP384 => "ECC P-384",
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
    /// The modulus is not one of 2048 bits, the coordinates not those of a point on the curve.
    #[error("the endorsement key is not a valid {0} key")]
    Key(EkAlg),
}

/// The key of an EK, in the lengths that its template has.
#[derive(Clone)]
pub(crate) enum EkKey {
    Rsa(Modulus2048),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
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
                let at: &[u8; P256_LEN] = x.try_into().map_err(|_| invalid)?;
                let up: &[u8; P256_LEN] = y.try_into().map_err(|_| invalid)?;
                let point = p256::EncodedPoint::from_affine_coordinates(at.into(), up.into(), false);
                let key: Option<_> = p256::PublicKey::from_encoded_point(&point).into();
                let spki = [&P256_SPKI_HEAD[..], x, y].concat();
                (alg, ecc_area(alg, x, y), spki, EkKey::P256(key.ok_or(invalid)?))
            }
            Parameters::Ecc {
                curve: Curve::P384,
                x,
                y,
                ..
            } => {
                let alg = EkAlg::EccP384;
                let invalid = EkError::Key(alg);
                let at: &[u8; P384_LEN] = x.try_into().map_err(|_| invalid)?;
                let up: &[u8; P384_LEN] = y.try_into().map_err(|_| invalid)?;
                let point = p384::EncodedPoint::from_affine_coordinates(at.into(), up.into(), false);
                let key: Option<_> = p384::PublicKey::from_encoded_point(&point).into();
                let spki = [&P384_SPKI_HEAD[..], x, y].concat();
                (alg, ecc_area(alg, x, y), spki, EkKey::P384(key.ok_or(invalid)?))
            }
        };
        if rebuilt != public.as_bytes() {
            return Err(EkError::NotTheTemplate(alg));
        }
        Ok(Self {
            name: name_of(alg.name_alg(), &rebuilt),
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
            EkKey::P384(_) => EkAlg::EccP384,
        }
    }

    pub(crate) const fn name_alg(&self) -> HashAlg {
        self.alg().name_alg()
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

/// The template as TPM2_CreatePrimary takes it: its key is zeros in the low range and empty in the high range, as the
/// profile wants it (it is part of what the TPM derives the key from).
#[must_use]
pub fn template(alg: EkAlg) -> TpmPublic {
    area_of(match alg {
        EkAlg::Rsa2048 => rsa_area(&[0; MODULUS_LEN]),
        EkAlg::EccP256 => ecc_area(alg, &[0; P256_LEN], &[0; P256_LEN]),
        EkAlg::EccP384 => ecc_area(alg, &[], &[]),
    })
}

fn rsa_area(modulus: &[u8]) -> Vec<u8> {
    let alg = EkAlg::Rsa2048;
    let parameters = Parameters::Rsa {
        symmetric: alg.symmetric(),
        scheme: None,
        key_bits: 2048,
        exponent: 0,
        modulus,
    };
    area(alg, LOW_RANGE, &POLICY_A, parameters)
}

fn ecc_area(alg: EkAlg, x: &[u8], y: &[u8]) -> Vec<u8> {
    let (curve, attributes, policy): (_, _, &[u8]) = match alg {
        EkAlg::EccP384 => (Curve::P384, HIGH_RANGE, &POLICY_B),
        _ => (Curve::P256, LOW_RANGE, &POLICY_A),
    };
    let parameters = Parameters::Ecc {
        symmetric: alg.symmetric(),
        scheme: None,
        curve,
        x,
        y,
    };
    area(alg, attributes, policy, parameters)
}

fn area(alg: EkAlg, attributes: Attributes, auth_policy: &[u8], parameters: Parameters<'_>) -> Vec<u8> {
    Public {
        name_alg: alg.name_alg(),
        attributes,
        auth_policy,
        parameters,
    }
    .encode()
}

#[expect(
    clippy::expect_used,
    reason = "a template is 76 to 314 bytes, which every TpmPublic can hold"
)]
fn area_of(bytes: Vec<u8>) -> TpmPublic {
    TpmPublic::try_from(bytes).expect("a template fits")
}
