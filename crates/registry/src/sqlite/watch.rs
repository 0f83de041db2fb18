//! Following a registry file: a thread that asks `data_version` twenty times a second.
//!
//! Owns: its own connection, because SQLite shows a connection only the commits of others. After any commit it reads
//! everything: edits by hand, which raise no revision of ours, count as well.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{
    file::{self, FileId},
    list, unavailable,
};
use crate::{
    ReadError, Unavailable, WatchError,
    store::{CHANGES_AHEAD, Change, Changes},
};

const POLL: Duration = Duration::from_millis(50);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(500);

struct Follower {
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
}

pub(super) async fn start(
    path: PathBuf,
    prefix: String,
    busy: Duration,
    alive_every: Duration,
) -> Result<Changes, ReadError> {
    let follower = Follower {
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
        let version = data_version(&connection).map_err(|e| self.failed(e))?;
        let mut following = Following {
            connection,
            file,
            version,
        };
        let all = self.read(&mut following)?;
        Ok((following, all))
    }

    fn poll(&self, following: &mut Following) -> Result<Option<Change>, WatchError> {
        if !file::is_at(&self.path, following.file) {
            return Err(WatchError::Replaced);
        }
        let version = data_version(&following.connection).map_err(|e| self.failed(e))?;
        if version == following.version {
            return Ok(None);
        }
        // The version first: a commit between the two is read now and once more.
        following.version = version;
        self.read(following).map(Some)
    }

    fn read(&self, following: &mut Following) -> Result<Change, WatchError> {
        list(&following.connection, &self.prefix)
            .map(Change::All)
            .map_err(|e| self.failed(e))
    }

    fn failed(&self, error: rusqlite::Error) -> WatchError {
        unavailable(error, self.busy).into()
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}
