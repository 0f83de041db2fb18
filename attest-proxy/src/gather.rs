//! What many threads hand to one that writes, taken in heaps: a line costs its copy, neither a system call nor a thread's waking.
//!
//! Owns: when the writer wakes. While nothing comes it sleeps, and the first that comes wakes it. While more keeps coming, it looks every
//! [`EVERY`] at what has gathered, and nobody wakes it but who cannot wait so long.
//! Refuses: to hold up who hands something in: the lock is held for a copy, never while anything is written.
//! How much may wait is for the heap's owner to bound.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long what comes may gather while the writer is awake.
pub(crate) const EVERY: Duration = Duration::from_millis(5);

/// Whether something can wait for [`EVERY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// It can.
    None,
    /// The writer is to look now.
    Now,
}

/// The place where a heap gathers.
#[derive(Debug, Default)]
pub(crate) struct Gather<T> {
    inner: Mutex<Inner<T>>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Inner<T> {
    heap: T,
    /// Something came since the heap was taken.
    came: bool,
    /// Something had come when the heap was taken last: more is likely to.
    lately: bool,
    asleep: bool,
    rung: bool,
    closed: bool,
}

impl<T> Gather<T> {
    /// Lets `put` add to the heap; `None`: nobody takes it any more.
    pub(crate) fn put<R>(&self, haste: Haste, put: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        let result = put(&mut inner.heap);
        inner.came = true;
        let ring = !inner.rung && (inner.asleep || haste == Haste::Now);
        inner.rung |= ring;
        drop(inner);
        if ring {
            self.bell.notify_one();
        }
        Some(result)
    }

    /// Waits, no longer than `patience`, and gives what has gathered for `heap`, which is empty.
    pub(crate) fn take(&self, heap: &mut T, patience: Duration) {
        let mut inner = self.lock();
        if inner.lately {
            inner = self.wait(inner, patience.min(EVERY));
        } else if !inner.came {
            inner.asleep = true;
            inner = self.wait(inner, patience);
            inner.asleep = false;
        }
        inner.rung = false;
        inner.lately = mem::take(&mut inner.came);
        mem::swap(&mut inner.heap, heap);
    }

    /// Nobody takes anything any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner<T>>, patience: Duration) -> MutexGuard<'a, Inner<T>> {
        self.bell
            .wait_timeout_while(inner, patience, |inner| !inner.rung)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn everything_arrives_once_and_each_threads_in_its_order() {
        let gather = Arc::<Gather<Vec<(usize, usize)>>>::default();
        let each = 5_000;
        let hands: Vec<_> = (0..4)
            .map(|hand| {
                let gather = Arc::clone(&gather);
                std::thread::spawn(move || {
                    for nth in 0..each {
                        let haste = if nth % 1000 == 0 { Haste::Now } else { Haste::None };
                        gather.put(haste, |heap| heap.push((hand, nth))).unwrap();
                    }
                })
            })
            .collect();
        let (mut next, mut total) = ([0; 4], 0);
        while total < 4 * each {
            let mut heap = Vec::new();
            gather.take(&mut heap, LONG);
            total += heap.len();
            for (hand, nth) in heap {
                assert_eq!(next[hand], nth);
                next[hand] += 1;
            }
        }
        for hand in hands {
            hand.join().unwrap();
        }
        let mut heap = Vec::new();
        gather.take(&mut heap, Duration::ZERO);
        assert!(heap.is_empty());
    }

    #[test]
    fn what_comes_while_the_writer_is_awake_does_not_let_it_fall_asleep() {
        let gather = Gather::<Vec<u8>>::default();
        gather.put(Haste::None, |heap| heap.push(1));
        let mut heap = Vec::new();
        gather.take(&mut heap, LONG);
        assert_eq!(heap, [1]);
        heap.clear();
        // It looks once more, finds nothing, and something comes before it sleeps.
        gather.take(&mut heap, LONG);
        assert!(heap.is_empty());
        gather.put(Haste::None, |heap| heap.push(2));
        gather.take(&mut heap, LONG);
        assert_eq!(heap, [2]);
    }

    #[test]
    fn what_is_closed_takes_nothing() {
        let gather = Gather::<Vec<u8>>::default();
        gather.close();
        assert_eq!(gather.put(Haste::Now, |heap| heap.push(1)), None);
    }
}
