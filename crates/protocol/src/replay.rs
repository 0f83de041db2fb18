//! What was accepted lately: a replica's own memory against replays.
//!
//! Owns: the nonces of accepted evidence and of accepted request signatures, each for [`KEPT_FOR`], in bounded memory.
//! Refuses: what was accepted before, what was made before this replica started (it cannot know whether that was
//! used), what was made so long ago that it may have been forgotten (a head can be judged long before its body is
//! there; the clock may go on and be set back, and what it lived through is then refused), and anything at all while the
//! memory is full: it never forgets early to make room.
//! Called by the proxy, behind a lock, with values that are verified already, so a stranger cannot fill it.
//! Limits: each replica has its own, so N of them allow one request N times within the window. Times are whole
//! seconds: pass as `started_at` the first full second after the start, and serve from then on. A signature whose
//! client is ahead of our clock can outlive a restart by as much (at most 30 s).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::UnixTime;

use crate::{nonce::Nonce, signature::VerifiedSignature, spans::Spans};

/// How long a nonce is remembered: longer than anything is good.
pub const KEPT_FOR: Duration = Duration::from_secs(61);
/// How many are forgotten at most for one that is accepted: a second's thousands at one time would hold everyone up.
const FORGOTTEN_AT_ONCE: usize = 64;
/// Why a verified thing is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// This nonce of evidence was accepted before.
    #[error("this nonce was answered before")]
    NonceSeen,
    /// This nonce of a request signature was accepted before.
    #[error("this signed request was accepted before")]
    RequestSeen,
    /// Signed before this replica started.
    #[error("signed at {created}, before this proxy started at {started}")]
    BeforeStart {
        /// When it was signed.
        created: UnixTime,
        /// When this replica started.
        started: UnixTime,
    },
    /// The nonce of evidence is so old that its first use may be forgotten.
    #[error("the nonce was issued at {issued}, which is too long before {now}")]
    NonceLate {
        /// When it was issued.
        issued: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// The request was signed so long ago that its first use may be forgotten.
    #[error("signed at {created}, which is too long before {now}")]
    RequestLate {
        /// When it was signed.
        created: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// The memory is full.
    #[error("the memory of accepted requests is full")]
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Evidence([u8; 32]),
    /// Under the key of its session, so that one device cannot use up another's nonces.
    Request([u8; 32], [u8; 16]),
}

/// The memory of one replica.
#[derive(Debug)]
pub struct Seen {
    started_at: UnixTime,
    capacity: usize,
    known: BTreeSet<Entry>,
    /// By when each may be forgotten: sorted, since a clock that is set back must not keep what comes after.
    by_age: BTreeMap<UnixTime, Vec<Entry>>,
    /// By when that could be forgotten which was: a clock that is set back comes to it again.
    forgotten: Spans,
}

impl Seen {
    /// An empty memory for at most `capacity` entries (about 150 bytes each).
    #[must_use]
    pub const fn new(started_at: UnixTime, capacity: usize) -> Self {
        Self {
            started_at,
            capacity,
            known: BTreeSet::new(),
            by_age: BTreeMap::new(),
            forgotten: Spans::new(),
        }
    }

    /// Accepts the nonce of evidence that was verified.
    ///
    /// # Errors
    /// Accepted before, issued too long ago, or no room.
    pub fn accept_nonce(&mut self, nonce: &Nonce, now: UnixTime) -> Result<(), ReplayError> {
        let issued = nonce.issued_at();
        if now >= issued.plus(KEPT_FOR) || self.forgot(issued) {
            return Err(ReplayError::NonceLate { issued, now });
        }
        let entry = Entry::Evidence(*nonce.as_bytes());
        self.insert(entry, issued, now, ReplayError::NonceSeen)
    }

    /// Accepts a request whose signature was verified.
    ///
    /// # Errors
    /// Signed before the start, accepted before, signed too long ago, or no room.
    pub fn accept_signature(
        &mut self,
        signature: &VerifiedSignature,
        now: UnixTime,
    ) -> Result<(), ReplayError> {
        let created = signature.created();
        if created < self.started_at && now < self.started_at.plus(KEPT_FOR) {
            return Err(ReplayError::BeforeStart {
                created,
                started: self.started_at,
            });
        }
        if now >= created.plus(KEPT_FOR) || self.forgot(created) {
            return Err(ReplayError::RequestLate { created, now });
        }
        let entry = Entry::Request(*signature.public_key(), *signature.nonce());
        self.insert(entry, created, now, ReplayError::RequestSeen)
    }

    /// The start was at another time than was said: the clock was wrong then.
    pub const fn started(&mut self, at: UnixTime) {
        self.started_at = at;
    }

    /// How many entries are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Remembers what was made at `made` until nobody accepts it any more, whatever the client's clock says.
    fn insert(
        &mut self,
        entry: Entry,
        made: UnixTime,
        now: UnixTime,
        seen: ReplayError,
    ) -> Result<(), ReplayError> {
        self.forget(now);
        if self.known.len() >= self.capacity {
            let full = ReplayError::Full;
            return Err(if self.known.contains(&entry) { seen } else { full });
        }
        if !self.known.insert(entry) {
            return Err(seen);
        }
        let until = made.max(now).plus(KEPT_FOR);
        self.by_age.entry(until).or_default().push(entry);
        Ok(())
    }

    /// Whether what was made at `made` could have been here and be forgotten: the clock went forward and back again. What was
    /// accepted was so within [`KEPT_FOR`], and could be forgotten as long after.
    fn forgot(&self, made: UnixTime) -> bool {
        let first = made.plus(KEPT_FOR);
        self.forgotten.meet(first, first.plus(KEPT_FOR))
    }

    fn forget(&mut self, now: UnixTime) {
        let mut left = FORGOTTEN_AT_ONCE;
        while left > 0
            && let Some(mut oldest) = self.by_age.first_entry().filter(|oldest| *oldest.key() <= now)
        {
            self.forgotten.add(*oldest.key());
            let entries = oldest.get_mut();
            let keep = entries.len().saturating_sub(left);
            for entry in entries.drain(keep..) {
                self.known.remove(&entry);
                left = left.saturating_sub(1);
            }
            if entries.is_empty() {
                oldest.remove();
            }
        }
    }
}
