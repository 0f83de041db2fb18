//! The memory that bodies may take, all of them together.
//!
//! Owns: one number. A [`Share`] of it is taken piece by piece, as a body comes true, and given back when it is dropped.
//! An attacker with a key controls how many bodies come at once and how large they are; without a key, none is read.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What there is, in bytes.
#[derive(Debug)]
pub struct Budget(Arc<Bytes>);

#[derive(Debug)]
struct Bytes {
    used: AtomicUsize,
    limit: AtomicUsize,
}

/// What a body has taken.
#[derive(Debug)]
pub struct Share {
    of: Arc<Bytes>,
    taken: usize,
}

/// All of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all bodies together would have more than {0} bytes")]
pub struct Exhausted(pub usize);

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Bytes {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        }))
    }

    /// Makes it another size from now on. What is taken stays taken.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            of: Arc::clone(&self.0),
            taken: 0,
        }
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// There is not so much left; nothing was taken.
    pub fn take(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let limit = self.of.limit.load(Ordering::Relaxed);
        let before = self.of.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            self.of.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exhausted(limit));
        }
        self.taken = self.taken.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.take(60).unwrap();
        assert_eq!(other.take(41), Err(Exhausted(100)));
        other.take(40).unwrap();
        assert_eq!((one.take(1), budget.used()), (Err(Exhausted(100)), 100));
        drop(one);
        other.take(60).unwrap();
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn another_size_holds_from_the_next_piece_on() {
        let budget = Budget::new(100);
        let mut share = budget.share();
        share.take(80).unwrap();
        budget.resize(50);
        assert_eq!((share.take(1), budget.used()), (Err(Exhausted(50)), 80));
        budget.resize(90);
        share.take(10).unwrap();
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
