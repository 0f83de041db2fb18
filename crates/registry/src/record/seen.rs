//! What the proxies saw of a device last: counters of the last accepted quote.

use domain::UnixTime;
use serde::{Deserialize, Serialize};

use super::Version1;

/// The counters in the last accepted quote of a device, and when that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenRecord {
    /// Always 1.
    pub version: Version1,
    /// `resetCount` of `TPMS_CLOCK_INFO` (TPM 2.0 Library part 2, 10.11.1).
    pub reset_count: u32,
    /// `restartCount`.
    pub restart_count: u32,
    /// `clock`, in milliseconds of the TPM's own time.
    pub clock: u64,
    /// `safe`: recorded, never decisive.
    pub safe: bool,
    /// `firmwareVersion` of `TPMS_ATTEST`.
    pub firmware_version: u64,
    /// When the quote was accepted.
    pub at: UnixTime,
}
