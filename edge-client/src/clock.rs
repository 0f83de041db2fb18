//! The proxy's clock, as far as we know it. A Raspberry Pi has none of its own.
//!
//! Owns: what `now` is after a challenge told the proxy's time: that time and what a monotonic clock counted since.

use std::time::{Duration, Instant};

use domain::UnixTime;

/// The proxy's time at one moment of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerClock {
    told: UnixTime,
    at: Instant,
}

impl ServerClock {
    /// The proxy said `told` in an answer that arrived at `at`.
    pub(crate) const fn new(told: UnixTime, at: Instant) -> Self {
        Self { told, at }
    }

    /// The proxy's time at `instant`.
    pub(crate) fn at(&self, instant: Instant) -> UnixTime {
        self.told.plus(instant.saturating_duration_since(self.at))
    }

    /// How far `local` is from the proxy's time at `instant`.
    pub(crate) fn distance(&self, instant: Instant, local: UnixTime) -> Duration {
        self.at(instant).distance(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_was_told() {
        let start = Instant::now();
        let clock = ServerClock::new(UnixTime::from_secs(1000), start);
        assert_eq!(clock.at(start).as_secs(), 1000);
        let later = start + Duration::from_millis(90_900);
        assert_eq!(clock.at(later).as_secs(), 1090);
        assert_eq!(clock.distance(later, UnixTime::from_secs(1000)).as_secs(), 90);
        assert_eq!(clock.distance(start, UnixTime::from_secs(1007)).as_secs(), 7);
    }
}
