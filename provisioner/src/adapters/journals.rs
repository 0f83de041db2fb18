//! Journals as files: mode 0600, locked while a run has them, synced after each entry.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::folder;
use crate::{
    journal::{Entry, JournalFault, MAX_LEN, parse},
    ports::{Journal, Journals},
};

/// Journals beside volumes.
pub(super) struct Files;

struct Open {
    file: File,
    path: PathBuf,
}

impl Journals for Files {
    fn read(&self, path: &Path) -> Result<Vec<Entry>, JournalFault> {
        let mut file = match open(path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(JournalFault::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            Err(other) => return Err(other),
        };
        let text = read_text(&mut file, path)?;
        parse(path, &text).map(|(entries, _)| entries)
    }

    fn open(&mut self, path: &Path) -> Result<Box<dyn Journal>, JournalFault> {
        std::fs::create_dir_all(folder(path)).map_err(fault("make the folder of", path))?;
        let mut file = open(path, OFlags::RDWR | OFlags::CREATE)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalFault::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(fault("lock", path)(source)),
        }
        let text = read_text(&mut file, path)?;
        let (_, whole) = parse(path, &text)?;
        // A line that a kill cut short: what follows would be glued to it.
        let whole = u64::try_from(whole).unwrap_or(MAX_LEN);
        file.set_len(whole).map_err(fault("shorten", path))?;
        file.seek(SeekFrom::Start(whole)).map_err(fault("read", path))?;
        sync_folder(path)?;
        let path = path.to_owned();
        Ok(Box::new(Open { file, path }))
    }
}

impl Journal for Open {
    fn append(&mut self, entry: &Entry) -> Result<(), JournalFault> {
        let mut line = serde_json::to_vec(entry).map_err(|e| fault("write", &self.path)(e.into()))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(fault("write", &self.path))
    }
}

/// Opens a regular file and nothing else: what a link leads to is not ours to write to, and a pipe would never end.
fn open(path: &Path, flags: OFlags) -> Result<File, JournalFault> {
    let other = || JournalFault::NotAFile {
        path: path.to_owned(),
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => File::from(fd),
        Err(Errno::LOOP | Errno::NXIO) => return Err(other()),
        Err(errno) => return Err(fault("open", path)(errno.into())),
    };
    let metadata = file.metadata().map_err(fault("read", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(other())
    }
}

fn read_text(file: &mut File, path: &Path) -> Result<Vec<u8>, JournalFault> {
    let metadata = file.metadata().map_err(fault("read", path))?;
    let others_write = metadata.mode() & 0o022 != 0;
    if others_write || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(JournalFault::Exposed {
            path: path.to_owned(),
        });
    }
    let mut text = Vec::new();
    file.take(MAX_LEN.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(fault("read", path))?;
    if u64::try_from(text.len()).is_ok_and(|len| len > MAX_LEN) {
        return Err(JournalFault::TooLong {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn sync_folder(path: &Path) -> Result<(), JournalFault> {
    File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(fault("sync the folder of", path))
}

fn fault(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalFault {
    let path = path.to_owned();
    move |source| JournalFault::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::PermissionsExt};

    use domain::UnixTime;

    use super::*;

    fn bound(at: u64) -> Entry {
        Entry::Bound {
            at: UnixTime::from_secs(at),
        }
    }

    #[test]
    fn entries_survive_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out/x.luks.journal");
        assert_eq!(Files.read(&path).unwrap(), []);
        Files.open(&path).unwrap().append(&bound(1)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"entry\":\"bou").unwrap();
        drop(file);
        assert_eq!(Files.read(&path).unwrap(), [bound(1)]);
        Files.open(&path).unwrap().append(&bound(2)).unwrap();
        assert_eq!(Files.read(&path).unwrap(), [bound(1), bound(2)]);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_second_run_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        let first = Files.open(&path).unwrap();
        assert!(matches!(Files.open(&path), Err(JournalFault::Locked { .. })));
        drop(first);
        assert!(Files.open(&path).is_ok());
    }

    #[test]
    fn a_journal_that_others_write_or_that_never_ends_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
        assert!(matches!(Files.read(&path), Err(JournalFault::Exposed { .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, vec![b'\n'; usize::try_from(MAX_LEN).unwrap() + 1]).unwrap();
        assert!(matches!(Files.read(&path), Err(JournalFault::TooLong { .. })));
        assert!(matches!(
            Files.read(dir.path()),
            Err(JournalFault::NotAFile { .. })
        ));
    }

    #[test]
    fn a_link_or_a_pipe_is_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        let theirs = dir.path().join("theirs");
        std::fs::write(&theirs, "one line").unwrap();
        for target in [theirs.as_path(), Path::new("/dev/null"), Path::new("nothing")] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            assert!(matches!(Files.read(&path), Err(JournalFault::NotAFile { .. })));
            assert!(matches!(Files.open(&path), Err(JournalFault::NotAFile { .. })));
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(std::fs::read(&theirs).unwrap(), b"one line");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(matches!(Files.read(&path), Err(JournalFault::NotAFile { .. })));
        assert!(matches!(Files.open(&path), Err(JournalFault::NotAFile { .. })));
    }

    #[test]
    fn somebody_elses_text_is_not_taken_for_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        for theirs in ["one line without an end", "{\"key\": 7}"] {
            std::fs::write(&path, theirs).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            assert!(matches!(
                Files.read(&path),
                Err(JournalFault::Line { line: 1, .. })
            ));
            assert!(matches!(
                Files.open(&path),
                Err(JournalFault::Line { line: 1, .. })
            ));
            assert_eq!(std::fs::read(&path).unwrap(), theirs.as_bytes());
        }
    }
}
