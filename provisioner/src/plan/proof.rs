//! What a quote of a device proves, in plain words: the sentence that `plan` and `device show` owe.

use std::fmt;

use domain::PcrSelection;
use serde::{Serialize, Serializer};

/// What admits a device, and so what its admission proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The policy asks for no evidence.
    KeyAlone,
    /// Evidence, on firmware that does not measure the boot.
    WhichTpm(PcrSelection),
    /// Evidence, on firmware that measures the boot.
    WhichBoot(PcrSelection),
}

impl Proof {
    pub(crate) fn of(evidence: Option<PcrSelection>, measured_boot: bool) -> Self {
        match evidence {
            None => Self::KeyAlone,
            Some(pcrs) if measured_boot => Self::WhichBoot(pcrs),
            Some(pcrs) => Self::WhichTpm(pcrs),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyAlone => {
                f.write_str("nothing is quoted: whoever has the pre-shared key is admitted as this device")
            }
            Self::WhichTpm(pcrs) => write!(
                f,
                "a quote proves which TPM answered and what its PCRs {pcrs} hold, not which software runs: the \
                 firmware does not measure the boot, so any program on the device can fill them"
            ),
            Self::WhichBoot(pcrs) => write!(
                f,
                "a quote proves which TPM answered and, by PCRs {pcrs}, which software the firmware measured at boot; \
                 not what was done to it since"
            ),
        }
    }
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use domain::{HashAlg, PcrIndex};

    use super::*;

    #[test]
    fn each_says_what_it_does_not_prove() {
        let pcrs = PcrSelection::new(HashAlg::Sha256, [PcrIndex::try_from(7).unwrap()]).unwrap();
        assert!(
            Proof::of(None, true)
                .to_string()
                .contains("whoever has the pre-shared key")
        );
        assert!(
            Proof::of(Some(pcrs), false)
                .to_string()
                .contains("not which software runs")
        );
        assert!(
            Proof::of(Some(pcrs), true)
                .to_string()
                .contains("which software the firmware measured")
        );
    }
}
