//! Who comes next when every server is full: a queue that is fair to devices, not to requests.
//!
//! Owns: the order, and the bounds on what waits (requests and bytes, of one device and of all). Pure: it knows no
//! clock, no server and no task; what waits is the caller's. The device with the fewest answers running comes first, and among
//! equals the one whose turn was longest ago, so that a device that filled every place with long answers is last in
//! line, and none of two like devices is served twice before the other. Within a device the order is that of coming,
//! but for requests that no free server can take yet.
//! An attacker with a key controls how much it asks for, and gains nothing by asking for more.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
};

use foldhash::fast::RandomState;

/// Bounds on what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests in all; 0: nobody waits.
    pub length: usize,
    /// Bytes of all their bodies.
    pub bytes: usize,
    /// Requests of one device.
    pub per_device: usize,
    /// Bytes of its bodies.
    pub per_device_bytes: usize,
}

/// Why a request cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// The queue has no room.
    #[error("the queue is full")]
    Overall,
    /// This device's part of it has none.
    #[error("as many requests of this device wait as may")]
    Device,
}

/// The place of one request in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What waits for a place, and how many places each device has.
#[derive(Debug)]
pub(super) struct FairQueue<K, T> {
    limits: QueueLimits,
    lines: BTreeMap<K, Line<T>>,
    running: HashMap<K, usize, RandomState>,
    len: usize,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// When it had its last turn, or began to wait.
    since: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: Ticket,
    bytes: usize,
    item: T,
}

impl<K: Ord + Hash + Clone, T> FairQueue<K, T> {
    /// An empty queue.
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            lines: BTreeMap::new(),
            running: HashMap::default(),
            len: 0,
            bytes: 0,
            clock: 0,
        }
    }

    /// Requests that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the bodies of those that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers of this device that are running.
    pub(super) fn running(&self, device: &K) -> usize {
        self.running.get(device).copied().unwrap_or(0)
    }

    /// An answer of this device begins without having waited.
    pub(super) fn begin(&mut self, device: &K) {
        match self.running.get_mut(device) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.running.insert(device.clone(), 1);
            }
        }
    }

    /// An answer of this device ended.
    pub(super) fn end(&mut self, device: &K) {
        if let Some(count) = self.running.get_mut(device) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.running.remove(device);
            }
        }
    }

    /// Other bounds from now on. Who waits already stays.
    pub(super) fn bound(&mut self, limits: QueueLimits) {
        self.limits = limits;
    }

    /// Lets a request wait, whose body has so many bytes.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub(super) fn join(&mut self, device: &K, bytes: usize, item: T) -> Result<Ticket, QueueFull> {
        let (waiting, held) = self
            .lines
            .get(device)
            .map_or((0, 0), |line| (line.waiting.len(), line.bytes));
        if self.len >= self.limits.length || self.bytes.saturating_add(bytes) > self.limits.bytes {
            return Err(QueueFull::Overall);
        }
        if waiting >= self.limits.per_device || held.saturating_add(bytes) > self.limits.per_device_bytes {
            return Err(QueueFull::Device);
        }
        let now = self.tick();
        let line = self.lines.entry(device.clone()).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            bytes: 0,
            since: now,
        });
        let ticket = Ticket(now);
        line.waiting.push_back(Waiting { ticket, bytes, item });
        line.bytes = line.bytes.saturating_add(bytes);
        self.len = self.len.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(ticket)
    }

    /// A request waits no longer. `None`: it had its turn already.
    pub(super) fn leave(&mut self, device: &K, ticket: Ticket) -> Option<T> {
        let line = self.lines.get(device)?;
        let at = line.waiting.iter().position(|w| w.ticket == ticket)?;
        self.take(device, at)
    }

    /// The next request for which `fit` finds something; it runs from now on.
    pub(super) fn next<F>(&mut self, mut fit: impl FnMut(&T) -> Option<F>) -> Option<(K, T, F)> {
        if self.len == 0 {
            return None;
        }
        let mut order: Vec<_> = self
            .lines
            .iter()
            .map(|(device, line)| (self.running(device), line.since, device))
            .collect();
        order.sort_unstable_by_key(|(running, since, _)| (*running, *since));
        let (device, at, found) = order.into_iter().find_map(|(_, _, device)| {
            let line = self.lines.get(device)?;
            let (at, found) = line
                .waiting
                .iter()
                .enumerate()
                .find_map(|(at, waiting)| fit(&waiting.item).map(|found| (at, found)))?;
            Some((device.clone(), at, found))
        })?;
        let item = self.take(&device, at)?;
        let now = self.tick();
        if let Some(line) = self.lines.get_mut(&device) {
            line.since = now;
        }
        self.begin(&device);
        Some((device, item, found))
    }

    fn take(&mut self, device: &K, at: usize) -> Option<T> {
        let line = self.lines.get_mut(device)?;
        let taken = line.waiting.remove(at)?;
        line.bytes = line.bytes.saturating_sub(taken.bytes);
        if line.waiting.is_empty() {
            self.lines.remove(device);
        }
        self.len = self.len.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(taken.bytes);
        Some(taken.item)
    }

    fn tick(&mut self) -> u64 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
