//! What makes an operator trust an endorsement key, and the verdict that says which it was.
//!
//! Owns: the three choices and the tie between certificate and EK. A certificate that is not asked for is not looked at:
//! under an allow-list or trust on first use nothing that a device sends makes its EK look better than it is. A deny-list
//! needs somebody to vouch for maker and firmware, so it belongs to the chain alone.
//! An attacker controls the EK, the certificate and the intermediates.

use std::{collections::BTreeSet, fmt};

use domain::{EkDigest, UnixTime};

use super::{ChainError, Denied, DenyList, EkCertificate, OtherKey, Roots, verify_ek_certificate};
use crate::ek::EndorsementKey;

/// What a device shows to prove that its EK is a genuine TPM's.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// DER or PEM.
    pub certificate: &'a [u8],
    /// Those that the TPM holds beside it.
    pub intermediates: &'a [&'a [u8]],
}

/// When an EK is trusted.
#[derive(Debug, Clone)]
pub enum EkTrustPolicy {
    /// When its certificate chains to a root of the operator's and its maker's firmware is not refused.
    Chain {
        /// The folder of maker certificates.
        roots: Roots,
        /// Firmware that is refused.
        deny: DenyList,
    },
    /// When its digest was written down beforehand.
    Allow(BTreeSet<EkDigest>),
    /// Always, once: nothing vouches for it.
    FirstUse,
}

/// Why an EK is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EkRefused {
    /// The policy wants a certificate.
    #[error("the policy wants an EK certificate, and the device shows none")]
    NoCertificate,
    /// It does not lead to a root.
    #[error("the EK certificate is not trusted")]
    Chain(#[from] ChainError),
    /// It is somebody else's.
    #[error("the EK certificate is not this device's")]
    OtherKey(#[from] OtherKey),
    /// Its firmware is refused.
    #[error("the TPM is refused")]
    Denied(#[from] Denied),
    /// Not on the allow-list.
    #[error("the endorsement key {0} is not on the allow-list")]
    NotListed(EkDigest),
}

/// By what an EK is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustBasis {
    /// Its certificate.
    Chain(Box<EkCertificate>),
    /// The operator's allow-list.
    Allowed,
    /// Nothing.
    FirstUse,
}

/// An EK that the operator's policy trusts, and why. Only [`EkTrustPolicy::judge`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EkTrusted {
    ek: EkDigest,
    basis: TrustBasis,
}

impl EkTrusted {
    /// The EK.
    #[must_use]
    pub const fn ek(&self) -> EkDigest {
        self.ek
    }

    /// By what it is trusted.
    #[must_use]
    pub const fn basis(&self) -> &TrustBasis {
        &self.basis
    }
}

impl fmt::Display for EkTrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ek = self.ek.short();
        match &self.basis {
            TrustBasis::Chain(certificate) => {
                write!(f, "endorsement key {ek} is a genuine TPM's: {certificate}")
            }
            TrustBasis::Allowed => write!(
                f,
                "endorsement key {ek} is on the allow-list; its maker is not checked"
            ),
            TrustBasis::FirstUse => write!(
                f,
                "endorsement key {ek} is trusted on first use: nothing vouches for it, and a software TPM would have \
                 been taken as well"
            ),
        }
    }
}

impl EkTrustPolicy {
    /// Decides about an EK. `now` is when the certificates have to hold.
    ///
    /// # Errors
    /// Why the policy does not trust it.
    pub fn judge(
        &self,
        ek: &EndorsementKey,
        presented: Option<Presented<'_>>,
        now: UnixTime,
    ) -> Result<EkTrusted, EkRefused> {
        let digest = ek.digest();
        let basis = match self {
            Self::Chain { roots, deny } => {
                let Presented {
                    certificate,
                    intermediates,
                } = presented.ok_or(EkRefused::NoCertificate)?;
                let certificate = verify_ek_certificate(certificate, intermediates, roots, now)?;
                certificate.matches(ek)?;
                deny.check(&certificate)?;
                TrustBasis::Chain(Box::new(certificate))
            }
            Self::Allow(list) if list.contains(&digest) => TrustBasis::Allowed,
            Self::Allow(_) => return Err(EkRefused::NotListed(digest)),
            Self::FirstUse => TrustBasis::FirstUse,
        };
        Ok(EkTrusted { ek: digest, basis })
    }
}
