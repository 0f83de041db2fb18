//! How far a long operation is, and how it is ended early.
//!
//! Owns: counting. Rate and time left are the caller's to work out: this crate knows no clock.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

/// Told how many bytes are done, by all workers at once and in no strict order; [`ControlFlow::Break`] ends the operation.
///
/// Every closure of that shape is one.
pub trait Progress: Sync {
    /// `done` of `total` bytes are done.
    fn advanced(&self, done: u64, total: u64) -> ControlFlow<()>;
}

impl<F: Fn(u64, u64) -> ControlFlow<()> + Sync> Progress for F {
    fn advanced(&self, done: u64, total: u64) -> ControlFlow<()> {
        self(done, total)
    }
}

/// Nobody wants to know.
impl Progress for () {
    fn advanced(&self, _done: u64, _total: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The operation was ended by its [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cancelled;

/// The sum of what all workers did.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    done: AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(crate) const fn new(progress: &'a dyn Progress, total: u64) -> Self {
        Self {
            progress,
            done: AtomicU64::new(0),
            total,
        }
    }

    pub(crate) fn add(&self, bytes: u64) -> Result<(), Cancelled> {
        let done = self
            .done
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        match self.progress.advanced(done, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cancelled),
        }
    }
}
