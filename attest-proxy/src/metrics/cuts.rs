//! Why connections and answers ended before their time: two closed sets of words.
//!
//! Owns: the words, and a counter for each. What a client may do at any time (close, send nothing more) is no cut.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use protocol::Refusal;

use super::text::Text;
use crate::wire::Overdue;

/// Why we ended a client's connection, or one stream of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It should begin with a PROXY header, and did not, or not in time.
    ProxyHeader,
    /// No TLS, or not in time.
    Handshake,
    /// A head did not end in time.
    Head,
    /// No request in time.
    Idle,
    /// The bytes of an answer were not taken in time.
    WriteStall,
    /// What was refused went on coming.
    Linger,
    /// What came is no HTTP.
    Malformed,
    /// Frames of HTTP/2 that move nothing, or a head without an end.
    Flood,
    /// One stream of HTTP/2 whose answer was not taken in time; its connection goes on.
    StreamStall,
}

/// Why an admitted answer ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerCut {
    /// The upstream broke it off.
    UpstreamFailed,
    /// The upstream fell silent.
    UpstreamTimeout,
    /// The device's tokens of the day were used up.
    BudgetSpent,
    /// The device may be used no longer.
    Revoked,
    /// The client left.
    ClientLeft,
}

impl Cut {
    const ALL: [Self; 9] = [
        Self::ProxyHeader,
        Self::Handshake,
        Self::Head,
        Self::Idle,
        Self::WriteStall,
        Self::Linger,
        Self::Malformed,
        Self::Flood,
        Self::StreamStall,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy-header",
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::WriteStall => "write-stall",
            Self::Linger => "linger",
            Self::Malformed => "malformed",
            Self::Flood => "flood",
            Self::StreamStall => "stream-stall",
        }
    }
}

impl From<Overdue> for Cut {
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::Head => Self::Head,
            Overdue::Idle => Self::Idle,
            Overdue::Stall => Self::WriteStall,
            Overdue::Linger => Self::Linger,
        }
    }
}

impl AnswerCut {
    const ALL: [Self; 5] = [
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::BudgetSpent,
        Self::Revoked,
        Self::ClientLeft,
    ];

    /// Of an answer that broke off for this reason, or whose last byte was taken or not.
    pub(super) const fn of(broken: Option<Refusal>, complete: bool) -> Option<Self> {
        match broken {
            Some(Refusal::UpstreamTimeout) => Some(Self::UpstreamTimeout),
            Some(Refusal::BudgetSpent) => Some(Self::BudgetSpent),
            Some(Refusal::PskUnknown) => Some(Self::Revoked),
            Some(_) => Some(Self::UpstreamFailed),
            None if complete => None,
            None => Some(Self::ClientLeft),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamFailed => "upstream-failed",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::BudgetSpent => "budget-spent",
            Self::Revoked => "revoked",
            Self::ClientLeft => "client-left",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    connections: [AtomicU64; Cut::ALL.len()],
    answers: [AtomicU64; AnswerCut::ALL.len()],
}

impl Cuts {
    pub(super) fn connection(&self, why: Cut) {
        count(&self.connections, why as usize);
    }

    pub(super) fn answer(&self, why: AnswerCut) {
        count(&self.answers, why as usize);
    }

    /// Those of answers that ever were.
    pub(super) fn answers(&self) -> Vec<(String, u64)> {
        let all = AnswerCut::ALL.iter().zip(&self.answers);
        all.map(|(why, counter)| (why.as_str().to_owned(), counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    pub(super) fn write(&self, text: &mut Text<'_>) -> fmt::Result {
        let name = "connections_cut_total";
        let help = "Client connections, and single streams, that the proxy ended, by why.";
        text.family(name, "counter", help)?;
        for (why, counter) in Cut::ALL.iter().zip(&self.connections) {
            let labels = format!("reason=\"{}\"", why.as_str());
            text.sample(name, &labels, counter.load(Ordering::Relaxed))?;
        }
        let name = "answers_cut_total";
        text.family(
            name,
            "counter",
            "Admitted answers that ended before their end, by why.",
        )?;
        for (why, counter) in AnswerCut::ALL.iter().zip(&self.answers) {
            let labels = format!("reason=\"{}\"", why.as_str());
            text.sample(name, &labels, counter.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

fn count(counters: &[AtomicU64], nth: usize) {
    if let Some(counter) = counters.get(nth) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_as_listed_and_differ() {
        assert!(Cut::ALL.iter().enumerate().all(|(nth, why)| *why as usize == nth));
        assert!(
            AnswerCut::ALL
                .iter()
                .enumerate()
                .all(|(nth, why)| *why as usize == nth)
        );
        let words: std::collections::HashSet<_> = Cut::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(words.len(), Cut::ALL.len());
    }

    #[test]
    fn an_answer_that_came_whole_was_not_cut() {
        assert_eq!(AnswerCut::of(None, true), None);
        assert_eq!(AnswerCut::of(None, false), Some(AnswerCut::ClientLeft));
        // Ended with an error object, which was taken: cut all the same.
        assert_eq!(
            AnswerCut::of(Some(Refusal::UpstreamTimeout), true),
            Some(AnswerCut::UpstreamTimeout)
        );
        assert_eq!(
            AnswerCut::of(Some(Refusal::PskUnknown), false),
            Some(AnswerCut::Revoked)
        );
        assert_eq!(
            AnswerCut::of(Some(Refusal::BudgetSpent), true),
            Some(AnswerCut::BudgetSpent)
        );
        assert_eq!(
            AnswerCut::of(Some(Refusal::UpstreamFailed), false),
            Some(AnswerCut::UpstreamFailed)
        );
    }
}
