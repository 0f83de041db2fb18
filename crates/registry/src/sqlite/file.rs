//! The file itself: made with mode 0600, known by its application id, with a schema that has a number.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{OpenError, Unavailable};

const WHAT: &str = "the registry";
/// "SBRG" in the file's header, so that `file` and we know it.
const APPLICATION_ID: i64 = 0x5342_5247;
const SCHEMA: i64 = 1;
const TABLES: &str = "
    CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
    INSERT INTO head VALUES (1, 0);
";

/// A file by its place on a disk, whatever name it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

/// Which file is at `path` now.
pub(super) fn id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|m| FileId(m.dev(), m.ino()))
}

/// Opens the registry at `path`, and makes it if nothing is there.
pub(super) fn open(path: &Path, busy: Duration) -> Result<Connection, OpenError> {
    let unreadable = |source| OpenError::File {
        what: WHAT,
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(OpenError::Mode {
            what: WHAT,
            path: path.to_owned(),
            mode,
        });
    }
    drop(file);
    let mut connection = connect(path, busy).map_err(Unavailable::failed)?;
    prepare(path, &mut connection)?;
    Ok(connection)
}

/// Connects to a registry that is there.
pub(super) fn connect(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy)?;
    Ok(connection)
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let not_ours = || OpenError::NotARegistry {
        path: path.to_owned(),
    };
    let failed = |e: rusqlite::Error| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => not_ours(),
        _ => Unavailable::failed(e).into(),
    };
    let pragma = |c: &Connection, name: &str| c.pragma_query_value(None, name, |row| row.get::<_, i64>(0));

    // Asked before the first write, so that a foreign database is left as it was.
    match pragma(connection, "application_id").map_err(failed)? {
        APPLICATION_ID => {}
        0 if is_empty(connection).map_err(failed)? => {
            // A new database becomes ours before it turns to a log: two that open it at once make it once.
            create(connection).map_err(failed)?;
        }
        _ => return Err(not_ours()),
    }
    match pragma(connection, "user_version").map_err(failed)? {
        SCHEMA => {}
        found => {
            return Err(OpenError::NewerSchema {
                path: path.to_owned(),
                found,
                known: SCHEMA,
            });
        }
    }
    let log: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if log != "wal" {
        return Err(Unavailable::failed("the file system does not allow a write-ahead log").into());
    }
    connection
        .pragma_update(None, "synchronous", "full")
        .map_err(failed)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_empty(&transaction)? {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    transaction.commit()
}
