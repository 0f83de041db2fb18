//! Persistent handles for the AK.
//!
//! Owns: their range, that of the owner hierarchy (TPM 2.0 Library part 2, 7.5; TCG "Registry of Reserved TPM 2.0
//! Handles": 0x81000000 to 0x817fffff is the owner's, what is above the platform's).

use std::{fmt, str::FromStr};

/// Where the AK is persistent: 0x81000000 to 0x817fffff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AkHandle(u32);

/// Why a number or text is no handle for an AK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a persistent handle is 0x81000000 to 0x817fffff, and 0x81000001 is the storage root key's")]
pub struct InvalidHandle;

impl AkHandle {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for AkHandle {
    /// 0x81010020.
    fn default() -> Self {
        Self(0x8101_0020)
    }
}

impl TryFrom<u32> for AkHandle {
    type Error = InvalidHandle;

    fn try_from(handle: u32) -> Result<Self, InvalidHandle> {
        match handle {
            0x8100_0001 => Err(InvalidHandle),
            0x8100_0000..=0x817f_ffff => Ok(Self(handle)),
            _ => Err(InvalidHandle),
        }
    }
}

impl FromStr for AkHandle {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, InvalidHandle> {
        let digits = text.strip_prefix("0x").ok_or(InvalidHandle)?;
        if digits.len() != 8 {
            return Err(InvalidHandle);
        }
        u32::from_str_radix(digits, 16)
            .map_err(|_| InvalidHandle)
            .and_then(Self::try_from)
    }
}

impl fmt::Display for AkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_and_text() {
        assert_eq!("0x81010020".parse::<AkHandle>().unwrap(), AkHandle::default());
        assert_eq!(AkHandle::default().to_string(), "0x81010020");
        for bad in [
            "81010020",
            "0x8101002",
            "0x081010020",
            "0x80000000",
            "0x81000001",
            "0x81800000",
            "0x+1010020",
        ] {
            assert_eq!(bad.parse::<AkHandle>(), Err(InvalidHandle), "{bad}");
        }
    }
}
