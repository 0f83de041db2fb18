//! The system's clock and random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::UnixTime;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::ports::{Clock, Entropy, NoEntropy};

pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UnixTime::from_secs(since.map_or(0, |d| d.as_secs()))
    }
}

/// The kernel's generator (`getrandom`), through ring.
pub(super) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, room: &mut [u8]) -> Result<(), NoEntropy> {
        SystemRandom::new().fill(room).map_err(|_| NoEntropy)
    }
}
