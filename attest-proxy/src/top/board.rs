//! What runs now and who does how much: the figures behind `/top`.
//!
//! Owns: counters per device, which live as long as the device's place in the view, and the list of requests that are at an upstream.
//! Per-device figures are here and in logs, never in metrics. Counting takes no lock; a stream takes one of sixteen twice in its life.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use foldhash::fast::RandomState;

use crate::{account::RequestNumber, view::Device};

/// What one device did since this process knows it.
#[derive(Debug, Default)]
pub struct DeviceStats {
    /// Requests that were admitted.
    pub admitted: AtomicU64,
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Requests that are being answered.
    pub running: AtomicU64,
    /// Bytes of answers.
    pub bytes: AtomicU64,
    /// Tokens of prompts.
    pub prompt_tokens: AtomicU64,
    /// Tokens of answers.
    pub output_tokens: AtomicU64,
    /// Seconds since 1970 of the last request's end.
    pub last: AtomicU64,
}

/// A request at an upstream.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub request: RequestNumber,
    /// Whose.
    pub device: Arc<Device>,
    /// Which model.
    pub model: Option<Arc<str>>,
    /// Its path.
    pub path: Cow<'static, str>,
    /// Since when.
    pub since: Instant,
    /// Bytes of the answer so far.
    pub bytes: AtomicU64,
}

const SHARDS: usize = 16;

/// All requests at an upstream.
#[derive(Debug, Default)]
pub struct Board {
    shards: [Mutex<HashMap<u64, Arc<Stream>, RandomState>>; SHARDS],
}

impl Board {
    /// A request goes upstream.
    pub fn put(&self, number: u64, stream: &Arc<Stream>) {
        if let Some(shard) = self.shard(number) {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(number, Arc::clone(stream));
        }
    }

    /// It is over.
    pub fn take(&self, number: u64) {
        if let Some(shard) = self.shard(number) {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&number);
        }
    }

    /// Those that run, the oldest first.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.values().cloned().collect::<Vec<_>>()
            })
            .collect();
        all.sort_by_key(|stream| stream.since);
        all
    }

    fn shard(&self, number: u64) -> Option<&Mutex<HashMap<u64, Arc<Stream>, RandomState>>> {
        let at = usize::try_from(number & 0xff).ok()?;
        self.shards.get(at % SHARDS)
    }
}

impl DeviceStats {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
