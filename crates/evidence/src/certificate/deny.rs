//! Makers' firmware that is refused though its certificate is good.
//!
//! Owns: rules of a maker, a range of firmware versions and a reason, and their answer to a verified certificate or to
//! what a TPM says about itself. Refuses to guess: where a rule could apply and the certificate does not say, it does.
//! Examples; take the ranges from the makers' own advisories, which have more than these:
//! - ROCA (CVE-2017-15361): Infineon (`IFX`), TPM 2.0 firmware 5.x and 7.x before the corrected versions: RSA keys that
//!   the TPM made, the EK too, can be factored.
//! - TPM-FAIL (CVE-2019-16863): STMicroelectronics (`STM`), 71.0 to 71.12, 73.0 to 73.9, 74.0 to 74.16: the time that an
//!   ECDSA signature takes gives the key away.
//!
//! Limits: a certificate says which firmware the TPM was made with; a TPM that was updated since keeps its certificate.
//! [`DenyList::check_device`] takes the version that a quote reports instead.

use super::{
    EkCertificate,
    maker::{FirmwareVersion, MakerId},
};

/// A range of versions that ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the firmware range {from} to {to} ends before it begins")]
pub struct InvalidRange {
    /// The first version.
    pub from: FirmwareVersion,
    /// The last version.
    pub to: FirmwareVersion,
}

/// Firmware of one maker that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRule {
    maker: MakerId,
    from: FirmwareVersion,
    to: FirmwareVersion,
    reason: String,
}

impl DenyRule {
    /// Refuses the versions from `from` to `to`, both included. `reason` is for the operator's log.
    ///
    /// # Errors
    /// The range ends before it begins.
    pub fn new(
        maker: MakerId,
        from: FirmwareVersion,
        to: FirmwareVersion,
        reason: impl Into<String>,
    ) -> Result<Self, InvalidRange> {
        if from > to {
            return Err(InvalidRange { from, to });
        }
        let reason = reason.into();
        Ok(Self {
            maker,
            from,
            to,
            reason,
        })
    }

    /// Refuses everything of a maker.
    #[must_use]
    pub fn whole_maker(maker: MakerId, reason: impl Into<String>) -> Self {
        Self {
            maker,
            from: FirmwareVersion::MIN,
            to: FirmwareVersion::MAX,
            reason: reason.into(),
        }
    }

    fn is_for_every_version(&self) -> bool {
        (self.from, self.to) == (FirmwareVersion::MIN, FirmwareVersion::MAX)
    }
}

/// Why a TPM is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A rule names this firmware.
    #[error("{maker} firmware {version} is on the deny-list: {reason}")]
    Listed {
        /// The maker.
        maker: MakerId,
        /// Its firmware.
        version: FirmwareVersion,
        /// The rule's reason.
        reason: String,
    },
    /// A rule names everything of this maker.
    #[error("{maker} is on the deny-list: {reason}")]
    MakerListed {
        /// The maker.
        maker: MakerId,
        /// The rule's reason.
        reason: String,
    },
    /// A rule names some firmware of this maker, and the certificate does not say which this is.
    #[error("some {maker} firmware is on the deny-list, and the certificate does not say which this is")]
    VersionUnknown {
        /// The maker.
        maker: MakerId,
    },
    /// There are rules, and the certificate does not say whose TPM this is.
    #[error("there is a deny-list, and the certificate does not say whose TPM this is")]
    MakerUnknown,
}

/// Makers' firmware that is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    rules: Vec<DenyRule>,
}

impl DenyList {
    /// Of rules; of none, it refuses nobody.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = DenyRule>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
        }
    }

    /// Judges what a certificate says.
    ///
    /// # Errors
    /// A rule refuses it, or may and the certificate does not say.
    pub fn check(&self, certificate: &EkCertificate) -> Result<(), Denied> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let maker = certificate.maker().ok_or(Denied::MakerUnknown)?;
        self.check_device(maker, certificate.firmware())
    }

    /// Judges a maker and a version from elsewhere, such as the version in a quote. `None`: not known.
    ///
    /// # Errors
    /// A rule refuses it, or may and the version is not known.
    pub fn check_device(&self, maker: MakerId, version: Option<FirmwareVersion>) -> Result<(), Denied> {
        for rule in self.rules.iter().filter(|rule| rule.maker == maker) {
            let reason = rule.reason.clone();
            match version {
                _ if rule.is_for_every_version() => return Err(Denied::MakerListed { maker, reason }),
                None => return Err(Denied::VersionUnknown { maker }),
                Some(version) if (rule.from..=rule.to).contains(&version) => {
                    return Err(Denied::Listed {
                        maker,
                        version,
                        reason,
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> FirmwareVersion {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_both_its_ends_and_one_maker() {
        let maker = |text: &str| text.parse::<MakerId>().unwrap();
        let roca = DenyRule::new(maker("IFX"), version("7.0"), version("7.61"), "ROCA").unwrap();
        let list = DenyList::new([roca, DenyRule::whole_maker(maker("SNS"), "no support")]);
        for bad in ["7.0", "7.9", "7.61"] {
            let denied = list.check_device(maker("IFX"), Some(version(bad))).unwrap_err();
            assert_eq!(
                denied.to_string(),
                format!("IFX firmware {bad} is on the deny-list: ROCA")
            );
        }
        for good in ["6.65535", "7.62", "7.85"] {
            assert_eq!(list.check_device(maker("IFX"), Some(version(good))), Ok(()));
        }
        assert_eq!(list.check_device(maker("STM"), Some(version("7.0"))), Ok(()));
        assert_eq!(list.check_device(maker("STM"), None), Ok(()));
        let unknown = list.check_device(maker("IFX"), None);
        assert_eq!(unknown, Err(Denied::VersionUnknown { maker: maker("IFX") }));
        let whole = list.check_device(maker("SNS"), None).unwrap_err();
        assert_eq!(whole.to_string(), "SNS is on the deny-list: no support");
        assert_eq!(DenyList::default().check_device(maker("IFX"), None), Ok(()));
    }

    #[test]
    fn a_range_backwards_is_refused() {
        let (from, to) = (version("7.61"), version("7.0"));
        let rule = DenyRule::new("IFX".parse().unwrap(), from, to, "");
        assert_eq!(rule, Err(InvalidRange { from, to }));
    }
}
