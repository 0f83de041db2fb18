//! Whether a server is asked: what its failures and its answers to probes say of it. Pure; the time comes in.
//!
//! Owns: ejection after failures in a row, for a time that doubles, and the one request that tries whether it is well
//! again. A probe that finds a server gone takes it out as well, and one that finds it back lets it in at once.
//! A probe that succeeds does not forgive failures of requests: a server can say its version and no more.
//! Requests that time out or break off count, because they are what clients see; a device could cause some on purpose
//! (a prompt that takes for ever). They count only in a row, and any answer to anyone ends the row.
//! Answers that begin and then break off or fall silent are a row of their own, which only an answer that came whole ends: a
//! server whose answers all begin well and all break would never be found otherwise.

use std::time::{Duration, Instant};

/// Failures in a row that take a server out.
pub(super) const STRIKES: u32 = 3;
/// Probes that fail in a row until a server is held to be gone.
pub(super) const SILENT: u32 = 2;
/// How long a server is out, first and at the longest.
const OUT: Duration = Duration::from_secs(1);
const LONGEST_OUT: Duration = Duration::from_secs(60);

/// What is held of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is asked.
    #[default]
    Well,
    /// Its requests failed; it is asked nothing for a while.
    Ejected,
    /// One request tries whether it is well again.
    Trial,
    /// It does not answer probes.
    Gone,
}

impl Standing {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Well, Self::Ejected, Self::Trial, Self::Gone];

    /// One word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Ejected => "ejected",
            Self::Trial => "trial",
            Self::Gone => "gone",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Health {
    strikes: u32,
    /// Answers in a row that broke after they had begun.
    breaks: u32,
    /// Ejections in a row.
    level: u32,
    state: State,
    missed_probes: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    In,
    Out {
        until: Instant,
    },
    Trial,
}

impl Health {
    /// Whether there is nothing to remember.
    pub(super) fn is_clean(&self) -> bool {
        self.strikes == 0 && self.breaks == 0 && self.missed_probes == 0 && self.state == State::In
    }

    pub(super) fn standing(&self) -> Standing {
        match self.state {
            _ if self.missed_probes >= SILENT => Standing::Gone,
            State::In => Standing::Well,
            State::Out { .. } => Standing::Ejected,
            State::Trial => Standing::Trial,
        }
    }

    /// Whether a request may go there at `now`.
    pub(super) fn may(&self, now: Instant) -> bool {
        self.missed_probes < SILENT
            && match self.state {
                State::In => true,
                State::Out { until } => now >= until,
                State::Trial => false,
            }
    }

    /// A request goes there.
    pub(super) fn chosen(&mut self) {
        if let State::Out { .. } = self.state {
            self.state = State::Trial;
        }
    }

    /// It began to answer a request.
    pub(super) fn answered(&mut self) {
        self.strikes = 0;
        // What was sent before the ejection says nothing of now.
        if !matches!(self.state, State::Out { .. }) {
            self.state = State::In;
            if self.breaks == 0 {
                self.level = 0;
            }
        }
    }

    /// An answer came whole.
    pub(super) fn finished(&mut self) {
        self.breaks = 0;
        if self.state == State::In {
            self.level = 0;
        }
    }

    /// An answer broke off, or fell silent, after it had begun.
    pub(super) fn broke(&mut self, now: Instant) {
        // After an ejection for this, the next one that breaks is enough.
        self.breaks = self.breaks.saturating_add(1);
        if self.breaks >= STRIKES && !matches!(self.state, State::Out { .. }) {
            self.eject(now);
        }
    }

    /// A request failed on it.
    pub(super) fn failed(&mut self, now: Instant) {
        self.strikes = self.strikes.saturating_add(1);
        let out = match self.state {
            State::In => self.strikes >= STRIKES,
            State::Trial => true,
            State::Out { .. } => false,
        };
        if out {
            self.eject(now);
        }
    }

    fn eject(&mut self, now: Instant) {
        let doubled = OUT.saturating_mul(1_u32.checked_shl(self.level).unwrap_or(u32::MAX));
        self.state = State::Out {
            until: now.checked_add(doubled.min(LONGEST_OUT)).unwrap_or(now),
        };
        self.level = self.level.saturating_add(1).min(16);
    }

    /// The request that went there was given up before it said anything of the server.
    pub(super) fn given_up(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Out { until: now };
        }
    }

    /// A probe was answered.
    pub(super) fn probed(&mut self) {
        if self.missed_probes >= SILENT {
            // Another process than the one that failed, most likely.
            *self = Self::default();
        }
        self.missed_probes = 0;
    }

    /// A probe was not answered.
    pub(super) fn missed(&mut self) {
        self.missed_probes = self.missed_probes.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn ejected() -> Health {
        let mut health = Health::default();
        for _ in 0..STRIKES {
            health.failed(after(0));
        }
        health
    }

    #[test]
    fn failures_in_a_row_eject_and_others_do_not() {
        let mut health = Health::default();
        for _ in 0..10 {
            health.failed(after(0));
            health.failed(after(0));
            assert!(health.may(after(0)) && !health.is_clean());
            health.answered();
        }
        assert!(health.is_clean());
        assert_eq!(ejected().standing(), Standing::Ejected);
        assert!(!ejected().may(after(0)));
    }

    #[test]
    fn one_request_tries_and_its_end_decides() {
        let mut health = ejected();
        assert!(health.may(after(1)));
        health.chosen();
        assert_eq!(health.standing(), Standing::Trial);
        assert!(!health.may(after(100)), "one at a time");
        health.failed(after(1));
        // Twice as long as before.
        assert!(!health.may(after(2)) && health.may(after(3)));
        health.chosen();
        health.given_up(after(3));
        assert!(
            health.may(after(3)),
            "a client that left says nothing of the server"
        );
        health.chosen();
        health.answered();
        assert_eq!(health.standing(), Standing::Well);
        assert!(health.is_clean());
        for _ in 0..STRIKES {
            health.failed(after(9));
        }
        assert!(health.may(after(10)), "the time begins at its shortest again");
    }

    #[test]
    fn the_time_out_has_an_end() {
        let mut health = ejected();
        for _ in 0..80 {
            health.chosen();
            health.failed(after(0));
        }
        assert!(!health.may(after(59)) && health.may(after(60)));
    }

    #[test]
    fn an_answer_from_before_the_ejection_ends_it_not() {
        let mut health = ejected();
        health.answered();
        assert!(!health.may(after(0)));
    }

    #[test]
    fn answers_that_begin_and_break_eject_until_one_comes_whole() {
        let mut health = Health::default();
        for _ in 0..10 {
            for _ in 1..STRIKES {
                health.answered();
                health.broke(after(0));
            }
            assert!(health.may(after(0)) && !health.is_clean());
            health.answered();
            health.finished();
        }
        assert!(health.is_clean());
        for _ in 0..STRIKES {
            health.answered();
            health.broke(after(0));
        }
        assert_eq!(health.standing(), Standing::Ejected);
        // Those that ran beside them and broke as well do not make it longer.
        health.broke(after(0));
        assert!(!health.may(after(0)) && health.may(after(1)));
        // It begins to answer: others may go there too; it breaks again: out, for twice as long.
        health.chosen();
        health.answered();
        assert_eq!(health.standing(), Standing::Well);
        health.broke(after(1));
        assert!(!health.may(after(2)) && health.may(after(3)));
        health.chosen();
        health.answered();
        health.finished();
        assert!(health.is_clean());
        for _ in 0..STRIKES {
            health.broke(after(9));
        }
        assert!(health.may(after(10)), "the time begins at its shortest again");
    }

    #[test]
    fn a_server_that_is_gone_comes_back_at_once() {
        let mut health = ejected();
        health.missed();
        assert_ne!(health.standing(), Standing::Gone, "one probe can be lost");
        health.probed();
        assert_eq!(
            health.standing(),
            Standing::Ejected,
            "its version is not an answer to a request"
        );
        health.missed();
        health.missed();
        assert_eq!(health.standing(), Standing::Gone);
        assert!(!health.may(after(1000)));
        health.probed();
        assert!(health.may(after(0)) && health.is_clean());
    }

    #[test]
    fn every_standing_has_its_word() {
        let words = Standing::ALL.map(Standing::as_str);
        assert_eq!(words, ["well", "ejected", "trial", "gone"]);
    }
}
