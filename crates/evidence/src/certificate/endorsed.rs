//! A verified EK certificate.
//!
//! Owns: what an EK certificate that chains to a trusted root says. Only [`verify_ek_certificate`] makes one.
//!
//! [`verify_ek_certificate`]: super::verify_ek_certificate

use std::fmt;

use domain::{CertificateDigest, EkDigest};

use super::{
    maker::{FirmwareVersion, MakerId, TpmDevice},
    name::shown,
    parsed::{Certificate, Validity},
};
use crate::ek::EndorsementKey;

/// The certificate is good, and for another key than this EK: the usual way to borrow somebody's good certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the EK certificate is for the key {certified}, the device has {ek}")]
pub struct OtherKey {
    /// The key in the certificate.
    pub certified: EkDigest,
    /// The device's.
    pub ek: EkDigest,
}

/// An EK certificate whose chain reached a trusted root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EkCertificate {
    digest: CertificateDigest,
    spki_der: Vec<u8>,
    validity: Validity,
    device: TpmDevice,
    subjects: Vec<String>,
    root: CertificateDigest,
}

impl EkCertificate {
    /// `chain` is from the EK certificate to the root. `None` without one, or with a key that has no SPKI here.
    pub(super) fn of(chain: &[&Certificate]) -> Option<Self> {
        let (leaf, root) = (chain.first()?, chain.last()?);
        Some(Self {
            digest: CertificateDigest::of(leaf.der()),
            spki_der: leaf.key.spki_der()?,
            validity: leaf.validity,
            device: leaf.extensions.device.clone(),
            subjects: chain
                .iter()
                .map(|link| link.subject.as_text().to_owned())
                .collect(),
            root: CertificateDigest::of(root.der()),
        })
    }

    /// SHA-256 of the certificate, without the padding that an NV index has behind it.
    #[must_use]
    pub const fn digest(&self) -> CertificateDigest {
        self.digest
    }

    /// SHA-256 of the root at which the chain ends.
    #[must_use]
    pub const fn root_digest(&self) -> CertificateDigest {
        self.root
    }

    /// The certified key as a SubjectPublicKeyInfo in the form that [`EndorsementKey::spki_der`] has, whatever
    /// parameters the maker wrote beside it.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The digest of [`EkCertificate::spki_der`], by which the registry knows an EK.
    #[must_use]
    pub fn ek_digest(&self) -> EkDigest {
        EkDigest::of(&self.spki_der)
    }

    /// From when to when it holds.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The TPM's maker; `None` if the certificate names none, or not in a form of the TCG.
    #[must_use]
    pub fn maker(&self) -> Option<MakerId> {
        self.device
            .manufacturer
            .as_deref()
            .and_then(|text| text.parse().ok())
    }

    /// The TPM's model as the maker wrote it, safe to print.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        self.device.model.as_deref().map(shown)
    }

    /// The firmware that the TPM had when the certificate was made; `None` if it names none or in an own form of the
    /// maker, see [`EkCertificate::firmware_text`].
    #[must_use]
    pub fn firmware(&self) -> Option<FirmwareVersion> {
        self.device.version.as_deref().and_then(|text| text.parse().ok())
    }

    /// The firmware version as the maker wrote it, safe to print.
    #[must_use]
    pub fn firmware_text(&self) -> Option<String> {
        self.device.version.as_deref().map(shown)
    }

    /// The subjects of the chain, from the EK certificate (whose subject is often empty) to the root, safe to print.
    #[must_use]
    pub fn chain_subjects(&self) -> &[String] {
        &self.subjects
    }

    /// Ties the certificate to the EK that a device has: the same key, by its numbers.
    ///
    /// # Errors
    /// It is for another key.
    pub fn matches(&self, ek: &EndorsementKey) -> Result<(), OtherKey> {
        if self.spki_der == ek.spki_der() {
            return Ok(());
        }
        Err(OtherKey {
            certified: self.ek_digest(),
            ek: ek.digest(),
        })
    }
}

/// `Infineon (IFX) SLB 9670, firmware 7.85, by CN=Maker Root CA`.
impl fmt::Display for EkCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.maker().map(|maker| (maker, maker.name())) {
            Some((maker, Some(name))) => write!(f, "{name} ({maker})")?,
            Some((maker, None)) => write!(f, "maker {maker}")?,
            None => f.write_str("unnamed maker")?,
        }
        if let Some(model) = self.model() {
            write!(f, " {model}")?;
        }
        match (self.firmware(), self.firmware_text()) {
            (Some(version), _) => write!(f, ", firmware {version}")?,
            (None, Some(text)) => write!(f, ", firmware {text}")?,
            (None, None) => {}
        }
        match self.subjects.last() {
            Some(root) => write!(f, ", by {root}"),
            None => Ok(()),
        }
    }
}
