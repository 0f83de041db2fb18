//! What a TPM's response code means, in plain words, with what a person can do about it.
//!
//! Owns: the one table from codes to words (TPM 2.0 Library part 2, 6.6 "TPM_RC"; TSS 2.0 Overview, 3.7
//! "Response codes"). The raw code is always kept: it is what a search engine knows.
//! Who may call: [`crate::TpmError`] and whoever must tell one cause from another.
//! Limits: codes outside the table are shown as numbers, without a guess.

use std::fmt;

/// A response code as the TPM, or the software between it and us, gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(u32);

/// Why a command failed, as far as a caller could care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Too many failed authorizations: the TPM answers none for a while.
    Lockout,
    /// A hierarchy or object has a password and it is not the one that was given.
    AuthFailed,
    /// The policy of an object is not fulfilled.
    PolicyFailed,
    /// A persistent handle or NV index is in use already.
    HandleInUse,
    /// Nothing is at that handle.
    NoSuchHandle,
    /// The hierarchy is switched off.
    HierarchyDisabled,
    /// No slot for another transient object.
    ObjectSlotsFull,
    /// No slot for another session.
    SessionSlotsFull,
    /// `TPM2_Startup` has not run.
    NotStarted,
    /// The TPM failed its self-test and answers nothing else.
    FailureMode,
    /// The TPM asks for patience: NV wear, a self-test, another command.
    Busy,
    /// A wrapped object was not made by this TPM under this parent, or was changed.
    Integrity,
    /// No room for another persistent object or NV index.
    NvSpace,
    /// The TPM has not that algorithm, curve or key size.
    Unsupported,
    /// A parameter that the TPM refuses.
    BadParameter,
    /// A PCR changed between policy and use.
    PcrChanged,
    /// The connection to the TPM could not be made or broke.
    Connection,
    /// The TPM's response does not belong to our session: a broken or meddling bus.
    SessionBroken,
    /// Not in the table.
    Other,
}

impl ResponseCode {
    /// Wraps a raw code.
    #[must_use]
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The raw code, the layer in bits 16 to 23 (0: the TPM itself).
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether the TPM found a signature wrong (`TPM_RC_SIGNATURE`).
    pub(crate) const fn is_bad_signature(self) -> bool {
        matches!((self.0 >> 16) & 0xff, 0 | 12) && self.0 & 0xbf == 0x9b
    }

    /// What happened.
    #[must_use]
    pub const fn cause(self) -> Cause {
        let layer = (self.0 >> 16) & 0xff;
        let code = self.0 & 0xffff;
        match layer {
            // The TPM itself, or a resource manager that passes on what it said.
            0 | 12 => tpm_cause(code),
            10 => Cause::Connection,
            // A resource manager's own word keeps the TPM's numbers for full slots.
            11 => match code {
                0x902 => Cause::ObjectSlotsFull,
                0x903 | 0x905 => Cause::SessionSlotsFull,
                _ => Cause::Other,
            },
            // ESYS could not verify the HMAC of a response.
            7 if matches!(code, 0x11 | 0x13 | 0x1b) => Cause::SessionBroken,
            _ => Cause::Other,
        }
    }
}

/// `TPM_RC`: bit 7 set is format one, with a parameter, handle or session number in the bits 6 and 8 to 11.
const fn tpm_cause(code: u32) -> Cause {
    if code & 0x80 != 0 {
        return match code & 0x3f {
            0x01..=0x03 | 0x07..=0x0a | 0x0c | 0x12 | 0x16 | 0x26 => Cause::Unsupported,
            // A value that is no handle of anything, where the number says "handle", is a handle with nothing there.
            0x0b => Cause::NoSuchHandle,
            0x05 => Cause::HierarchyDisabled,
            0x0e | 0x22 => Cause::AuthFailed,
            0x1d | 0x24 => Cause::PolicyFailed,
            0x1f | 0x25 => Cause::Integrity,
            _ => Cause::BadParameter,
        };
    }
    match code {
        0x100 => Cause::NotStarted,
        0x101 | 0x153 => Cause::FailureMode,
        0x120 => Cause::HierarchyDisabled,
        0x126 => Cause::PolicyFailed,
        0x128 => Cause::PcrChanged,
        0x12f => Cause::AuthFailed,
        0x14b => Cause::NvSpace,
        0x14c => Cause::HandleInUse,
        0x902 | 0x904 => Cause::ObjectSlotsFull,
        0x903 | 0x905 => Cause::SessionSlotsFull,
        0x908 | 0x90a | 0x920 | 0x922 | 0x923 => Cause::Busy,
        0x910..=0x91f => Cause::NoSuchHandle,
        0x921 => Cause::Lockout,
        _ => Cause::Other,
    }
}

impl Cause {
    /// What happened, in plain words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Lockout => "the TPM is in lockout after too many failed authorizations",
            Self::AuthFailed => "the TPM refuses the password of the hierarchy or key",
            Self::PolicyFailed => "the policy of the key or sealed object is not fulfilled",
            Self::HandleInUse => "the persistent handle is in use already",
            Self::NoSuchHandle => "nothing is at that handle",
            Self::HierarchyDisabled => "the hierarchy is disabled",
            Self::ObjectSlotsFull => "the TPM has no free slot for another key",
            Self::SessionSlotsFull => "the TPM has no free slot for another session",
            Self::NotStarted => "the TPM has not been started up",
            Self::FailureMode => "the TPM is in failure mode",
            Self::Busy => "the TPM is busy",
            Self::Integrity => "the object was not made by this TPM under this parent, or was changed since",
            Self::NvSpace => "the TPM has no room for another persistent key or index",
            Self::Unsupported => "the TPM does not support the algorithm, curve or key size",
            Self::BadParameter => "the TPM refuses a parameter",
            Self::PcrChanged => "a PCR changed while the command was made",
            Self::Connection => "the TPM cannot be reached",
            Self::SessionBroken => "the TPM's response fails its check: it was damaged or changed on the way",
            Self::Other => "the TPM refuses the command",
        }
    }

    /// What a person can do about it, where something can be done.
    #[must_use]
    pub const fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Lockout => {
                "wait until it ends by itself (tpm2_getcap properties-variable shows how long), or clear it with \
                 tpm2_dictionarylockout --clear-lockout and the lockout password"
            }
            Self::AuthFailed => {
                "a password is set on a hierarchy (tpm2_getcap properties-variable: ownerAuthSet, endorsementAuthSet); \
                 Signalbox works with empty ones"
            }
            Self::PolicyFailed => "for a sealed object: a PCR is not what it was sealed to",
            Self::HandleInUse => "choose another ak-handle, or free it with tpm2_evictcontrol -c HANDLE",
            Self::NoSuchHandle => "was the TPM cleared? tpm2_getcap handles-persistent lists what is there",
            Self::HierarchyDisabled => "enable the owner and endorsement hierarchies in the firmware's setup",
            Self::ObjectSlotsFull => {
                "another program left keys behind: tpm2_flushcontext -t, or use the resource manager /dev/tpmrm0"
            }
            Self::SessionSlotsFull => {
                "another program left sessions behind: tpm2_flushcontext -l -s, or use the resource manager /dev/tpmrm0"
            }
            Self::NotStarted => "the firmware starts a TPM; a bare one is started with tpm2_startup -c",
            Self::FailureMode => "power the machine off and on; if it stays, the TPM is broken",
            Self::Busy => "try again in a moment",
            Self::Integrity => "is this the TPM that the volume was made on, and was it never cleared?",
            Self::NvSpace => "free a handle with tpm2_evictcontrol or an index with tpm2_nvundefine",
            Self::Connection => {
                "is the TPM there and the tcti right? /dev/tpmrm0 needs the group tss; the library libtss2-tcti-* of \
                 that kind must be installed"
            }
            Self::SessionBroken => {
                "if it comes again, look at what sits on the bus between the CPU and the TPM"
            }
            Self::Unsupported | Self::BadParameter | Self::PcrChanged | Self::Other => return None,
        })
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}: {}", self.0, self.cause().meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_seen_in_the_field_have_their_words() {
        for (raw, cause) in [
            (0x921, Cause::Lockout),
            (0x98e, Cause::AuthFailed),
            (0x9a2, Cause::AuthFailed),
            (0x99d, Cause::PolicyFailed),
            (0x14c, Cause::HandleInUse),
            (0x18b, Cause::NoSuchHandle),
            (0x185, Cause::HierarchyDisabled),
            (0x902, Cause::ObjectSlotsFull),
            (0x903, Cause::SessionSlotsFull),
            (0x100, Cause::NotStarted),
            (0x101, Cause::FailureMode),
            (0x1df, Cause::Integrity),
            (0x14b, Cause::NvSpace),
            (0x922, Cause::Busy),
            (0x128, Cause::PcrChanged),
            (0x2c3, Cause::Unsupported),
            (0x1c4, Cause::BadParameter),
            (0xa000a, Cause::Connection),
            (0xc0921, Cause::Lockout),
            (0xb0902, Cause::ObjectSlotsFull),
            (0x7001b, Cause::SessionBroken),
            (0x80001, Cause::Other),
        ] {
            assert_eq!(ResponseCode::new(raw).cause(), cause, "{raw:#x}");
        }
    }

    #[test]
    fn the_raw_code_leads_the_text() {
        let text = ResponseCode::new(0x921).to_string();
        assert_eq!(
            text,
            "0x921: the TPM is in lockout after too many failed authorizations"
        );
        assert!(Cause::Lockout.hint().unwrap().contains("tpm2_dictionarylockout"));
    }
}
