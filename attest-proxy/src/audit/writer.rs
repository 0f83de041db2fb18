//! The thread that writes the audit log.
//!
//! Owns: the order of the lines, when they are made durable, rotation, and what happens while the disk takes nothing: lines are kept and
//! tried again every second, as many as the queue has places.
//! Nothing waits for this thread but who asked for a line to be on the disk (`fsync = "each"`).

use std::{
    mem,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::FleetName;
use tokio::sync::oneshot;

use super::{
    AuditError, Shared,
    file::{AuditFile, Chain},
};
use crate::{
    clock::{Clock, Moment},
    config::Fsync,
    gather::Gather,
    keys::StorageKeys,
};

/// How much is written at once, in bytes, if one line is not more.
const CHUNK: usize = 64 << 10;
/// A heap that was larger is not kept for the next lines, in bytes.
const KEPT: usize = 256 << 10;
/// Between two attempts to write to a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// Waiting for ever, in pieces.
const LONG: Duration = Duration::from_secs(3600);

/// What gathers for this thread.
#[derive(Default)]
pub(super) struct Heap {
    /// Lines, each without its number and its end.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Who waits for one of them.
    waiting: Vec<oneshot::Sender<()>>,
    /// The file was moved, or the keys are others.
    pub(super) reopen: Option<Arc<StorageKeys>>,
    /// Write what is there, and end.
    pub(super) stop: bool,
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) fleet: FleetName,
    pub(super) keys: Arc<StorageKeys>,
    pub(super) fsync: Fsync,
    pub(super) max_size: u64,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) file: AuditFile,
    /// When the disk last took nothing, since it last took something.
    pub(super) stuck: Option<Instant>,
}

/// Lines that are not written yet, and who waits for them.
#[derive(Default)]
struct Batch {
    heap: Heap,
    /// Of the heap, so many lines are written, which end at `at`.
    written: usize,
    at: usize,
}

/// Says that nobody writes any more, whatever way the thread ends.
struct Closing<'a>(&'a Gather<Heap>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    pub(super) fn run(mut self, inbox: &Gather<Heap>) {
        let _closing = Closing(inbox);
        let mut came = Heap::default();
        let mut batch = Batch::default();
        let mut dirty: Option<Instant> = None;
        loop {
            inbox.take(&mut came, self.patience(&batch, dirty));
            let (reopen, stop) = (came.reopen.take(), mem::take(&mut came.stop));
            batch.add(&mut came);
            if let Some(keys) = reopen {
                // What came before is still the old file's.
                self.flush(&mut batch, &mut dirty);
                self.stuck = None;
                self.reopen(keys);
            }
            if stop {
                self.stuck = None;
                self.flush(&mut batch, &mut dirty);
                if let Err(error) = self.file.end(self.clock.moment(), &self.keys) {
                    tracing::error!(target: "audit", %error, "the audit log could not be closed in order");
                }
                return;
            }
            self.flush(&mut batch, &mut dirty);
        }
    }

    fn patience(&self, batch: &Batch, dirty: Option<Instant>) -> Duration {
        if !batch.is_empty() || self.shared.has_lost() {
            return RETRY;
        }
        match (self.fsync, dirty) {
            (Fsync::Every(every), Some(since)) => every.saturating_sub(since.elapsed()),
            _ => LONG,
        }
    }

    /// Writes what is there, if the disk takes it.
    fn flush(&mut self, batch: &mut Batch, dirty: &mut Option<Instant>) {
        if self.stuck.is_some_and(|since| since.elapsed() < RETRY) {
            return;
        }
        while !batch.is_empty() || self.shared.has_lost() {
            if let Err(error) = self.chunk(batch) {
                self.stuck = Some(Instant::now());
                return self.shared.failed(&error);
            }
            self.stuck = None;
            dirty.get_or_insert_with(Instant::now);
            if self.file.len() >= self.max_size {
                // Who waits for a line in this file learns nothing from the next one.
                self.sync_each(batch, dirty);
                self.rotate();
            }
        }
        self.sync_each(batch, dirty);
        for waiter in batch.heap.waiting.drain(..) {
            // Nobody waits any more: the client has left.
            let _ = waiter.send(());
        }
        if let (Fsync::Every(every), Some(since)) = (self.fsync, *dirty)
            && since.elapsed() >= every
        {
            if let Err(error) = self.file.sync() {
                self.shared.failed(&error);
            }
            *dirty = None;
        }
    }

    /// Makes durable what was written, where somebody waits for that.
    fn sync_each(&self, batch: &mut Batch, dirty: &mut Option<Instant>) {
        if matches!(self.fsync, Fsync::Each)
            && dirty.take().is_some()
            && let Err(error) = self.file.sync()
        {
            // Who waits is told by the end of the wait.
            self.shared.failed(&error);
            batch.heap.waiting.clear();
        }
    }

    /// Writes some of what is there: all of it that is written, or nothing.
    fn chunk(&mut self, batch: &mut Batch) -> std::io::Result<()> {
        let lost = self.shared.lost_untold();
        let told = (lost > 0).then(|| (lost, self.clock.moment()));
        let (lines, end) = batch.next();
        let mut at = batch.at;
        let each = batch.heap.ends.iter().skip(batch.written).take(lines);
        let each = each.map(|end| {
            let line = batch.heap.text.get(at..*end).unwrap_or_default();
            at = *end;
            line
        });
        self.file.append(each, told, &self.keys)?;
        batch.wrote(lines, end);
        self.shared.told(lost);
        self.shared.free(lines);
        self.shared.wrote(lines, self.file.chain().seq, self.file.len());
        Ok(())
    }

    /// The file is as large as it may be: the next one.
    fn rotate(&mut self) {
        if let Err(error) = self.file.set_aside() {
            // It grows on: better than lines that are nowhere.
            self.max_size = self.max_size.saturating_mul(2);
            tracing::error!(target: "audit", %error, "the audit log cannot be set aside and grows on");
            return;
        }
        self.next_file();
    }

    fn reopen(&mut self, keys: Arc<StorageKeys>) {
        let same = keys.id() == self.keys.id();
        if same && self.file.is_in_place() {
            // Nothing to do but to try again what failed.
            return;
        }
        if self.file.is_in_place() {
            let end = self.file.end(self.clock.moment(), &self.keys);
            self.keys = keys;
            let begun = end.and_then(|()| {
                self.file
                    .begin(self.clock.moment(), &self.fleet, &self.keys, None)
            });
            if let Err(error) = begun {
                self.shared.failed(&error);
            }
            return;
        }
        self.next_file_under(keys);
    }

    fn next_file(&mut self) {
        let old = self.file.end(self.clock.moment(), &self.keys);
        self.take_next(old.err());
    }

    fn next_file_under(&mut self, keys: Arc<StorageKeys>) {
        let old = self.file.end(self.clock.moment(), &self.keys);
        self.keys = keys;
        self.take_next(old.err());
    }

    fn take_next(&mut self, old: Option<std::io::Error>) {
        if let Some(error) = old {
            tracing::error!(target: "audit", %error, "a file of the audit log could not be closed in order");
        }
        match open(
            &self.path,
            Some(self.file.chain()),
            &self.fleet,
            &self.keys,
            self.clock.moment(),
        ) {
            Ok(file) => {
                tracing::info!(target: "audit", path = %self.path.display(), "the audit log goes on in a new file");
                self.file = file;
                self.shared.wrote(0, self.file.chain().seq, self.file.len());
            }
            Err(error) => {
                tracing::error!(target: "audit", %error, "the audit log cannot be opened again and goes on in the file of before");
                self.shared.failed(&error);
            }
        }
    }
}

impl Heap {
    pub(super) fn add(&mut self, line: &[u8], waiter: Option<oneshot::Sender<()>>) {
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len());
        self.waiting.extend(waiter);
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.written == self.heap.ends.len()
    }

    /// Takes all lines of `came`, and who waits for them.
    fn add(&mut self, came: &mut Heap) {
        if self.heap.ends.is_empty() && self.heap.waiting.is_empty() {
            return mem::swap(&mut self.heap, came);
        }
        let before = self.heap.text.len();
        self.heap.text.append(&mut came.text);
        let ends = came.ends.drain(..).map(|end| end.saturating_add(before));
        self.heap.ends.extend(ends);
        self.heap.waiting.append(&mut came.waiting);
    }

    /// How many lines are written next, and where they end.
    fn next(&self) -> (usize, usize) {
        let most = self.at.saturating_add(CHUNK);
        let rest = self.heap.ends.get(self.written..).unwrap_or_default();
        let lines = rest.partition_point(|end| *end <= most).max(1).min(rest.len());
        let last = lines.checked_sub(1).and_then(|last| rest.get(last));
        (lines, last.copied().unwrap_or(self.at))
    }

    fn wrote(&mut self, lines: usize, end: usize) {
        self.written = self.written.saturating_add(lines);
        self.at = end;
        if self.is_empty() {
            (self.written, self.at) = (0, 0);
            self.heap.text.clear();
            self.heap.text.shrink_to(KEPT);
            self.heap.ends.clear();
            self.heap.ends.shrink_to(KEPT / size_of::<usize>());
        }
    }
}

/// Opens a file and begins in it.
pub(super) fn open(
    path: &std::path::Path,
    before: Option<Chain>,
    fleet: &FleetName,
    keys: &StorageKeys,
    at: Moment,
) -> Result<AuditFile, AuditError> {
    let (mut file, torn) = AuditFile::open(path, before)?;
    file.begin(at, fleet, keys, torn)
        .and_then(|()| file.sync())
        .map_err(|source| AuditError::Write {
            path: path.into(),
            source,
        })?;
    Ok(file)
}
