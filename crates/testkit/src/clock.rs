//! A clock that is turned by hand.
//!
//! Owns: one shared reading. The cores take `now` as an argument; what drives them in a test asks this clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::UnixTime;

/// A wall clock that stands still until it is turned. Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Stands at `time`.
    #[must_use]
    pub fn at(time: UnixTime) -> Self {
        Self(Arc::new(AtomicU64::new(time.as_secs())))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::SeqCst))
    }

    /// Turns it forward, in whole seconds, and returns what it shows then.
    pub fn advance(&self, by: Duration) -> UnixTime {
        let before = self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
        UnixTime::from_secs(before + by.as_secs())
    }

    /// Sets it, backwards too: a device without a battery wakes up in the past.
    pub fn set(&self, time: UnixTime) {
        self.0.store(time.as_secs(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(UnixTime::from_secs(1_767_225_600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_show_the_same_time() {
        let clock = ManualClock::default();
        let other = clock.clone();
        let start = clock.now();
        assert_eq!(
            other.advance(Duration::from_secs(61)),
            start.plus(Duration::from_secs(61))
        );
        assert_eq!(clock.now().since(start), Some(Duration::from_secs(61)));
        other.set(UnixTime::from_secs(5));
        assert_eq!(clock.now(), UnixTime::from_secs(5));
    }
}
