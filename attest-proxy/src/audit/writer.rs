//! The thread that writes the audit log.
//!
//! Owns: the order of the lines, when they are made durable, rotation, and what happens while the disk takes nothing: lines are kept and
//! tried again every second, as many as the queue has places.
//! Nothing waits for this thread but who asked for a line to be on the disk (`fsync = "each"`).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use domain::FleetName;
use tokio::sync::oneshot;

use super::{
    AuditError, Place, Shared,
    event::Event,
    file::{AuditFile, Chain},
};
use crate::{clock::Clock, config::Fsync, keys::StorageKeys};

/// How many lines are written at once.
const BATCH: usize = 256;
/// Between two attempts to write to a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// Waiting for ever, in pieces.
const LONG: Duration = Duration::from_secs(3600);

pub(super) enum Message {
    /// Write this. Whoever waits is told when it is on the disk.
    Write(Event, Place, Option<oneshot::Sender<()>>),
    /// The file was moved, or the keys are others.
    Reopen(Arc<StorageKeys>),
    /// Write what is there, and end.
    Stop,
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
    events: Vec<Event>,
    places: Vec<Place>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        let mut batch = Batch::default();
        let mut dirty: Option<Instant> = None;
        let mut next = None;
        loop {
            let message = match next.take() {
                Some(message) => Some(message),
                None => match inbox.recv_timeout(self.patience(&batch, dirty)) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
                },
            };
            match message {
                Some(Message::Write(event, place, waiter)) => {
                    batch.add(event, place, waiter);
                    while batch.events.len() < BATCH {
                        match inbox.try_recv() {
                            Ok(Message::Write(event, place, waiter)) => batch.add(event, place, waiter),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                }
                Some(Message::Reopen(keys)) => {
                    self.stuck = None;
                    self.reopen(keys);
                }
                Some(Message::Stop) => {
                    self.stuck = None;
                    self.flush(&mut batch, &mut dirty);
                    if let Err(error) = self.file.end(self.clock.millis(), &self.keys) {
                        tracing::error!(target: "audit", %error, "the audit log could not be closed in order");
                    }
                    return;
                }
                None => {}
            }
            self.flush(&mut batch, &mut dirty);
        }
    }

    fn patience(&self, batch: &Batch, dirty: Option<Instant>) -> Duration {
        if !batch.events.is_empty() || self.shared.has_lost() {
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
        let lost = self.shared.lost_untold();
        if !batch.events.is_empty() || lost > 0 {
            let told = (lost > 0).then(|| (lost, self.clock.millis()));
            if let Err(error) = self.file.append(&batch.events, told, &self.keys) {
                self.stuck = Some(Instant::now());
                return self.shared.failed(&error);
            }
            self.stuck = None;
            self.shared.told(lost);
            self.shared
                .wrote(batch.events.len(), self.file.chain().seq, self.file.len());
            dirty.get_or_insert_with(Instant::now);
            if matches!(self.fsync, Fsync::Each)
                && let Err(error) = self.file.sync()
            {
                // Who waits is told by the end of the wait.
                self.shared.failed(&error);
                batch.waiting.clear();
            }
            for waiter in batch.waiting.drain(..) {
                // Nobody waits any more: the client has left.
                let _ = waiter.send(());
            }
            batch.events.clear();
            batch.places.clear();
        }
        if let (Fsync::Every(every), Some(since)) = (self.fsync, *dirty)
            && since.elapsed() >= every
        {
            if let Err(error) = self.file.sync() {
                self.shared.failed(&error);
            }
            *dirty = None;
        }
        if self.file.len() >= self.max_size {
            self.rotate();
        }
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
            let end = self.file.end(self.clock.millis(), &self.keys);
            self.keys = keys;
            let begun = end.and_then(|()| {
                self.file
                    .begin(self.clock.millis(), &self.fleet, &self.keys, None)
            });
            if let Err(error) = begun {
                self.shared.failed(&error);
            }
            return;
        }
        self.next_file_under(keys);
    }

    fn next_file(&mut self) {
        let old = self.file.end(self.clock.millis(), &self.keys);
        self.take_next(old.err());
    }

    fn next_file_under(&mut self, keys: Arc<StorageKeys>) {
        let old = self.file.end(self.clock.millis(), &self.keys);
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
            self.clock.millis(),
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

impl Batch {
    fn add(&mut self, event: Event, place: Place, waiter: Option<oneshot::Sender<()>>) {
        self.events.push(event);
        self.places.push(place);
        self.waiting.extend(waiter);
    }
}

/// Opens a file and begins in it.
pub(super) fn open(
    path: &std::path::Path,
    before: Option<Chain>,
    fleet: &FleetName,
    keys: &StorageKeys,
    at: u64,
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
