//! The file itself: made with mode 0600, known by its application id, with a schema that has a number.
//!
//! Owns: its making. It is made whole beside its place and then linked there, so that nobody ever finds half of one,
//! however many open it at once and wherever they are killed.
//! Beware: SQLite's locks are POSIX locks, which a process loses when it closes any descriptor of the file. Nothing
//! here but SQLite ever opens a registry that is in its place.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::own::{Mark, Own, Rows};
use crate::{Absent, OpenError, Unavailable};

const WHAT: &str = "the registry";
/// "SBRG" in the file's header, so that `file` and we know it.
const APPLICATION_ID: i64 = 0x5342_5247;
const SCHEMA: i64 = 1;
/// What a connection keeps of the file, in KiB. The system has it in its own cache; a copy in each of two connections would
/// be a fifth of what the proxy takes at rest.
const CACHE_KIB: i64 = 128;
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

/// A connection, and the file that it goes into for as long as it lasts.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// What was committed through it.
    pub(super) own: Own,
    /// `None` in memory.
    file: Option<FileId>,
    /// Of its own in this process.
    serial: u64,
}

/// Up to where a watch knows what happened to a file: what it compares is one connection's, and no other's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    serial: u64,
    version: i64,
    mark: Mark,
}

impl Opened {
    fn new(connection: Connection, file: Option<FileId>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            connection,
            own: Own::default(),
            file,
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What happened to `file` since `before`, if it was nothing but commits through this connection. With it, or with
    /// a reading of everything that begins after this call, the watch knows all up to what it is given to ask with next.
    pub(super) fn news(
        &mut self,
        file: FileId,
        before: Option<Heard>,
    ) -> rusqlite::Result<(Heard, Option<Rows>)> {
        let version = data_version(&self.connection)?;
        let (mark, rows) = self.own.since(before.map(|heard| heard.mark));
        let heard = Heard {
            serial: self.serial,
            version,
            mark,
        };
        let alone = self.file == Some(file)
            && before.is_some_and(|heard| (heard.serial, heard.version) == (self.serial, version));
        Ok((heard, rows.filter(|_| alone)))
    }

    /// Whether what was opened is still what has the name `path`. SQLite itself goes on in a file that was deleted, and
    /// what it commits there nobody ever sees.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.file.is_none_or(|file| is_at(path, file))
    }
}

/// The registry's file is not the one that was opened. What was asked may have been done, in a file that is gone.
#[derive(Debug, thiserror::Error)]
#[error("'{}' was deleted or replaced while it was in use", .0.display())]
pub(super) struct Replaced(pub(super) PathBuf);

/// Whether `file` is at `path` now.
pub(super) fn is_at(path: &Path, file: FileId) -> bool {
    id(path).is_ok_and(|now| now == file)
}

/// Opens the registry at `path`; where nothing is there, `absent` says what to do.
pub(super) fn open(path: &Path, busy: Duration, absent: Absent) -> Result<Opened, OpenError> {
    let unreadable = |source| OpenError::File {
        what: WHAT,
        path: path.to_owned(),
        source,
    };
    if !path.try_exists().map_err(unreadable)? {
        match absent {
            Absent::Create => make(path)?,
            Absent::Refuse => {
                return Err(OpenError::NotThere {
                    path: path.to_owned(),
                });
            }
            Absent::Empty => {
                let connection = in_memory().map_err(Unavailable::failed)?;
                return Ok(Opened::new(connection, None));
            }
        }
    }
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(OpenError::Mode {
            what: WHAT,
            path: path.to_owned(),
            mode,
        });
    }
    let file = Some(id(path).map_err(unreadable)?);
    let connection = connect(path, busy).map_err(Unavailable::failed)?;
    check(path, &connection)?;
    be_frugal(&connection).map_err(Unavailable::failed)?;
    connection
        .pragma_update(None, "synchronous", "full")
        .map_err(Unavailable::failed)?;
    let opened = Opened::new(connection, file);
    if !opened.is_at(path) {
        return Err(Unavailable::failed(Replaced(path.to_owned())).into());
    }
    Ok(opened)
}

/// Connects to a registry that is there.
pub(super) fn connect(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy)?;
    Ok(connection)
}

/// A number that changes with every commit of another connection, and with none of its own.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

/// Keeps little of the file in memory.
pub(super) fn be_frugal(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", CACHE_KIB.saturating_neg())
}

/// An empty registry that ends with its connection.
fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

fn check(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let not_ours = || OpenError::NotARegistry {
        path: path.to_owned(),
    };
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|e| match e.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => not_ours(),
                _ => Unavailable::failed(e).into(),
            })
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(not_ours());
    }
    match pragma("user_version")? {
        SCHEMA => Ok(()),
        found => Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known: SCHEMA,
        }),
    }
}

/// Makes an empty registry at `path`, unless somebody else was faster.
fn make(path: &Path) -> Result<(), OpenError> {
    let unwritable = |source| OpenError::File {
        what: WHAT,
        path: path.to_owned(),
        source,
    };
    let draft = Draft::beside(path).map_err(unwritable)?;
    fill(&draft.0).map_err(Unavailable::failed)?;
    match fs::hard_link(&draft.0, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(unwritable(e)),
        _ => {}
    }
    drop(draft);
    // The name has to last as long as what is written under it.
    File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(unwritable)
}

fn fill(draft: &Path) -> rusqlite::Result<()> {
    let mut connection = connect(draft, Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        match &*row.get::<_, String>(0)? {
            "wal" => Ok(()),
            _ => Err(rusqlite::Error::InvalidQuery),
        }
    })?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()?;
    // The last to close writes the log back into the file and removes it.
    connection.close().map_err(|(_, e)| e)
}

/// A file that is removed again, under whatever name it was linked as well.
struct Draft(PathBuf);

impl Draft {
    /// An empty file that its owner alone may open, in the folder of `path`.
    fn beside(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut draft = OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}.{nth}.new", std::process::id()));
        let draft = folder(path).join(draft);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        Ok(Self(draft))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Left behind, it would only be in the way of nobody.
        let _ = fs::remove_file(&self.0);
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
