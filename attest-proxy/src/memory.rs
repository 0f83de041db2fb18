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
pub struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// What a body has taken.
#[derive(Debug)]
pub struct Share {
    used: Arc<AtomicUsize>,
    limit: usize,
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
        Self {
            used: Arc::default(),
            limit,
        }
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            used: Arc::clone(&self.used),
            limit: self.limit,
            taken: 0,
        }
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// There is not so much left; nothing was taken.
    pub fn take(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exhausted(self.limit));
        }
        self.taken = self.taken.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.taken, Ordering::Relaxed);
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
}
