//! A certificate, read once: what the chain is built from.
//!
//! Owns: the bytes and what they mean, by x509-parser. That library and not another because it keeps the signed bytes as
//! they came and reads BER where makers write it (lengths, serial numbers, booleans, unsorted sets): x509-cert refuses
//! anything but DER, and webpki shows neither the alternative name's directory name nor a certificate whose critical
//! extensions it does not know. What it refuses all the same, refuses here.
//! An attacker controls every byte.

use std::fmt;

use domain::UnixTime;
use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    certificate::X509CertificateParser,
    nom::Parser as _,
    time::ASN1Time,
};

use super::{
    extensions::Extensions,
    key::Key,
    name::Name,
    reading::{ReadError, certificate_in},
    signature::{Algorithm, Fault},
};

/// 9999-12-31T23:59:59Z: no well-defined end (RFC 5280, 4.1.2.5; EK Credential Profile).
const NO_END: i64 = 253_402_300_799;

/// Why bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// None could be cut out of the bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The outer structure (RFC 5280, 4.1).
    #[error("not an X.509 certificate")]
    Malformed,
    /// The public key.
    #[error("its public key cannot be read")]
    Key,
    /// An extension that decides something cannot be read or is there twice.
    #[error("it has a broken extension: {0}")]
    Extension(&'static str),
    /// The algorithm that is signed is not the one beside the signature (RFC 5280, 4.1.1.2).
    #[error("it names two signature algorithms")]
    TwoAlgorithms,
    /// The signature is not whole bytes.
    #[error("its signature cannot be read")]
    Signature,
}

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: UnixTime,
    /// The last second; `None` for a certificate that says it has none (9999-12-31).
    pub not_after: Option<UnixTime>,
}

/// `from 1700000000` or `from 1700000000 to 1800000000`, in seconds since 1970.
impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {}", self.not_before)?;
        self.not_after.map_or(Ok(()), |end| write!(f, " to {end}"))
    }
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    der: Vec<u8>,
    signed: Vec<u8>,
    algorithm: Algorithm,
    signature: Vec<u8>,
    pub(super) subject: Name,
    pub(super) issuer: Name,
    pub(super) validity: Validity,
    pub(super) key: Key,
    pub(super) extensions: Extensions,
}

impl Certificate {
    /// The only certificate in the bytes: DER or PEM, with or without padding.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, CertificateError> {
        Self::of(certificate_in(bytes)?)
    }

    /// A certificate that was cut out already.
    pub(super) fn of(der: Vec<u8>) -> Result<Self, CertificateError> {
        // Extensions are read one by one later: a broken one that decides nothing must not hide the others.
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (rest, outer) = parser.parse(&der).map_err(|_| CertificateError::Malformed)?;
        let inner = &outer.tbs_certificate;
        if !rest.is_empty() || !has_three_parts(&der) {
            return Err(CertificateError::Malformed);
        }
        let algorithm = Algorithm::read(&outer.signature_algorithm);
        if outer.signature_algorithm.algorithm != inner.signature.algorithm
            || Algorithm::read(&inner.signature) != algorithm
        {
            return Err(CertificateError::TwoAlgorithms);
        }
        if outer.signature_value.unused_bits != 0 {
            return Err(CertificateError::Signature);
        }
        Ok(Self {
            signed: inner.as_ref().to_vec(),
            algorithm,
            signature: outer.signature_value.data.to_vec(),
            subject: Name::read(&inner.subject),
            issuer: Name::read(&inner.issuer),
            validity: validity(&inner.validity),
            key: Key::read(&inner.subject_pki).ok_or(CertificateError::Key)?,
            extensions: Extensions::read(inner.extensions()).map_err(CertificateError::Extension)?,
            der,
        })
    }

    /// Its bytes, without what was around it.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `key` signed it. `sha1` allows SHA-1.
    pub(super) fn signed_by(&self, key: &Key, sha1: bool) -> Result<(), Fault> {
        self.algorithm.verify(key, &self.signed, &self.signature, sha1)
    }

    /// Whether it was issued by its own subject: a root, or an old CA key that vouches for the new one.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject.is_same(&self.issuer)
    }

    /// What identifies a CA: its name and key. Two certificates of one CA are the same place in a chain.
    pub(super) fn is_same_entity(&self, other: &Self) -> bool {
        self.key == other.key && self.subject.is_same(&other.subject)
    }
}

/// What is around the signed part is nobody's word: exactly the three parts of RFC 5280, 4.1, by their whole tags, which
/// x509-parser does not look at.
fn has_three_parts(der: &[u8]) -> bool {
    const SEQUENCE: Option<&u8> = Some(&0x30);
    const BIT_STRING: Option<&u8> = Some(&0x03);
    const OID: Option<&u8> = Some(&0x06);
    let parts = || {
        let (_, whole) = Any::from_der(der).ok()?;
        let signed = whole.data;
        let (algorithm, _) = Any::from_der(signed).ok()?;
        let (signature, identifier) = Any::from_der(algorithm).ok()?;
        let (rest, _) = Any::from_der(signature).ok()?;
        let tags = [
            signed.first(),
            algorithm.first(),
            identifier.data.first(),
            signature.first(),
        ];
        Some(rest.is_empty() && tags == [SEQUENCE, SEQUENCE, OID, BIT_STRING])
    };
    parts().unwrap_or(false)
}

/// The dates of a certificate.
pub(super) fn validity(read: &x509_parser::certificate::Validity) -> Validity {
    Validity {
        not_before: seconds(read.not_before),
        not_after: (read.not_after.timestamp() < NO_END).then(|| seconds(read.not_after)),
    }
}

/// Times before 1970 are 1970's first second.
fn seconds(time: ASN1Time) -> UnixTime {
    UnixTime::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}
