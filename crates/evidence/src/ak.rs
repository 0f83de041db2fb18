//! Attestation keys: which keys may attest, and the check of their signatures.
//!
//! Owns: the demands on an AK. Restricted, so that it signs only what the TPM formed; sign and never decrypt; fixedTPM
//! and fixedParent, so that it never leaves; sensitiveDataOrigin, so that it was never anywhere else. RSASSA or RSAPSS
//! with 2048 or 3072 bits and SHA-256 or SHA-384, ECDSA on P-256 with SHA-256 or on P-384 with SHA-384.
//! Refuses: a key without a fixed scheme, and attribute bits that it does not know.
//! The registry is the only source of an AK; an attacker controls the area at enrolment, where [`AttestationKey::new`]
//! runs too, before credential activation ties it to an EK.

use std::{fmt, sync::Arc};

use domain::{HashAlg, TpmName, TpmPublic};
use ring::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::{
    names::name_of,
    pss::PssModulus,
    rsa::EXPONENT,
    wire::{Attributes, Curve, Parameters, ParseError, Public, Scheme, Signature, SignatureAlg, Symmetric},
};

/// Attributes without which no key attests.
const REQUIRED: Attributes = Attributes(
    Attributes::FIXED_TPM.0
        | Attributes::FIXED_PARENT.0
        | Attributes::SENSITIVE_DATA_ORIGIN.0
        | Attributes::RESTRICTED.0
        | Attributes::SIGN.0,
);

/// Why a public area is not that of an attestation key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AkError {
    /// Not a public area at all.
    #[error("the attestation key's public area cannot be read")]
    Malformed(#[from] ParseError),
    /// Attributes are missing.
    #[error("the key is not a safe attestation key: it lacks {0}")]
    Lacks(Attributes),
    /// The key may decrypt.
    #[error("the key may decrypt, an attestation key must only sign")]
    Decrypts,
    /// Attribute bits that have no meaning here.
    #[error("the key has unknown attribute bits {0:#x}")]
    UnknownAttributes(u32),
    /// The key names no signature scheme.
    #[error("the key has no signature scheme of its own")]
    NoScheme,
    /// The key type, size, curve or hash do not go together, or are too weak.
    #[error("{0} is not accepted for an attestation key")]
    Algorithm(String),
    /// The key material contradicts the rest of the area.
    #[error("the key itself is malformed: {0}")]
    Key(&'static str),
    /// The qualified name is not one that this key could have.
    #[error("the qualified name is not one of a {0} key")]
    QualifiedName(HashAlg),
}

/// An AK that passed every demand, with the key ready for use.
pub struct AttestationKey {
    name: Arc<TpmName>,
    qualified_name: TpmName,
    scheme: Scheme,
    key: Key,
}

enum Key {
    Rsa {
        parameters: &'static RsaParameters,
        key: RsaPublicKeyComponents<Box<[u8]>>,
        /// For RSAPSS alone: older TPMs fill the block with salt.
        long_salt: Option<PssModulus>,
    },
    Ecdsa {
        coordinate_len: usize,
        key: UnparsedPublicKey<Box<[u8]>>,
    },
}

impl AttestationKey {
    /// Takes the public area and the qualified name that enrolment computed and the registry kept.
    ///
    /// # Errors
    /// The area is not that of an attestation key, or the qualified name has not the length and hash of `nameAlg`.
    pub fn new(public: &TpmPublic, qualified_name: &TpmName) -> Result<Self, AkError> {
        let area = Public::parse(public.as_bytes())?;
        check_attributes(area.attributes)?;
        let (scheme, key) = key_of(&area.parameters)?;
        // A SHA-1 Name would let two keys share it.
        if area.name_alg == HashAlg::Sha1 {
            return Err(AkError::Algorithm("a sha1 name".to_owned()));
        }
        let name = name_of(area.name_alg, public.as_bytes());
        let alike = |a: &TpmName| (a.as_bytes().len(), a.as_bytes().first_chunk::<2>().copied());
        if alike(&name) != alike(qualified_name) {
            return Err(AkError::QualifiedName(area.name_alg));
        }
        Ok(Self {
            name: Arc::new(name),
            qualified_name: qualified_name.clone(),
            scheme,
            key,
        })
    }

    /// The Name, computed from the public area.
    #[must_use]
    pub fn name(&self) -> &TpmName {
        &self.name
    }

    /// The qualified name: what `qualifiedSigner` of this key's quotes must be.
    #[must_use]
    pub const fn qualified_name(&self) -> &TpmName {
        &self.qualified_name
    }

    /// The scheme that the key signs with, and no other.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(crate) fn shared_name(&self) -> Arc<TpmName> {
        Arc::clone(&self.name)
    }

    /// Whether `signature`, whose scheme the caller compared, is this key's over `message`.
    pub(crate) fn made(&self, signature: &Signature<'_>, message: &[u8]) -> bool {
        match (&self.key, signature) {
            (
                Key::Rsa {
                    parameters,
                    key,
                    long_salt,
                },
                Signature::Rsa { bytes, .. },
            ) => {
                key.verify(parameters, message, bytes).is_ok()
                    || long_salt
                        .as_ref()
                        .is_some_and(|modulus| modulus.verifies(self.scheme.hash, message, bytes))
            }
            (Key::Ecdsa { coordinate_len, key }, Signature::Ecdsa { r, s, .. }) => {
                let mut fixed = [0; 2 * 48];
                fixed
                    .get_mut(..coordinate_len.saturating_mul(2))
                    .and_then(|room| {
                        let (first, second) = room.split_at_mut_checked(*coordinate_len)?;
                        put_number(first, r)?;
                        put_number(second, s)?;
                        key.verify(message, room).ok()
                    })
                    .is_some()
            }
            _ => false,
        }
    }
}

impl fmt::Debug for AttestationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttestationKey({}, {:?})", self.scheme, self.name)
    }
}

fn check_attributes(attributes: Attributes) -> Result<(), AkError> {
    if !attributes.has(REQUIRED) {
        return Err(AkError::Lacks(Attributes(REQUIRED.0 & !attributes.0)));
    }
    if attributes.has(Attributes::DECRYPT) {
        return Err(AkError::Decrypts);
    }
    match attributes.unnamed() {
        0 => Ok(()),
        bits => Err(AkError::UnknownAttributes(bits)),
    }
}

fn key_of(parameters: &Parameters<'_>) -> Result<(Scheme, Key), AkError> {
    match *parameters {
        Parameters::Rsa {
            symmetric,
            scheme,
            key_bits,
            exponent,
            modulus,
        } => {
            let scheme = signing_scheme(symmetric, scheme)?;
            let parameters = rsa_parameters(scheme)
                .filter(|_| matches!(key_bits, 2048 | 3072))
                .ok_or_else(|| AkError::Algorithm(format!("RSA-{key_bits} {scheme}")))?;
            if !matches!(exponent, 0 | EXPONENT) {
                return Err(AkError::Algorithm(format!("RSA exponent {exponent}")));
            }
            let bits = modulus.len().saturating_mul(8);
            let public = PssModulus::new(modulus).filter(|_| bits == usize::from(key_bits));
            let public = public.ok_or(AkError::Key(
                "the modulus is even, or not as long as keyBits says",
            ))?;
            let [_, e @ ..] = EXPONENT.to_be_bytes();
            let key = RsaPublicKeyComponents {
                n: modulus.into(),
                e: e.into(),
            };
            let long_salt = (scheme.alg == SignatureAlg::Rsapss).then_some(public);
            let key = Key::Rsa {
                parameters,
                key,
                long_salt,
            };
            Ok((scheme, key))
        }
        Parameters::Ecc {
            symmetric,
            scheme,
            curve,
            x,
            y,
        } => {
            let scheme = signing_scheme(symmetric, scheme)?;
            let alg = ecdsa_algorithm(curve, scheme)
                .ok_or_else(|| AkError::Algorithm(format!("{scheme} on {curve:?}")))?;
            let coordinate_len = curve.coordinate_len();
            let mut point = vec![0; coordinate_len.saturating_mul(2)];
            point
                .split_at_mut_checked(coordinate_len)
                .and_then(|(first, second)| {
                    put_number(first, x)?;
                    put_number(second, y)
                })
                .ok_or(AkError::Key("a coordinate is longer than the curve's"))?;
            // SEC 1, 2.3.3: an uncompressed point.
            point.insert(0, 0x04);
            let key = UnparsedPublicKey::new(
                alg as &'static dyn signature::VerificationAlgorithm,
                point.into_boxed_slice(),
            );
            Ok((scheme, Key::Ecdsa { coordinate_len, key }))
        }
    }
}

/// A restricted signing key has a scheme and no cipher (part 2, 12.2.3.4 to 12.2.3.6).
fn signing_scheme(symmetric: Symmetric, scheme: Option<Scheme>) -> Result<Scheme, AkError> {
    if symmetric != Symmetric::Null {
        return Err(AkError::Key("a signing key has no cipher"));
    }
    scheme.ok_or(AkError::NoScheme)
}

fn rsa_parameters(scheme: Scheme) -> Option<&'static RsaParameters> {
    match (scheme.alg, scheme.hash) {
        (SignatureAlg::Rsassa, HashAlg::Sha256) => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        (SignatureAlg::Rsassa, HashAlg::Sha384) => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        (SignatureAlg::Rsapss, HashAlg::Sha256) => Some(&signature::RSA_PSS_2048_8192_SHA256),
        (SignatureAlg::Rsapss, HashAlg::Sha384) => Some(&signature::RSA_PSS_2048_8192_SHA384),
        _ => None,
    }
}

fn ecdsa_algorithm(curve: Curve, scheme: Scheme) -> Option<&'static EcdsaVerificationAlgorithm> {
    match (curve, scheme.hash) {
        (Curve::P256, HashAlg::Sha256) => Some(&signature::ECDSA_P256_SHA256_FIXED),
        (Curve::P384, HashAlg::Sha384) => Some(&signature::ECDSA_P384_SHA384_FIXED),
        _ => None,
    }
}

/// Right-aligns a big-endian number: TPMs may drop leading zero octets, or keep them.
fn put_number(room: &mut [u8], number: &[u8]) -> Option<()> {
    let start = room.len().checked_sub(number.len())?;
    room.get_mut(start..)?.copy_from_slice(number);
    Some(())
}
