//! The wall clock, read in one place.
//!
//! Owns: where `now` comes from. Everything else takes it as an argument.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

    /// The same more finely, for what is written down.
    #[must_use]
    pub fn moment(&self) -> Moment {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Moment(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
            Self::Other(now) => Moment(now().as_secs().saturating_mul(MICROS)),
        }
    }

    /// In milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> u64 {
        self.moment().millis()
    }
}

/// Microseconds of a second.
const MICROS: u64 = 1_000_000;

/// What the wall clock showed, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So many after 1970 began.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// Whole seconds.
    #[must_use]
    pub const fn time(self) -> UnixTime {
        UnixTime::from_secs(self.0 / MICROS)
    }
}

/// By how far a clock may have been ahead at the start: further ahead it was wrong, and what it showed is no bound.
const AHEAD: Duration = Duration::from_secs(3600);

/// When this process started, from which on it knows what it accepted. What was made before is refused, by the wall clock: it
/// could have been accepted by the process before. A wall clock that was hours ahead at the start and was set right
/// since would shut everybody out until it is there again; then the monotonic clock says when the start was.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    shown: UnixTime,
    at: Instant,
}

impl Start {
    /// Now, or with the first second that has not begun: times are whole seconds, and what is made in the running one may be from before.
    #[must_use]
    pub fn of(clock: &Clock) -> Self {
        let now = clock.now();
        Self {
            shown: match clock {
                Clock::System => now.plus(Duration::from_secs(1)),
                Clock::Other(_) => now,
            },
            at: Instant::now(),
        }
    }

    /// What the clock showed then.
    #[must_use]
    pub const fn shown(&self) -> UnixTime {
        self.shown
    }

    /// When it was, where the clock shows `now`.
    #[must_use]
    pub fn by(&self, now: UnixTime) -> UnixTime {
        if self.shown <= now.plus(AHEAD) {
            return self.shown;
        }
        let since = self.at.elapsed().as_secs();
        UnixTime::from_secs(now.as_secs().saturating_sub(since).saturating_add(1))
    }

    /// Whether the first whole second has begun. A clock that is set back within it does not make it longer.
    #[must_use]
    pub fn is_over(&self, clock: &Clock) -> bool {
        match clock {
            Clock::System => clock.now() >= self.shown || self.at.elapsed() >= Duration::from_secs(1),
            Clock::Other(_) => true,
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_start_by_a_clock_far_ahead_is_none_once_it_is_set_right() {
        let shown = Arc::new(AtomicU64::new(1_000_000));
        let read = Arc::clone(&shown);
        let clock = Clock::Other(Arc::new(move || {
            UnixTime::from_secs(read.load(Ordering::Relaxed))
        }));
        let start = Start::of(&clock);
        let by = |now: u64| start.by(UnixTime::from_secs(now)).as_secs();
        assert_eq!(by(1_000_000), 1_000_000);
        // Forward, and back within the hour: what was shown counts.
        assert_eq!(by(9_000_000), 1_000_000);
        assert_eq!(by(1_000_000 - 3600), 1_000_000);
        // Further back it was wrong: the start was moments ago.
        assert!((900_000..=900_001).contains(&by(900_000)));
        assert_eq!(by(0), 1);
        assert!(start.is_over(&clock));
    }

    #[test]
    fn the_first_second_ends_by_either_clock() {
        let start = Start {
            shown: Clock::System.now().plus(Duration::from_secs(500)),
            at: Instant::now(),
        };
        assert!(!start.is_over(&Clock::System));
        let early = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert!(Start { at: early, ..start }.is_over(&Clock::System));
    }
}
