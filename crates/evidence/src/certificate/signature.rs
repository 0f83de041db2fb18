//! Checking the signature on a certificate, with ring, and on P-521 with the crate of that name.
//!
//! Owns: which algorithms count (RSASSA-PKCS1-v1_5 and RSASSA-PSS with keys of 2048 to 4096 bits and SHA-256, SHA-384
//! or SHA-512; ECDSA on P-256 and P-384 with SHA-256 or SHA-384, on P-521
//! with SHA-512) and how each refusal is named. SHA-1 is checked only
//! for a caller who says so. An attacker controls all of it but the key of a root.

use p521::ecdsa::signature::Verifier as _;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use x509_parser::{
    asn1_rs::{Oid, oid},
    signature_algorithm::RsaSsaPssParams,
    x509::AlgorithmIdentifier,
};

use super::{
    key::{Curve, Key, tlv, two_integers, unsigned},
    name::shown,
};

const MGF1: Oid<'static> = oid!(1.2.840.113549.1.1.8);
/// Bits of an RSA key that may sign certificates.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Bytes of a number of P-521.
const P521_LEN: usize = 66;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// A signature algorithm of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Algorithm {
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ecdsa(Hash),
    Unsupported(String),
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Wrong,
    Sha1,
    /// An RSA key outside 2048 to 4096 bits.
    KeySize(usize),
    Unsupported(String),
}

impl Algorithm {
    /// By RFC 4055, 5 and RFC 5758, 3. Parameters count for PSS alone; elsewhere some makers leave out the NULL.
    pub(super) fn read(identifier: &AlgorithmIdentifier<'_>) -> Self {
        let oid = identifier.algorithm.to_id_string();
        match oid.as_str() {
            "1.2.840.113549.1.1.5" => Self::RsaPkcs1(Hash::Sha1),
            "1.2.840.113549.1.1.11" => Self::RsaPkcs1(Hash::Sha256),
            "1.2.840.113549.1.1.12" => Self::RsaPkcs1(Hash::Sha384),
            "1.2.840.113549.1.1.13" => Self::RsaPkcs1(Hash::Sha512),
            "1.2.840.113549.1.1.10" => pss(identifier),
            "1.2.840.10045.4.1" => Self::Ecdsa(Hash::Sha1),
            "1.2.840.10045.4.3.2" => Self::Ecdsa(Hash::Sha256),
            "1.2.840.10045.4.3.3" => Self::Ecdsa(Hash::Sha384),
            "1.2.840.10045.4.3.4" => Self::Ecdsa(Hash::Sha512),
            other => Self::Unsupported(shown(other)),
        }
    }

    /// Whether the key made the signature over `message`.
    pub(super) fn verify(
        &self,
        key: &Key,
        message: &[u8],
        signature: &[u8],
        sha1: bool,
    ) -> Result<(), Fault> {
        match (self, key) {
            (Self::Unsupported(what), _) | (_, Key::Unsupported(what)) => {
                Err(Fault::Unsupported(what.clone()))
            }
            (Self::RsaPkcs1(Hash::Sha1) | Self::Ecdsa(Hash::Sha1), _) if !sha1 => Err(Fault::Sha1),
            (Self::RsaPkcs1(hash), Key::Rsa { modulus, exponent }) => {
                let parameters = match hash {
                    Hash::Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                    Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                };
                bits_allowed(key)?;
                RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(parameters, message, signature)
                .map_err(|_| Fault::Wrong)
            }
            (Self::RsaPss(hash), Key::Rsa { modulus, exponent }) => {
                let parameters = match hash {
                    Hash::Sha1 => return Err(Fault::Unsupported("RSASSA-PSS with SHA-1".to_owned())),
                    Hash::Sha256 => &RSA_PSS_2048_8192_SHA256,
                    Hash::Sha384 => &RSA_PSS_2048_8192_SHA384,
                    Hash::Sha512 => &RSA_PSS_2048_8192_SHA512,
                };
                bits_allowed(key)?;
                RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(parameters, message, signature)
                .map_err(|_| Fault::Wrong)
            }
            (Self::Ecdsa(hash), Key::Ec { curve, point }) => {
                let algorithm = match (curve, hash) {
                    (Curve::P256, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
                    (Curve::P256, Hash::Sha384) => &ECDSA_P256_SHA384_ASN1,
                    (Curve::P384, Hash::Sha256) => &ECDSA_P384_SHA256_ASN1,
                    (Curve::P384, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
                    (Curve::P521, Hash::Sha512) => {
                        return p521(point, message, signature).ok_or(Fault::Wrong);
                    }
                    _ => return Err(Fault::Unsupported(format!("ECDSA on {curve:?} with {hash:?}"))),
                };
                UnparsedPublicKey::new(algorithm, point)
                    .verify(message, &minimal(signature))
                    .map_err(|_| Fault::Wrong)
            }
            // A signature of one kind, a key of another: another key of the same name made it.
            _ => Err(Fault::Wrong),
        }
    }
}

fn bits_allowed(key: &Key) -> Result<(), Fault> {
    let bits = key.rsa_bits();
    RSA_BITS.contains(&bits).then_some(()).ok_or(Fault::KeySize(bits))
}

/// ECDSA on P-521 with SHA-512, which ring does not have and the roots of Nuvoton's newer TPMs use.
fn p521(point: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    let (r, s) = two_integers(signature)?;
    let mut fixed = [0; 2 * P521_LEN];
    for (number, half) in [r, s].iter().zip(fixed.chunks_exact_mut(P521_LEN)) {
        let start = P521_LEN.checked_sub(number.len())?;
        half.get_mut(start..)?.copy_from_slice(number);
    }
    let signature = p521::ecdsa::Signature::from_slice(&fixed).ok()?;
    key.verify(message, &signature).ok()
}

/// The numbers of an ECDSA signature in DER: ring reads nothing else, and a maker may have written BER.
fn minimal(signature: &[u8]) -> Vec<u8> {
    match two_integers(signature) {
        Some((r, s)) => tlv(0x30, &[unsigned(&r), unsigned(&s)].concat()),
        None => signature.to_vec(),
    }
}

/// One hash for the message and for MGF1, a salt as long as its digest: all that ring checks, and all that is in use.
fn pss(identifier: &AlgorithmIdentifier<'_>) -> Algorithm {
    let unsupported = || Algorithm::Unsupported("RSASSA-PSS with uncommon parameters".to_owned());
    let Some(parameters) = identifier.parameters.as_ref() else {
        return unsupported();
    };
    let Ok(parameters) = RsaSsaPssParams::try_from(parameters) else {
        return unsupported();
    };
    let Ok(mask) = parameters.mask_gen_algorithm() else {
        return unsupported();
    };
    let hash = parameters.hash_algorithm_oid();
    let (algorithm, salt) = match hash.to_id_string().as_str() {
        "2.16.840.1.101.3.4.2.1" => (Hash::Sha256, 32),
        "2.16.840.1.101.3.4.2.2" => (Hash::Sha384, 48),
        "2.16.840.1.101.3.4.2.3" => (Hash::Sha512, 64),
        _ => return unsupported(),
    };
    let common = mask.mgf == MGF1
        && mask.hash == *hash
        && parameters.salt_length() == salt
        && parameters.trailer_field() == 1;
    if common {
        Algorithm::RsaPss(algorithm)
    } else {
        unsupported()
    }
}
