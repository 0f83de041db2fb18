//! Wall-clock time as the protocol counts it.
//!
//! Owns: whole seconds since 1970-01-01T00:00:00Z. Nobody here reads a clock: `now` is always an argument.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// `seconds` after the epoch.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds after the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time and `duration` more, in whole seconds; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// How long ago `earlier` was; `None` when it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        }
    }

    /// The distance between two times, whichever is first.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        let t = UnixTime::from_secs(100);
        assert_eq!(t.plus(Duration::from_secs(5)), UnixTime::from_secs(105));
        assert_eq!(
            UnixTime::from_secs(u64::MAX)
                .plus(Duration::from_secs(1))
                .as_secs(),
            u64::MAX
        );
        assert_eq!(t.since(UnixTime::from_secs(40)), Some(Duration::from_secs(60)));
        assert_eq!(t.since(UnixTime::from_secs(101)), None);
        assert_eq!(t.distance(UnixTime::from_secs(130)), Duration::from_secs(30));
    }
}
