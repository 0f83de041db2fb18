//! The embedded backend: one SQLite file that mirrors etcd's keys, values and revisions.
//!
//! Owns: the file (mode 0600, write-ahead log, every commit synced) and one connection for calls; a watch has its own.
//! Refuses: a file that others may write, a database that is not a registry, a newer schema; and to call done what went
//! into a file that was deleted or replaced meanwhile.
//! Calls block, so they run on tokio's blocking threads, one at a time; commits that come together are synced together. Several processes may share the file on one
//! machine; never put it on a network file system.

mod file;
mod group;
mod own;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{
    Connection, OptionalExtension as _,
    types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef},
};

use self::file::{Opened, Replaced};
use crate::{
    Absent, OpenError, Options, ReadError, Revision, Unavailable,
    store::{Changes, Commit, Guard, Put, Row, Store, Stored},
};

/// Every row that begins with a prefix, ascending by the bytes of its key.
const LIST: &str =
    "SELECT key, value, revision FROM records WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";

/// A registry in one file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    opened: Arc<Mutex<Opened>>,
    commits: Arc<group::Queue>,
    path: PathBuf,
    call_timeout: Duration,
    alive_every: Duration,
}

impl SqliteStore {
    pub(crate) async fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let (path, busy, absent) = (path.to_owned(), options.call_timeout, options.absent);
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || file::open(&path, busy, absent)
        });
        let opened = opened.await.map_err(Unavailable::failed)??;
        Ok(Self {
            opened: Arc::new(Mutex::new(opened)),
            commits: Arc::default(),
            path,
            call_timeout: options.call_timeout,
            alive_every: options.alive_every,
        })
    }

    /// Runs `run`. A file that was replaced is an error once, and is opened anew for the next call: revisions that were
    /// read from the old one say nothing about the new one.
    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (opened, path, busy) = (Arc::clone(&self.opened), self.path.clone(), self.call_timeout);
        let done = tokio::task::spawn_blocking(move || {
            locked(&opened, &path, busy, |opened| {
                // Whatever it does, it is no commit whose rows are known.
                opened.own.lost();
                run(&mut opened.connection)
            })
        });
        done.await.map_err(Unavailable::failed)?
    }
}

/// Runs `run` on the file, if it is the one that was opened, before and after.
fn locked<T>(
    opened: &Mutex<Opened>,
    path: &Path,
    busy: Duration,
    run: impl FnOnce(&mut Opened) -> rusqlite::Result<T>,
) -> Result<T, Unavailable> {
    // A panic elsewhere rolled its transaction back: the connection is sound.
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    let result = opened.is_at(path).then(|| run(&mut opened));
    match result {
        Some(result) if opened.is_at(path) => result.map_err(|e| unavailable(e, busy)),
        _ => {
            if let Ok(anew) = file::open(path, busy, Absent::Refuse) {
                *opened = anew;
            }
            Err(Unavailable::failed(Replaced(path.to_owned())))
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Stored>, Unavailable> {
        let key = key.to_owned();
        self.call(move |c| get(c, &key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Row>, Unavailable> {
        let prefix = prefix.to_owned();
        self.call(move |c| list(c, &prefix)).await
    }

    async fn commit(&self, guards: Vec<Guard>, puts: Vec<Put>) -> Result<Commit, Unavailable> {
        self.commits
            .commit(guards, puts, || {
                let (opened, path, busy) = (Arc::clone(&self.opened), self.path.clone(), self.call_timeout);
                move |wanted: &[group::Wanted]| {
                    locked(&opened, &path, busy, |opened| group::commit(opened, wanted))
                }
            })
            .await
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, ReadError> {
        watch::start(
            Arc::clone(&self.opened),
            self.path.clone(),
            prefix.to_owned(),
            self.call_timeout,
            self.alive_every,
        )
        .await
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Stored>> {
    let mut statement = connection.prepare_cached("SELECT value, revision FROM records WHERE key = ?1")?;
    statement
        .query_row([key], |row| {
            Ok(Stored {
                value: row.get(0)?,
                revision: row.get(1)?,
            })
        })
        .optional()
}

fn list(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(LIST)?;
    let rows = statement.query_map([prefix], |row| {
        let stored = Stored {
            value: row.get(1)?,
            revision: row.get(2)?,
        };
        Ok((row.get(0)?, stored))
    })?;
    rows.collect()
}

// SQLite's integers have a sign, ours have none.
impl FromSql for Revision {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = i64::column_result(value)?;
        u64::try_from(number)
            .map(Self::new)
            .map_err(|_| FromSqlError::OutOfRange(number))
    }
}

impl ToSql for Revision {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        i64::try_from(self.get())
            .map(Into::into)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
    }
}

fn unavailable(error: rusqlite::Error, busy: Duration) -> Unavailable {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => Unavailable::TimedOut(busy),
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => {
            Unavailable::Denied(error.into())
        }
        _ => Unavailable::failed(error),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_watch;
