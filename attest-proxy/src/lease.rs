//! The time for which a device may be answered.
//!
//! Owns: how a request that runs hears of another view of the registry. While nothing is new, it compares two numbers and leaves its
//! waker in a row; whoever brings a view wakes the row.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use slab::Slab;

use crate::{clock::Clock, follow::Follow, gate::Footing};

/// How many views there were, and who wants to hear of the next one.
#[derive(Debug, Default)]
pub(crate) struct News {
    number: AtomicU64,
    waiting: Mutex<Slab<Waker>>,
}

impl News {
    /// There is another view.
    pub(crate) fn tell(&self) {
        self.number.fetch_add(1, Ordering::Release);
        for (_, waker) in &*self.waiting() {
            waker.wake_by_ref();
        }
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    fn waiting(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request stands on: comes to its end when the registry says so.
pub struct Lease {
    follow: Arc<Follow>,
    footing: Footing,
    clock: Clock,
    /// By which view it was looked at last.
    seen: Option<u64>,
    /// Where its waker is.
    place: Option<usize>,
}

impl Lease {
    pub(crate) const fn new(follow: Arc<Follow>, footing: Footing, clock: Clock) -> Self {
        Self {
            follow,
            footing,
            clock,
            seen: None,
            place: None,
        }
    }

    /// Waits until it is over.
    pub async fn over(&mut self) {
        poll_fn(|cx| self.poll_over(cx)).await;
    }

    /// Whether it is over; wakes the task when it may be.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A view that comes after the number was read finds the waker in its place.
        self.wait(cx.waker());
        let number = self.follow.changes.number();
        if self.seen != Some(number) {
            self.seen = Some(number);
            if !self.follow.holds(&self.footing, self.clock.now()) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn wait(&mut self, waker: &Waker) {
        let mut waiting = self.follow.changes.waiting();
        match self.place.and_then(|place| waiting.get_mut(place)) {
            Some(before) => before.clone_from(waker),
            None => self.place = Some(waiting.insert(waker.clone())),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.follow.changes.waiting().try_remove(place);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}
