//! Following a registry file: a thread that asks `data_version` twenty times a second.
//!
//! Owns: its own connection, because SQLite shows a connection only the commits of others. Where this process alone wrote,
//! the rows are those that its connection for calls tells of. After anybody else's commit it reads everything, because
//! edits by hand, which raise no revision of ours, count as well; what differs is passed on. A quote that was accepted is
//! one row of thousands: told as such, it makes nobody build a snapshot anew.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{
    LIST,
    file::{self, FileId, Heard, Opened, data_version},
    list,
    own::Rows,
    unavailable,
};
use crate::{
    ReadError, Revision, Unavailable, WatchError,
    store::{CHANGES_AHEAD, Change, Changes, Row, Stored},
};

const POLL: Duration = Duration::from_millis(50);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(500);

struct Follower {
    /// The connection that this process writes through.
    calls: Arc<Mutex<Opened>>,
    path: PathBuf,
    prefix: String,
    busy: Duration,
    alive_every: Duration,
}

/// The file that is being followed.
struct Following {
    connection: Connection,
    file: FileId,
    version: i64,
    heard: Heard,
    known: Known,
}

/// What was told: of each row its key, its revision, and a keyed hash of its value; ascending by key.
struct Known {
    rows: Vec<(Box<str>, Revision, u64)>,
    hasher: RandomState,
}

pub(super) async fn start(
    calls: Arc<Mutex<Opened>>,
    path: PathBuf,
    prefix: String,
    busy: Duration,
    alive_every: Duration,
) -> Result<Changes, ReadError> {
    let follower = Follower {
        calls,
        path,
        prefix,
        busy,
        alive_every,
    };
    let (changes, receiver) = mpsc::channel(CHANGES_AHEAD);
    let first = tokio::task::spawn_blocking(move || follower.begin().map(|begun| (follower, begun)));
    let (follower, (following, all)) =
        first
            .await
            .map_err(Unavailable::failed)?
            .map_err(|report| match report {
                WatchError::Unavailable(e) => e,
                other => Unavailable::failed(other),
            })?;
    thread::Builder::new()
        .name("registry-watch".to_owned())
        .spawn(move || follower.run(following, all, &changes))
        .map_err(Unavailable::failed)?;
    Ok(receiver)
}

impl Follower {
    /// Follows until the receiver is gone.
    fn run(&self, mut following: Following, all: Change, changes: &mpsc::Sender<Result<Change, WatchError>>) {
        let mut next = Ok(Some(all));
        let mut told = Instant::now();
        loop {
            let said = match next {
                Ok(None) if told.elapsed() < self.alive_every => None,
                Ok(None) => Some(Ok(Change::Alive)),
                Ok(Some(change)) => Some(Ok(change)),
                Err(report) => Some(Err(report)),
            };
            let failed = matches!(said, Some(Err(_)));
            if let Some(message) = said {
                if changes.blocking_send(message).is_err() {
                    return;
                }
                told = Instant::now();
            }
            thread::sleep(if failed { PAUSE } else { POLL });
            if changes.is_closed() {
                return;
            }
            next = if failed {
                self.begin().map(|(anew, all)| {
                    following = anew;
                    Some(all)
                })
            } else {
                self.poll(&mut following)
            };
        }
    }

    fn begin(&self) -> Result<(Following, Change), WatchError> {
        let file = file::id(&self.path).map_err(Unavailable::failed)?;
        let connection = file::connect(&self.path, self.busy).map_err(|e| self.failed(e))?;
        file::be_frugal(&connection).map_err(|e| self.failed(e))?;
        let version = data_version(&connection).map_err(|e| self.failed(e))?;
        let (heard, _) = self.news(file, None)?;
        let all = list(&connection, &self.prefix).map_err(|e| self.failed(e))?;
        let following = Following {
            connection,
            file,
            version,
            heard,
            known: Known::of(&all),
        };
        Ok((following, Change::All(all)))
    }

    fn poll(&self, following: &mut Following) -> Result<Option<Change>, WatchError> {
        if !file::is_at(&self.path, following.file) {
            return Err(WatchError::Replaced);
        }
        let version = data_version(&following.connection).map_err(|e| self.failed(e))?;
        if version == following.version {
            return Ok(None);
        }
        // The versions first: a commit between them and the reading is read now and once more.
        following.version = version;
        let (heard, rows) = self.news(following.file, Some(following.heard))?;
        following.heard = heard;
        let changes = match rows {
            Some(rows) => following.known.take(rows, &self.prefix),
            None => following
                .known
                .changes(&following.connection, &self.prefix)
                .map_err(|e| self.failed(e))?,
        };
        // Of another fleet, perhaps.
        Ok((!changes.is_empty()).then_some(Change::Some(changes)))
    }

    /// What this process alone wrote; see [`Opened::news`].
    fn news(&self, file: FileId, before: Option<Heard>) -> Result<(Heard, Option<Rows>), WatchError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.news(file, before).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: rusqlite::Error) -> WatchError {
        unavailable(error, self.busy).into()
    }
}

impl Known {
    fn of(rows: &[Row]) -> Self {
        let hasher = RandomState::new();
        let known = |(key, stored): &Row| {
            (
                key.as_str().into(),
                stored.revision,
                hasher.hash_one(stored.value.as_slice()),
            )
        };
        Self {
            rows: rows.iter().map(known).collect(),
            hasher,
        }
    }

    /// Rows that were written; told from now on.
    fn take(&mut self, mut rows: Rows, prefix: &str) -> Vec<(String, Option<Stored>)> {
        rows.retain(|key, _| key.starts_with(prefix));
        for (key, stored) in &rows {
            let hash = self.hasher.hash_one(stored.value.as_slice());
            match self.rows.binary_search_by(|(known, ..)| (**known).cmp(key)) {
                Ok(at) => {
                    if let Some((_, revision, of)) = self.rows.get_mut(at) {
                        (*revision, *of) = (stored.revision, hash);
                    }
                }
                Err(at) => self.rows.insert(at, (key.as_str().into(), stored.revision, hash)),
            }
        }
        rows.into_iter()
            .map(|(key, stored)| (key, Some(stored)))
            .collect()
    }

    /// What differs from what was told, in one reading; told from now on.
    fn changes(
        &mut self,
        connection: &Connection,
        prefix: &str,
    ) -> rusqlite::Result<Vec<(String, Option<Stored>)>> {
        let mut changes = Vec::new();
        let mut rows = Vec::with_capacity(self.rows.len());
        let mut before = self.rows.iter().peekable();
        let mut statement = connection.prepare_cached(LIST)?;
        let mut found = statement.query([prefix])?;
        while let Some(row) = found.next()? {
            let key = row.get_ref(0)?.as_str()?;
            let value = row.get_ref(1)?.as_blob()?;
            let revision = row.get(2)?;
            while let Some((gone, ..)) = before.next_if(|(known, ..)| **known < *key) {
                changes.push((gone.to_string(), None));
            }
            let hash = self.hasher.hash_one(value);
            let known = before.next_if(|(known, ..)| **known == *key);
            if known.is_none_or(|(_, at, of)| (*at, *of) != (revision, hash)) {
                let stored = Stored {
                    value: value.to_vec(),
                    revision,
                };
                changes.push((key.to_owned(), Some(stored)));
            }
            rows.push((
                known.map_or_else(|| key.into(), |(key, ..)| key.clone()),
                revision,
                hash,
            ));
        }
        changes.extend(before.map(|(gone, ..)| (gone.to_string(), None)));
        self.rows = rows;
        Ok(changes)
    }
}
