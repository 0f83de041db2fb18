//! The audit log: every decision, one JSON line each, in a chain that shows what was changed or left out.
//!
//! Owns: the queue between requests and the thread that writes, and what happens when it cannot: requests are refused
//! (`on-failure = "refuse"`), or go on and are counted (`"drop"`). A request takes its place in the queue before it is decided, so that
//! none is admitted that could not be written down.
//! Refuses: to wait on the hot path, unless the operator wants every line on the disk before its request is forwarded.
//! Limits today: whoever can write the file can cut whole lines off its end; the last sequence number is a metric, so that Prometheus
//! remembers it elsewhere. A root on this host has the fleet's key and can forge all of it.

mod chain;
mod event;
mod file;
pub mod verify;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use domain::FleetName;
use tokio::sync::oneshot;

pub use event::{Decision, End, What};

use crate::{
    clock::{Clock, Moment},
    config::{AuditSettings, OnFailure},
    gather::{Gather, Haste},
    keys::StorageKeys,
    line,
};
use writer::{Heap, Writer};

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or read.
    #[error("cannot open the audit log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("the audit log {} is written by another process\nhint: each replica has a file of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is not an audit log.
    #[error("{} does not end as an audit log does\nhint: see `attest-proxy audit verify`, and move the file away", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The first line cannot be written.
    #[error("cannot write the audit log {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the audit log's thread: {0}")]
    Thread(io::Error),
}

/// The way to the audit log.
pub struct Audit {
    settings: AuditSettings,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    queue: Arc<Gather<Heap>>,
}

/// A place in the queue: one line that can be written.
#[derive(Debug)]
pub struct Place(Option<Arc<Shared>>);

impl Place {
    /// A line has it now, until that is written.
    fn give(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.free(1);
        }
    }
}

/// What requests and the writer both know.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    taken: AtomicUsize,
    lost: AtomicU64,
    told: AtomicU64,
    lines: AtomicU64,
    sequence: AtomicU64,
    bytes: AtomicU64,
    failing: AtomicBool,
    why: Mutex<String>,
}

impl Shared {
    /// So many places are taken no longer.
    fn free(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::Relaxed);
    }

    fn failed(&self, error: &dyn fmt::Display) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(target: "audit", %error, "the audit log cannot be written");
        }
    }

    fn wrote(&self, lines: usize, sequence: u64, bytes: u64) {
        self.lines
            .fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.sequence.store(sequence, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        if self.failing.swap(false, Ordering::AcqRel) {
            tracing::info!(target: "audit", "the audit log is written again");
        }
    }

    fn lost_untold(&self) -> u64 {
        self.lost
            .load(Ordering::Relaxed)
            .saturating_sub(self.told.load(Ordering::Relaxed))
    }

    fn has_lost(&self) -> bool {
        self.lost_untold() > 0
    }

    fn told(&self, count: u64) {
        self.told.fetch_add(count, Ordering::Relaxed);
    }
}

/// How the log does, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditState {
    /// Lines written by this process.
    pub lines: u64,
    /// Lines that could not be written.
    pub lost: u64,
    /// The sequence number of the last line.
    pub sequence: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Lines that wait.
    pub queued: usize,
    /// Whether the last attempt to write failed.
    pub failing: bool,
}

impl Audit {
    /// Opens the file, begins in it, and starts the thread.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn start(
        settings: &AuditSettings,
        fleet: &FleetName,
        keys: Arc<StorageKeys>,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        let file = writer::open(&settings.file, None, fleet, &keys, clock.moment())?;
        let shared = Arc::<Shared>::default();
        shared.wrote(0, file.chain().seq, file.len());
        let queue = Arc::<Gather<Heap>>::default();
        let inbox = Arc::clone(&queue);
        let writer = Writer {
            path: settings.file.clone(),
            fleet: fleet.clone(),
            keys,
            fsync: settings.fsync,
            max_size: settings.max_size,
            clock,
            shared: Arc::clone(&shared),
            file,
            stuck: None,
        };
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&inbox))
            .map_err(AuditError::Thread)?;
        Ok(Self {
            settings: settings.clone(),
            shared,
            writer: Mutex::new(Some(thread)),
            queue,
        })
    }

    /// A place for one line, where there is one. Where a line must not be lost, `None` means that its request must be refused.
    #[must_use]
    pub fn reserve(&self) -> Option<Place> {
        if self.shared.failing.load(Ordering::Acquire) && self.refuses() {
            return None;
        }
        let before = self.shared.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Some(Arc::clone(&self.shared)));
        (before < self.settings.queue).then_some(place)
    }

    /// Whether a request that cannot be written down is refused.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.settings.on_failure == OnFailure::Refuse
    }

    /// Whether a request waits until its line is on the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.settings.fsync, crate::config::Fsync::Each)
    }

    /// How much of a prompt is written; `None`: nothing of it.
    #[must_use]
    pub fn prompt_bytes(&self) -> Option<usize> {
        self.settings.prompts.then_some(self.settings.prompt_bytes)
    }

    /// Writes a line; without a place it is counted as lost.
    pub fn write(&self, at: Moment, what: &What<'_>, place: Option<Place>) {
        self.send(at, what, place, None);
    }

    /// Writes a line; what is given says when it is on the disk, or fails when it is not.
    pub fn write_through(&self, at: Moment, what: &What<'_>, place: Option<Place>) -> oneshot::Receiver<()> {
        let (told, done) = oneshot::channel();
        self.send(at, what, place, Some(told));
        done
    }

    fn send(&self, at: Moment, what: &What<'_>, place: Option<Place>, waiter: Option<oneshot::Sender<()>>) {
        let Some(place) = place else {
            return self.lose();
        };
        let haste = if waiter.is_some() { Haste::Now } else { Haste::None };
        let sent = line::build(
            |out| event::write(out, at, what),
            |line| self.queue.put(haste, |heap| heap.add(line, waiter)),
        );
        if sent.is_some() {
            place.give();
        } else {
            self.shared.failed(&"its thread has ended");
            self.lose();
        }
    }

    /// A line is lost.
    pub fn lose(&self) {
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The file was moved away, or the fleet's keys are others.
    pub fn reopen(&self, keys: Arc<StorageKeys>) {
        let asked = self.queue.put(Haste::Now, |heap| heap.reopen = Some(keys));
        if asked.is_none() {
            self.shared.failed(&"its thread has ended");
        }
    }

    /// How the log does.
    #[must_use]
    pub fn state(&self) -> AuditState {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AuditState {
            lines: get(&self.shared.lines),
            lost: get(&self.shared.lost),
            sequence: get(&self.shared.sequence),
            bytes: get(&self.shared.bytes),
            queued: self.shared.taken.load(Ordering::Relaxed),
            failing: self.shared.failing.load(Ordering::Acquire),
        }
    }

    /// Whether lines are written, and if not, why.
    ///
    /// # Errors
    /// What the disk said.
    pub fn check(&self) -> Result<(), String> {
        if !self.shared.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self
            .shared
            .why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    /// Writes what is left, closes the file in order and ends the thread. Blocks until then.
    pub fn close(&self) {
        // It is closed already where nobody writes.
        let _ = self.queue.put(Haste::Now, |heap| heap.stop = true);
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audit({})", self.settings.file.display())
    }
}

/// Whether a file can be opened for an audit log, without changing anything that is there.
///
/// # Errors
/// Why not.
pub fn probe(path: &Path) -> Result<(), AuditError> {
    let failed = |source| AuditError::Open {
        path: path.into(),
        source,
    };
    if path.exists() {
        return std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .map(drop)
            .map_err(failed);
    }
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|e| failed(e.into()))
}
