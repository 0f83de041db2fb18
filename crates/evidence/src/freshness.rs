//! Freshness against the last accepted quote of the same AK: seven lines, the first that matches decides.
//!
//! Owns: the comparison of counters, after the qualifying data has tied the quote to a nonce of ours. Pure: who keeps
//! the last counters, and what a reboot ends, is the caller's business.
//! An attacker who owns the operating system can reset, restart and clear the TPM, and reorder quotes, but cannot make
//! the TPM sign counters that it does not have. Part 1, 36 "Timing Components".
//! `safe` is recorded and never decides.

use std::cmp::Ordering;

use crate::wire::ClockInfo;

/// A TPM's counters, as a quote states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// TPM Resets since TPM2_Clear: a reboot of the machine, or of the TPM alone.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last reset.
    pub restart_count: u32,
    /// Powered time of the TPM in milliseconds.
    pub clock: u64,
    /// Whether the TPM is sure that it never reported a greater `clock`.
    pub safe: bool,
}

impl From<ClockInfo> for Counters {
    fn from(info: ClockInfo) -> Self {
        Self {
            reset_count: info.reset_count,
            restart_count: info.restart_count,
            clock: info.clock,
            safe: info.safe,
        }
    }
}

/// How a quote follows the last accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// No quote of this AK was accepted before.
    First,
    /// Line 7: the same boot goes on.
    Continued,
    /// Line 2: the TPM was reset. Ends the sessions of before.
    Rebooted,
    /// Line 5: the TPM resumed or restarted, PCRs may have been zeroed meanwhile. Ends the sessions of before.
    Resumed,
}

/// Why a quote does not follow the last accepted one: it is older, or its TPM was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Line 1.
    #[error("the TPM's reset count went back from {last} to {now}")]
    ResetCount {
        /// Of the last accepted quote.
        last: u32,
        /// Of this quote.
        now: u32,
    },
    /// Line 3.
    #[error("the TPM's restart count went back from {last} to {now} without a reset")]
    RestartCount {
        /// Of the last accepted quote.
        last: u32,
        /// Of this quote.
        now: u32,
    },
    /// Line 4.
    #[error("the TPM's clock went back from {last} ms to {now} ms across a restart")]
    ClockAcrossRestart {
        /// Of the last accepted quote.
        last: u64,
        /// Of this quote.
        now: u64,
    },
    /// Line 6.
    #[error("the TPM's clock did not move on: {last} ms before, {now} ms now")]
    Clock {
        /// Of the last accepted quote.
        last: u64,
        /// Of this quote.
        now: u64,
    },
}

impl Counters {
    /// Compares with the last accepted quote's counters, if there was one.
    ///
    /// # Errors
    /// Lines 1, 3, 4 and 6.
    pub fn follow(&self, last: Option<&Self>) -> Result<Continuity, Stale> {
        let Some(last) = last else {
            return Ok(Continuity::First);
        };
        match self.reset_count.cmp(&last.reset_count) {
            Ordering::Less => Err(Stale::ResetCount {
                last: last.reset_count,
                now: self.reset_count,
            }),
            Ordering::Greater => Ok(Continuity::Rebooted),
            Ordering::Equal => self.follow_within_a_reset(last),
        }
    }

    /// Lines 3 to 7.
    fn follow_within_a_reset(&self, last: &Self) -> Result<Continuity, Stale> {
        let (before, now) = (last.clock, self.clock);
        match self.restart_count.cmp(&last.restart_count) {
            Ordering::Less => Err(Stale::RestartCount {
                last: last.restart_count,
                now: self.restart_count,
            }),
            Ordering::Greater if now < before => Err(Stale::ClockAcrossRestart { last: before, now }),
            Ordering::Greater => Ok(Continuity::Resumed),
            Ordering::Equal if now <= before => Err(Stale::Clock { last: before, now }),
            Ordering::Equal => Ok(Continuity::Continued),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reset_count: u32, restart_count: u32, clock: u64) -> Counters {
        Counters {
            reset_count,
            restart_count,
            clock,
            safe: true,
        }
    }

    fn after(now: Counters) -> Result<Continuity, Stale> {
        now.follow(Some(&at(5, 3, 1000)))
    }

    #[test]
    fn the_first_quote_follows_nothing() {
        assert_eq!(at(0, 0, 0).follow(None), Ok(Continuity::First));
    }

    #[test]
    fn line_1_a_lower_reset_count_is_stale_whatever_else_rose() {
        assert_eq!(after(at(4, 9, 9000)), Err(Stale::ResetCount { last: 5, now: 4 }));
    }

    #[test]
    fn line_2_a_higher_reset_count_is_a_reboot_whatever_else_fell() {
        assert_eq!(after(at(6, 0, 0)), Ok(Continuity::Rebooted));
        assert_eq!(after(at(6, 9, 9000)), Ok(Continuity::Rebooted));
    }

    #[test]
    fn line_3_a_lower_restart_count_is_stale() {
        assert_eq!(
            after(at(5, 2, 9000)),
            Err(Stale::RestartCount { last: 3, now: 2 })
        );
    }

    #[test]
    fn line_4_a_restart_with_a_lower_clock_is_stale() {
        let found = after(at(5, 4, 999));
        assert_eq!(found, Err(Stale::ClockAcrossRestart { last: 1000, now: 999 }));
    }

    #[test]
    fn line_5_a_restart_is_resumed() {
        assert_eq!(after(at(5, 4, 1000)), Ok(Continuity::Resumed));
        assert_eq!(after(at(5, 9, 1001)), Ok(Continuity::Resumed));
    }

    #[test]
    fn line_6_a_clock_that_stands_or_goes_back_is_stale() {
        for clock in [0, 999, 1000] {
            assert_eq!(
                after(at(5, 3, clock)),
                Err(Stale::Clock {
                    last: 1000,
                    now: clock
                })
            );
        }
    }

    #[test]
    fn line_7_a_later_clock_continues() {
        assert_eq!(after(at(5, 3, 1001)), Ok(Continuity::Continued));
    }

    #[test]
    fn safe_never_decides() {
        let unsafe_now = Counters {
            safe: false,
            ..at(5, 3, 1001)
        };
        assert_eq!(after(unsafe_now), Ok(Continuity::Continued));
        let unsafe_stale = Counters {
            safe: false,
            ..at(5, 3, 1000)
        };
        assert!(after(unsafe_stale).is_err());
    }
}
