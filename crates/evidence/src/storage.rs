//! Storage root keys seen from outside their TPM, and objects wrapped for one: TPM2_Duplicate in software.
//!
//! Owns: the check that a public area is one of the three templates under which volumes are sealed, with a key in it; its
//! Name; and the outer wrapper of a duplicate (TPM 2.0 Library part 1, 23.3.2.3), the same construction as a credential's.
//! Refuses: any other area. An attribute more or less is another key to its TPM, and a key that may leave its TPM keeps
//! no secret. Entropy is an argument and must be fresh for each object.
//! An attacker may have collected the area in the device's place: whoever holds the private half reads what is sealed to
//! it. That it is in the TPM that the EK certificate names is for activation to prove.

use std::fmt;

use domain::{HashAlg, TpmName, TpmPublic};
use p256::elliptic_curve::sec1::FromEncodedPoint as _;
use zeroize::Zeroizing;

use crate::{
    credential::{CredentialError, seed_for, wrapped},
    ek::EkKey,
    names::name_of,
    rsa::Modulus2048,
    wire::{Attributes, Curve, Parameters, ParseError, Public, Symmetric},
};

/// The label of the seed's protection, with its terminating zero (part 1, 23.3.2.3).
const DUPLICATE: &[u8] = b"DUPLICATE\0";
/// What all three templates have.
const STORAGE: Attributes = Attributes(
    Attributes::FIXED_TPM.0
        | Attributes::FIXED_PARENT.0
        | Attributes::SENSITIVE_DATA_ORIGIN.0
        | Attributes::USER_WITH_AUTH.0
        | Attributes::RESTRICTED.0
        | Attributes::DECRYPT.0,
);
const TCG: Attributes = Attributes(STORAGE.0 | Attributes::NO_DA.0);
const AES_128: Symmetric = Symmetric::AesCfb { key_bits: 128 };
/// `nameAlg` of all three.
const HASH: HashAlg = HashAlg::Sha256;

/// Which template a storage key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageTemplate {
    /// systemd 252's own on P-256: without noDA.
    SystemdEcc,
    /// systemd 252's own with RSA-2048.
    SystemdRsa,
    /// The TCG's storage root key on P-256 (TCG TPM v2.0 Provisioning Guidance 7.5.1), with noDA.
    TcgEcc,
}

/// `systemd-ecc`, `systemd-rsa` or `tcg-ecc`.
impl fmt::Display for StorageTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SystemdEcc => "systemd-ecc",
            Self::SystemdRsa => "systemd-rsa",
            Self::TcgEcc => "tcg-ecc",
        })
    }
}

/// Why a public area is not a storage root key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageKeyError {
    /// Not a public area at all.
    #[error("the storage key's public area cannot be read")]
    Malformed(#[from] ParseError),
    /// Attributes, algorithms or policy are those of no template.
    #[error("the storage key is of none of the templates systemd-ecc, systemd-rsa and tcg-ecc")]
    NotATemplate,
    /// The modulus is not one of 2048 bits, the coordinates not those of a point on the curve.
    #[error("the storage key is not a valid key")]
    Key,
}

/// A storage root key whose public area is one of the templates with this key in it.
#[derive(Clone)]
pub struct StorageKey {
    public: TpmPublic,
    name: TpmName,
    template: StorageTemplate,
    key: EkKey,
}

/// What TPM2_Import takes beside the public area, marshalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// `TPM2B_PRIVATE`: the HMAC and the encrypted sensitive area.
    pub private: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`: the seed, for the storage key alone.
    pub encrypted_seed: Vec<u8>,
}

impl StorageKey {
    /// Takes a marshalled `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// [`StorageKeyError`].
    pub fn new(public: &TpmPublic) -> Result<Self, StorageKeyError> {
        let area = Public::parse(public.as_bytes())?;
        let plain = area.name_alg == HASH && area.auth_policy.is_empty();
        let (template, key) = match area.parameters {
            Parameters::Rsa {
                symmetric: AES_128,
                scheme: None,
                key_bits: 2048,
                exponent: 0,
                modulus,
            } if plain && area.attributes == STORAGE => {
                let key = Modulus2048::new(modulus).ok_or(StorageKeyError::Key)?;
                (StorageTemplate::SystemdRsa, EkKey::Rsa(key))
            }
            Parameters::Ecc {
                symmetric: AES_128,
                scheme: None,
                curve: Curve::P256,
                x,
                y,
            } if plain && (area.attributes == STORAGE || area.attributes == TCG) => {
                let template = if area.attributes == TCG {
                    StorageTemplate::TcgEcc
                } else {
                    StorageTemplate::SystemdEcc
                };
                (template, EkKey::P256(point(x, y).ok_or(StorageKeyError::Key)?))
            }
            _ => return Err(StorageKeyError::NotATemplate),
        };
        Ok(Self {
            name: name_of(HASH, public.as_bytes()),
            public: public.clone(),
            template,
            key,
        })
    }

    /// The Name, computed here.
    #[must_use]
    pub const fn name(&self) -> &TpmName {
        &self.name
    }

    /// The public area.
    #[must_use]
    pub const fn public(&self) -> &TpmPublic {
        &self.public
    }

    /// Which template.
    #[must_use]
    pub const fn template(&self) -> StorageTemplate {
        self.template
    }

    /// Wraps an object for this key: `public` is its marshalled `TPMT_PUBLIC`, `sensitive` its marshalled
    /// `TPM2B_SENSITIVE`. `entropy` is as [`crate::make_credential`] takes it. Without an inner wrapper.
    ///
    /// # Errors
    /// [`CredentialError::Entropy`].
    pub fn duplicate(
        &self,
        public: &[u8],
        sensitive: Zeroizing<Vec<u8>>,
        entropy: &[u8; 64],
    ) -> Result<Duplicate, CredentialError> {
        let mut plain = sensitive;
        let (seed, encrypted_seed) = seed_for(&self.key, DUPLICATE, entropy)?;
        let private = wrapped(HASH, &seed, &name_of(HASH, public), &mut plain);
        Ok(Duplicate {
            private,
            encrypted_seed,
        })
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({}, {:?})", self.template, self.name)
    }
}

fn point(x: &[u8], y: &[u8]) -> Option<p256::PublicKey> {
    let (at, up): (&[u8; 32], &[u8; 32]) = (x.try_into().ok()?, y.try_into().ok()?);
    let point = p256::EncodedPoint::from_affine_coordinates(at.into(), up.into(), false);
    p256::PublicKey::from_encoded_point(&point).into()
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;

    use super::*;

    fn area(attributes: Attributes, parameters: Parameters<'_>) -> TpmPublic {
        let public = Public {
            name_alg: HASH,
            attributes,
            auth_policy: &[],
            parameters,
        };
        TpmPublic::try_from(public.encode()).unwrap()
    }

    fn ecc<'a>(x: &'a [u8], y: &'a [u8], symmetric: Symmetric) -> Parameters<'a> {
        Parameters::Ecc {
            symmetric,
            scheme: None,
            curve: Curve::P256,
            x,
            y,
        }
    }

    #[test]
    fn the_three_templates_are_known_and_nothing_else() {
        let point = p256::SecretKey::from_slice(&[7; 32])
            .unwrap()
            .public_key()
            .to_encoded_point(false);
        let (x, y) = (point.x().unwrap(), point.y().unwrap());
        let of =
            |attributes, parameters| StorageKey::new(&area(attributes, parameters)).map(|key| key.template());
        assert_eq!(of(STORAGE, ecc(x, y, AES_128)), Ok(StorageTemplate::SystemdEcc));
        assert_eq!(of(TCG, ecc(x, y, AES_128)), Ok(StorageTemplate::TcgEcc));
        let modulus = [0x91; 256];
        let rsa = Parameters::Rsa {
            symmetric: AES_128,
            scheme: None,
            key_bits: 2048,
            exponent: 0,
            modulus: &modulus,
        };
        assert_eq!(of(STORAGE, rsa), Ok(StorageTemplate::SystemdRsa));
        assert_eq!(StorageTemplate::SystemdEcc.to_string(), "systemd-ecc");
        assert_eq!(StorageTemplate::SystemdRsa.to_string(), "systemd-rsa");
        assert_eq!(StorageTemplate::TcgEcc.to_string(), "tcg-ecc");
        for bit in 0..32 {
            let flipped = Attributes(STORAGE.0 ^ (1 << bit));
            if flipped != TCG {
                assert_eq!(
                    of(flipped, ecc(x, y, AES_128)),
                    Err(StorageKeyError::NotATemplate),
                    "{bit}"
                );
            }
        }
        let weak = Symmetric::Null;
        assert_eq!(of(STORAGE, ecc(x, y, weak)), Err(StorageKeyError::NotATemplate));
        assert_eq!(of(STORAGE, ecc(x, x, AES_128)), Err(StorageKeyError::Key));
        assert_eq!(of(STORAGE, ecc(&[], &[], AES_128)), Err(StorageKeyError::Key));
        let short = TpmPublic::try_from(vec![0, 0x23]).unwrap();
        assert!(matches!(
            StorageKey::new(&short),
            Err(StorageKeyError::Malformed(_))
        ));
    }

    #[test]
    fn entropy_that_is_no_key_is_refused() {
        let point = p256::SecretKey::from_slice(&[7; 32])
            .unwrap()
            .public_key()
            .to_encoded_point(false);
        let key = StorageKey::new(&area(TCG, ecc(point.x().unwrap(), point.y().unwrap(), AES_128))).unwrap();
        let refused = key.duplicate(&[1], Zeroizing::new(vec![1; 40]), &[0; 64]);
        assert_eq!(refused, Err(CredentialError::Entropy));
    }
}
