//! The wall clock, read in one place.
//!
//! Owns: where `now` comes from. Everything else takes it as an argument.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use domain::UnixTime;

/// A source of time.
#[derive(Clone, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Another one, for tests.
    Other(Arc<dyn Fn() -> UnixTime + Send + Sync>),
}

impl Clock {
    /// What it shows, in whole seconds. A machine before 1970 is at 1970.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixTime::from_secs(since.as_secs())
            }
            Self::Other(now) => now(),
        }
    }

    /// The same in milliseconds since 1970, for what is written down.
    #[must_use]
    pub fn millis(&self) -> u64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Other(now) => now().as_secs().saturating_mul(1000),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Clock::System",
            Self::Other(_) => "Clock::Other",
        })
    }
}
