//! Why a TPM operation failed.
//!
//! Owns: one error for what every operation can meet ([`TpmError`]); sealing and unsealing have their own around it.
//! Display says what we were doing and what the TPM answered; `hint()` what to do. No secret is ever in either.

use domain::HashAlg;

use crate::{
    AkHandle, EkAlg, StorageTemplate, Tcti,
    code::{Cause, ResponseCode},
};

/// Why an operation on the TPM failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TpmError {
    /// Nobody answers where the TPM should be.
    #[error("no TPM answers at {tcti}: {reason}")]
    Absent {
        /// Where it was looked for.
        tcti: Tcti,
        /// What the system said.
        reason: String,
    },
    /// We may not open the TPM's device.
    #[error("{tcti} may not be opened by this user")]
    Forbidden {
        /// Where it was looked for.
        tcti: Tcti,
    },
    /// The TPM, or the software before it, refused a command.
    #[error("cannot {doing}: {code}")]
    Refused {
        /// What we were doing, to be read after "cannot".
        doing: &'static str,
        /// What it answered.
        code: ResponseCode,
    },
    /// The handle for the AK holds something already.
    #[error("persistent handle {0} is in use already")]
    AkHandleInUse(AkHandle),
    /// No AK is at its handle.
    #[error("no attestation key is at persistent handle {0}")]
    NoAk(AkHandle),
    /// What is at the AK's handle has another qualified name than a child of the EK has.
    #[error("the key that the TPM made is not a child of its endorsement key")]
    NotChildOfEk,
    /// The TPM has no such PCR bank, or not all PCRs in it.
    #[error("the TPM has no {0} bank for all of the selected PCRs")]
    NoPcrBank(HashAlg),
    /// No template is made here for such an EK.
    #[error("{0} endorsement keys are not supported with this TPM stack")]
    EkUnsupported(EkAlg),
    /// The storage key is not the one that was pinned: another TPM, a cleared one, or somebody between us and it.
    #[error("the storage key of template {0} is not the one that this TPM is known by")]
    AnotherSrk(StorageTemplate),
    /// PCRs were extended again and again between reading and quoting.
    #[error("the PCRs kept changing while they were read")]
    PcrsKeepMoving,
    /// The bytes that were given have not the form that the TPM takes; the TPM was not asked.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The TPM's answer makes no sense to us.
    #[error("the TPM's answer makes no sense: {0}")]
    Nonsense(&'static str),
}

impl TpmError {
    /// What a person can do about it, where something can be done.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Absent { .. } => Cause::Connection.hint(),
            Self::Forbidden { .. } => Some(
                "add the user to the group tss (usermod -aG tss USER) and log in again, or use /dev/tpmrm0",
            ),
            Self::Refused { code, .. } => code.cause().hint(),
            Self::AkHandleInUse(_) => Cause::HandleInUse.hint(),
            Self::NoAk(_) => Some("has this device been provisioned, and its TPM not been cleared since?"),
            Self::NoPcrBank(_) => Some("tpm2_getcap pcrs lists the banks; the firmware's setup enables them"),
            Self::PcrsKeepMoving => Some("try again when the system has settled"),
            Self::EkUnsupported(_) => {
                Some("use an RSA-2048 or ECC P-256 endorsement key, which every TPM has")
            }
            Self::AnotherSrk(_) => Some(
                "is this the TPM that the device was enrolled with, and was it never cleared? if so, look at what sits on \
                 the bus between the CPU and the TPM",
            ),
            Self::NotChildOfEk | Self::Malformed(_) | Self::Nonsense(_) => None,
        }
    }

    /// The TPM's own code, where it gave one.
    #[must_use]
    pub const fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The cause behind the TPM's code, where it gave one.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.code().map(ResponseCode::cause)
    }
}

/// Says what was being done when tpm2-tss reported an error.
pub(crate) trait Doing<T> {
    /// `doing` is read after "cannot".
    fn doing(self, doing: &'static str) -> Result<T, TpmError>;
}

impl<T> Doing<T> for tss_esapi::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, TpmError> {
        self.map_err(|error| match raw_code(error) {
            Some(raw) => TpmError::Refused {
                doing,
                code: ResponseCode::new(raw),
            },
            None => TpmError::Nonsense(doing),
        })
    }
}

/// The raw code of tss-esapi's error. Its fields are private and its accessors drop the layer; the Display of the
/// inner code ends with the whole number (`Response code value: 0x..`).
pub(crate) fn raw_code(error: tss_esapi::Error) -> Option<u32> {
    use tss_esapi::constants::response_code::Tss2ResponseCode;
    let text = match error {
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => code.to_string(),
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => code.to_string(),
        _ => return None,
    };
    let (_, digits) = text.rsplit_once("0x")?;
    u32::from_str_radix(digits, 16).ok()
}
