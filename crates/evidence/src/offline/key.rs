//! The key that a quote is checked against, from a file in any of the forms that tools write.
//!
//! Owns: telling TPM2B_PUBLIC, TPMT_PUBLIC and SubjectPublicKeyInfo (PEM or DER) apart, and plain signatures from
//! `TPMT_SIGNATURE`. A bare key is put into a public area without a scheme, so that there is one kind of key to check
//! with; [`Key::is_bare`] keeps the two apart. Whoever holds the file controls it: whose key it is, nobody says here.

use domain::{HashAlg, TpmName, TpmPublic};
use x509_parser::{
    asn1_rs::FromDer as _, oid_registry, pem::Pem, public_key::PublicKey, x509::SubjectPublicKeyInfo,
};

use crate::{
    ek::EndorsementKey,
    names::ak_names,
    wire::{
        Attributes, Curve, Parameters, ParseError, Public, Scheme, Signature, SignatureAlg, Symmetric, put_2b,
    },
};

/// Why a file is not a public key that quotes could be checked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// Neither PEM nor DER, and not a public area.
    #[error("neither PEM nor a TPM's public area: {0}")]
    Area(#[from] ParseError),
    /// PEM or DER that is no SubjectPublicKeyInfo.
    #[error("not a public key in PEM (`BEGIN PUBLIC KEY`)")]
    Spki,
    /// A key of a kind that no attestation key has.
    #[error("a key that is neither RSA nor on P-256 or P-384")]
    Algorithm,
}

/// A public key from a file.
#[derive(Debug, Clone)]
pub struct Key {
    area: Vec<u8>,
    bare: bool,
    qualified_name: Option<TpmName>,
}

impl Key {
    /// Reads TPM2B_PUBLIC, TPMT_PUBLIC, or a SubjectPublicKeyInfo in PEM or DER.
    ///
    /// # Errors
    /// None of them, or a key of another kind.
    pub fn read(bytes: &[u8]) -> Result<Self, NotAKey> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        if bytes.windows(BEGIN.len()).any(|window| window == BEGIN) {
            let blocks = Pem::iter_from_buffer(bytes).filter_map(Result::ok);
            let keys: Vec<_> = blocks.filter(|block| block.label == "PUBLIC KEY").collect();
            return match keys.as_slice() {
                [only] => Self::bare(&only.contents),
                _ => Err(NotAKey::Spki),
            };
        }
        if bytes.first() == Some(&0x30) {
            return Self::bare(bytes);
        }
        let area = without_size(bytes);
        Public::parse(area)?;
        Ok(Self {
            area: area.to_vec(),
            bare: false,
            qualified_name: None,
        })
    }

    fn bare(spki: &[u8]) -> Result<Self, NotAKey> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| NotAKey::Spki)?;
        if !rest.is_empty() {
            return Err(NotAKey::Spki);
        }
        let parameters = match spki.parsed().map_err(|_| NotAKey::Spki)? {
            PublicKey::RSA(key) => {
                let exponent = key.try_exponent().map_err(|_| NotAKey::Algorithm)?;
                let modulus = strip_zeros(key.modulus);
                let bits = modulus.len().saturating_mul(8);
                Parameters::Rsa {
                    symmetric: Symmetric::Null,
                    scheme: None,
                    key_bits: u16::try_from(bits).map_err(|_| NotAKey::Algorithm)?,
                    exponent: u32::try_from(exponent).map_err(|_| NotAKey::Algorithm)?,
                    modulus,
                }
            }
            PublicKey::EC(_) => {
                let curve = spki.algorithm.parameters.as_ref();
                let curve = curve
                    .and_then(|any| any.as_oid().ok())
                    .ok_or(NotAKey::Algorithm)?;
                let curve = if curve == oid_registry::OID_EC_P256 {
                    Curve::P256
                } else if curve == oid_registry::OID_NIST_EC_P384 {
                    Curve::P384
                } else {
                    return Err(NotAKey::Algorithm);
                };
                let point = spki.subject_public_key.data.as_ref();
                // SEC 1, 2.3.3: an uncompressed point.
                let (x, y) = point
                    .strip_prefix(&[0x04])
                    .filter(|point| point.len() == curve.coordinate_len().saturating_mul(2))
                    .and_then(|point| point.split_at_checked(curve.coordinate_len()))
                    .ok_or(NotAKey::Algorithm)?;
                Parameters::Ecc {
                    symmetric: Symmetric::Null,
                    scheme: None,
                    curve,
                    x,
                    y,
                }
            }
            _ => return Err(NotAKey::Algorithm),
        };
        let area = area_around(parameters).encode();
        Public::parse(&area).map_err(|_| NotAKey::Algorithm)?;
        Ok(Self {
            area,
            bare: true,
            qualified_name: None,
        })
    }

    /// The same key, with what `qualifiedSigner` of its quotes must be.
    #[must_use]
    pub fn with_qualified_name(self, name: TpmName) -> Self {
        Self {
            qualified_name: Some(name),
            ..self
        }
    }

    /// The same key as a child of `ek`, from which its qualified name follows. A bare key has no Name, so for it
    /// nothing follows.
    #[must_use]
    pub fn child_of(self, ek: &EndorsementKey) -> Self {
        let names = self.tpm_public().and_then(|public| ak_names(ek, &public).ok());
        match names {
            Some((_, qualified)) => self.with_qualified_name(qualified),
            None => self,
        }
    }

    /// Whether the file held a key alone: no attributes, no scheme, no Name.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        self.bare
    }

    pub(super) const fn qualified_name(&self) -> Option<&TpmName> {
        self.qualified_name.as_ref()
    }

    /// The area as it was in the file; `None` for a bare key.
    pub(super) fn tpm_public(&self) -> Option<TpmPublic> {
        (!self.bare).then(|| TpmPublic::try_from(self.area.clone()).ok())?
    }

    pub(super) fn public(&self) -> Result<Public<'_>, ParseError> {
        Public::parse(&self.area)
    }
}

/// An area that passes every demand on an attestation key, around a key that may not: to check signatures with, and
/// nothing else.
pub(super) fn area_around(parameters: Parameters<'_>) -> Public<'_> {
    Public {
        name_alg: HashAlg::Sha256,
        attributes: Attributes(
            Attributes::FIXED_TPM.0
                | Attributes::FIXED_PARENT.0
                | Attributes::SENSITIVE_DATA_ORIGIN.0
                | Attributes::RESTRICTED.0
                | Attributes::SIGN.0,
        ),
        auth_policy: &[],
        parameters,
    }
}

/// `parameters` with this scheme.
pub(super) const fn with_scheme<'a>(parameters: &Parameters<'a>, scheme: Scheme) -> Parameters<'a> {
    match *parameters {
        Parameters::Rsa {
            symmetric,
            key_bits,
            exponent,
            modulus,
            ..
        } => Parameters::Rsa {
            symmetric,
            scheme: Some(scheme),
            key_bits,
            exponent,
            modulus,
        },
        Parameters::Ecc {
            symmetric,
            curve,
            x,
            y,
            ..
        } => Parameters::Ecc {
            symmetric,
            scheme: Some(scheme),
            curve,
            x,
            y,
        },
    }
}

/// A structure without the size of its `TPM2B`, if it has one.
pub(super) fn without_size(bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk::<2>() {
        Some((size, rest)) if usize::from(u16::from_be_bytes(*size)) == rest.len() => rest,
        _ => bytes,
    }
}

/// The signature as `TPMT_SIGNATURE`s that it may stand for: itself; or what `tpm2_quote --format plain` writes, which
/// names no scheme, with each of `schemes`.
pub(super) fn signatures(
    bytes: &[u8],
    parameters: &Parameters<'_>,
    schemes: &[Scheme],
) -> Result<Vec<Vec<u8>>, ParseError> {
    let Err(unread) = Signature::parse(bytes) else {
        return Ok(vec![bytes.to_vec()]);
    };
    let numbers: Vec<&[u8]> = match *parameters {
        Parameters::Rsa { modulus, .. } if bytes.len() == modulus.len() => vec![bytes],
        Parameters::Ecc { .. } => match ecdsa_in_der(bytes) {
            Some((r, s)) => vec![r, s],
            None => return Err(unread),
        },
        Parameters::Rsa { .. } => return Err(unread),
    };
    let marshalled = schemes.iter().map(|scheme| {
        let mut out = scheme.alg.tpm_id().to_be_bytes().to_vec();
        out.extend_from_slice(&scheme.hash.tpm_id().to_be_bytes());
        for number in &numbers {
            put_2b(&mut out, number);
        }
        out
    });
    Ok(marshalled.collect())
}

/// The schemes that a key without one may have signed a quote with, whose `pcrDigest` is of the scheme's hash.
pub(super) fn schemes_of(parameters: &Parameters<'_>, digest_len: usize) -> Vec<Scheme> {
    let hash = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384]
        .into_iter()
        .find(|alg| alg.digest_len() == digest_len);
    let algs: &[SignatureAlg] = match parameters {
        Parameters::Rsa { .. } => &[SignatureAlg::Rsassa, SignatureAlg::Rsapss],
        Parameters::Ecc { .. } => &[SignatureAlg::Ecdsa],
    };
    let with = |hash| algs.iter().map(move |alg| Scheme { alg: *alg, hash });
    hash.into_iter().flat_map(with).collect()
}

/// `Ecdsa-Sig-Value` (RFC 3279, 2.2.3) with short lengths, which is all that P-256 and P-384 need.
fn ecdsa_in_der(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x30, len, rest @ ..] = bytes else {
        return None;
    };
    if usize::from(*len) != rest.len() {
        return None;
    }
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then_some((r, s))
}

fn integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x02, len, rest @ ..] = bytes else {
        return None;
    };
    let (number, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((strip_zeros(number), rest))
}

fn strip_zeros(number: &[u8]) -> &[u8] {
    let first = number
        .iter()
        .position(|octet| *octet != 0)
        .unwrap_or(number.len());
    number.get(first..).unwrap_or_default()
}
