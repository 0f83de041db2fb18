//! Why nothing was derived: the firmware's reasons, the nvmem file's, and both.

use std::{io, path::PathBuf};

/// What the firmware says about its last failure (`RPI_FW_CRYPTO_STATUS` of `rpifwcrypto.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 2: it does not understand the request.
    #[error("the request is invalid")]
    Invalid,
    /// 3: no key has this id. Ids begin at 1.
    #[error("there is no key with this id")]
    NoSuchKey,
    /// 4: the use is locked until the next reboot.
    #[error("the key is locked until the next reboot")]
    Locked,
    /// 5: the OTP rows cannot be read.
    #[error("the OTP rows cannot be read")]
    Unreadable,
    /// 6: all zeros.
    #[error("the key was never programmed")]
    NotProgrammed,
    /// 7: not an ECDSA P-256 key.
    #[error("the key is not a P-256 private key")]
    NotAScalar,
    /// 8: this firmware does not do it.
    #[error("this firmware cannot do it")]
    NotSupported,
    /// 9: the computation failed.
    #[error("the computation failed")]
    Failed,
    /// Anything else.
    #[error("firmware error {0}")]
    Other(u32),
}

impl Refusal {
    pub(crate) const fn of(code: u32) -> Self {
        match code {
            2 => Self::Invalid,
            3 => Self::NoSuchKey,
            4 => Self::Locked,
            5 => Self::Unreadable,
            6 => Self::NotProgrammed,
            7 => Self::NotAScalar,
            8 => Self::NotSupported,
            9 => Self::Failed,
            other => Self::Other(other),
        }
    }
}

/// Why the firmware gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The mailbox device is not there, may not be opened, or fails.
    #[error("the firmware's mailbox fails")]
    Mailbox(#[source] io::Error),
    /// The firmware does not know the tag: it is too old.
    #[error("this firmware does not answer the tag {0:#010x}")]
    Unanswered(u32),
    /// The whole answer is stamped with something else than success.
    #[error("the firmware's response code is {0:#010x}")]
    Response(u32),
    /// The answer is shorter or longer than it can be.
    #[error("the firmware's answer to the tag {tag:#010x} has {len} bytes")]
    Length {
        /// The tag.
        tag: u32,
        /// What the answer says of its own length.
        len: u32,
    },
    /// The answer to another tag.
    #[error("the firmware answers another tag, {0:#010x}")]
    OtherTag(u32),
    /// It refuses, and says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key is none that is unique to this device, or was never programmed.
    #[error("the key is not marked as this device's private key")]
    NotTheDeviceKey,
    /// Locks were set, and are not in force afterwards.
    #[error("the firmware did not take the locks")]
    LocksIgnored,
    /// A message that the firmware has no room for, in bytes.
    #[error("a message has 1 to 2048 bytes, not {0}")]
    MessageSize(usize),
}

impl FirmwareError {
    /// Whether there is no firmware cryptography here at all, as opposed to one that refuses.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Mailbox(source) => source.kind() == io::ErrorKind::NotFound,
            Self::Unanswered(_) | Self::Refused(Refusal::NotSupported) => true,
            _ => false,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mailbox(_) => Some("is this a Raspberry Pi, and may this user open /dev/vcio?"),
            Self::Unanswered(_) | Self::Refused(Refusal::NotSupported) => Some("update the bootloader"),
            Self::Refused(Refusal::NotProgrammed) | Self::NotTheDeviceKey => {
                Some("program the device key once, for good: `rpi-fw-crypto genkey --key-id 1 --alg ec`")
            }
            Self::Refused(Refusal::Locked) => Some("only a reboot takes the lock away"),
            _ => None,
        }
    }
}

/// Why the raw key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NvmemError {
    /// There is none, or it may not be read: `lock_device_private_key=1` is meant to do that.
    #[error("cannot read the raw key from '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not the length of a key.
    #[error("the raw key has {0} bytes instead of 32")]
    Length(usize),
    /// All zeros.
    #[error("the key was never programmed")]
    NotProgrammed,
    /// The firmware would refuse it; a volume of it could never move to a newer firmware.
    #[error("the key is not a P-256 private key")]
    NotAScalar,
}

/// Why no secret was derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The firmware, and there was no reason or permission to go around it.
    #[error("the firmware does not derive the volume's secret")]
    Firmware(#[from] FirmwareError),
    /// The firmware has no cryptography, and the raw key is of no use either.
    #[error("the firmware has no cryptography ({firmware}), and the raw key is of no use")]
    Fallback {
        /// Why the firmware did not do it.
        firmware: FirmwareError,
        /// Why its stand-in did not.
        #[source]
        nvmem: NvmemError,
    },
    /// ring refuses to expand 32 bytes, which it never does.
    #[error("the secret cannot be expanded")]
    Expand,
}

impl DeriveError {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Firmware(error) => error.hint(),
            Self::Fallback { firmware, nvmem } => match nvmem {
                NvmemError::NotProgrammed => FirmwareError::NotTheDeviceKey.hint(),
                _ => firmware.hint(),
            },
            Self::Expand => None,
        }
    }
}
