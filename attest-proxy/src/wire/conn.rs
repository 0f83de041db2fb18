//! A connection's state, shared between its bytes, its requests and its one timer.
//!
//! Owns: whether the framing is broken, whether the next request may be read, and since when the connection waits for what: [`Conn::due`] is the moment at which
//! it has waited too long. Nothing here sleeps; the listener does, once per connection.
//! All of it is single numbers that are read and written relaxed: a deadline may be seen one poll late.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use super::{Peer, vet::Violation};
use crate::config::Limits;

/// How long a client that was refused in the middle of sending is listened to. Closed at once, its system would throw
/// away the answer that it has not read yet.
const LINGER: Duration = Duration::from_secs(2);

/// What a client has taken too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// To end a head that it has begun.
    Head,
    /// To begin the next request.
    Idle,
    /// To take the bytes of an answer.
    Stall,
    /// To stop sending what was refused.
    Linger,
}

/// Where the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum At {
    Idle = 0,
    Head = 1,
    Body = 2,
}

/// A client's connection.
#[derive(Debug)]
pub struct Conn {
    opened: Instant,
    peer: Peer,
    multiplexed: bool,
    violation: OnceLock<Violation>,
    at: AtomicU8,
    /// Milliseconds after `opened` at which that began.
    since: AtomicU64,
    /// Milliseconds after `opened`, plus one, since which the client takes nothing; 0: it does.
    stalled: AtomicU64,
    /// Milliseconds after `opened`, plus one, since which we read only to be heard out; 0: we do not.
    lingering: AtomicU64,
    /// Requests that were begun to be answered, and those that were.
    asked: AtomicU32,
    answered: AtomicU32,
    /// Heads that the framing watch has seen to their end.
    heads: AtomicU32,
    /// Who holds the next request back until the last one was answered.
    waiting: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

/// A request that is being answered: the connection is not idle while this lives.
#[derive(Debug)]
pub struct Busy(Arc<Conn>);

impl Conn {
    /// A connection that speaks HTTP/1: one request after the other.
    #[must_use]
    pub fn one_by_one(peer: Peer) -> Arc<Self> {
        Arc::new(Self::new(peer, Instant::now(), false))
    }

    /// The same connection, which turned out to speak HTTP/2.
    #[must_use]
    pub fn multiplexed(&self) -> Arc<Self> {
        let state = Self::new(self.peer.clone(), self.opened, true);
        state.since.store(state.elapsed(), Ordering::Relaxed);
        Arc::new(state)
    }

    const fn new(peer: Peer, opened: Instant, multiplexed: bool) -> Self {
        Self {
            opened,
            peer,
            multiplexed,
            violation: OnceLock::new(),
            at: AtomicU8::new(At::Idle as u8),
            since: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            lingering: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            heads: AtomicU32::new(0),
            waiting: AtomicBool::new(false),
            waiter: Mutex::new(None),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// When it was accepted.
    #[must_use]
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// What was wrong with the framing, if anything.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// Marks the connection as busy until the guard is dropped: a request is being answered. Of HTTP/1, the framing watch
    /// has seen its head; if not, two parsers read these bytes in two ways, and it is refused.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if !self.multiplexed && nth != self.heads.load(Ordering::Relaxed) {
            self.violates(Violation::Disagreement);
        }
        Busy(Arc::clone(self))
    }

    /// At which moment the client will have taken too long, and for what. `None`: it owes us nothing now.
    #[must_use]
    pub fn due(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        let after = |millis: u64, limit: Duration| {
            self.opened
                .checked_add(Duration::from_millis(millis))?
                .checked_add(limit)
        };
        let stalled = self.stalled.load(Ordering::Relaxed);
        if stalled > 0 {
            return Some((
                after(stalled.saturating_sub(1), limits.write_stall)?,
                Overdue::Stall,
            ));
        }
        let lingering = self.lingering.load(Ordering::Relaxed);
        if lingering > 0 {
            return Some((after(lingering.saturating_sub(1), LINGER)?, Overdue::Linger));
        }
        let (limit, overdue) = match self.at.load(Ordering::Relaxed) {
            // Of one request after the other, the next head may take as long as the answer before it.
            at if at == At::Head as u8 && (self.multiplexed || !self.is_busy()) => {
                (limits.header_timeout, Overdue::Head)
            }
            at if at == At::Idle as u8 && !self.is_busy() => (limits.idle_timeout, Overdue::Idle),
            // While an answer is on its way, the client owes us nothing but to take it. A body has its own deadline, in
            // the service that reads it.
            _ => return None,
        };
        Some((after(self.since.load(Ordering::Relaxed), limit)?, overdue))
    }

    /// Since when nothing happens here: between two requests, and every byte of the last answer was taken.
    #[must_use]
    pub fn quiet_since(&self) -> Option<Instant> {
        let quiet = self.at.load(Ordering::Relaxed) == At::Idle as u8
            && self.stalled.load(Ordering::Relaxed) == 0
            && self.lingering.load(Ordering::Relaxed) == 0
            && !self.is_busy()
            && self.violation.get().is_none();
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        self.opened.checked_add(since).filter(|_| quiet)
    }

    fn is_busy(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != self.answered.load(Ordering::Relaxed)
    }

    /// The framing watch has seen so many heads to their end.
    pub(super) fn saw_heads(&self, heads: u32) {
        self.heads.store(heads, Ordering::Relaxed);
    }

    /// How many requests were answered to the last byte.
    pub(super) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Wakes `waiter` when the next one was.
    pub(super) fn when_answered(&self, waiter: &Waker) {
        let mut place = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *place {
            Some(before) => before.clone_from(waiter),
            None => *place = Some(waiter.clone()),
        }
        self.waiting.store(true, Ordering::Release);
    }

    /// Milliseconds since it was accepted.
    pub(super) fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn violates(&self, violation: Violation) {
        // The first one counts.
        let _ = self.violation.set(violation);
    }

    pub(super) fn enter(&self, at: At) {
        // The deadline counts from the phase's first byte, not from its last.
        if self.at.swap(at as u8, Ordering::Relaxed) != at as u8 {
            self.since.store(self.elapsed(), Ordering::Relaxed);
        }
    }

    pub(super) fn writes(&self, pending: bool) {
        if !pending {
            if self.stalled.load(Ordering::Relaxed) != 0 {
                self.stalled.store(0, Ordering::Relaxed);
            }
        } else if self.stalled.load(Ordering::Relaxed) == 0 {
            self.stalled
                .store(self.elapsed().saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(super) fn lingers(&self) {
        self.lingering
            .store(self.elapsed().saturating_add(1), Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let conn = &*self.0;
        conn.since.store(conn.elapsed(), Ordering::Relaxed);
        conn.answered.fetch_add(1, Ordering::Relaxed);
        if conn.waiting.load(Ordering::Relaxed) && conn.waiting.swap(false, Ordering::Acquire) {
            let waiter = conn.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Arc<Conn> {
        Conn::one_by_one(Peer::at([192, 0, 2, 1].into()))
    }

    #[test]
    fn a_request_that_was_not_seen_is_refused() {
        let one = conn();
        one.saw_heads(1);
        drop(one.busy());
        assert_eq!(one.violation(), None);
        drop(one.busy());
        assert_eq!(one.violation(), Some(Violation::Disagreement));
        // Streams are counted elsewhere.
        let many = conn().multiplexed();
        drop((many.busy(), many.busy()));
        assert_eq!(many.violation(), None);
    }

    #[test]
    fn who_waits_for_an_answer_is_woken_by_it() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let one = conn();
        one.saw_heads(1);
        let busy = one.busy();
        one.when_answered(&Arc::clone(&flag).into());
        one.when_answered(&Arc::clone(&flag).into());
        assert!(!flag.0.load(Ordering::SeqCst) && one.answered() == 0);
        drop(busy);
        assert!(flag.0.load(Ordering::SeqCst) && one.answered() == 1);
    }
}
