//! Where new volumes go: new files, or files and block devices that hold nothing.
//!
//! Owns: that nothing is begun where something is, that all targets are looked at before the first is written, and that a file
//! that was made for a volume that then was not written goes away again.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use volume::Source as _;

use super::{file_fault, uncreated};
use crate::failure::Failure;

/// A target that is open for writing.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Whether it is ours to remove.
    made: bool,
    /// Whether a whole volume is on it.
    pub(super) done: bool,
}

/// Whether a volume of `size` bytes may go to `path`; writes nothing.
pub(super) fn look(path: &Path, size: u64) -> Result<(), Failure> {
    match File::open(path) {
        Ok(file) => volume::refuse_target(&file, size).map_err(|e| uncreated(path, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = folder(path);
            let there = fs::metadata(folder).map_err(file_fault("look at", folder))?;
            if there.is_dir() && path.symlink_metadata().is_err() {
                return Ok(());
            }
            Err(uncreated(path, "there is no place for a new file"))
        }
        Err(e) => Err(file_fault("open", path)(e)),
    }
}

/// The length of a block device, if `path` is one.
pub(super) fn device_len(path: &Path) -> Result<Option<u64>, Failure> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_block_device() => {
            let len = File::open(path).and_then(|file| file.len());
            len.map(Some).map_err(file_fault("look at", path))
        }
        _ => Ok(None),
    }
}

impl Target {
    /// Opens a target, or makes a new file with mode 0600.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let opened = match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = options.create_new(true).mode(0o600).open(path);
                file.map(|file| (file, true))
            }
            other => other.map(|file| (file, false)),
        };
        let (file, made) = opened.map_err(file_fault("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            made,
            done: false,
        })
    }

    /// Makes sure that the volume is still there after a power cut.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(file_fault("sync", &self.path))?;
        if self.made {
            let folder = folder(&self.path);
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(file_fault("sync the folder", folder))?;
        }
        self.done = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.made && !self.done {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Bytes of a volume that holds the content of `dir`: blocks, inodes, some air, and the header.
pub(super) fn size_for(dir: &Path) -> Result<u64, Failure> {
    const MIB: u64 = 1 << 20;
    let mut bytes: u64 = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(file_fault("read the folder", &folder))? {
            let entry = entry.map_err(file_fault("read the folder", &folder))?;
            let metadata = entry.metadata().map_err(file_fault("look at", &entry.path()))?;
            // Its blocks, its inode of 256 bytes and its name.
            let blocks = metadata.len().div_ceil(4096).saturating_mul(4096);
            bytes = bytes.saturating_add(blocks).saturating_add(1024);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    let filled = bytes.saturating_add(bytes / 8).saturating_add(16 * MIB);
    Ok(filled.div_ceil(MIB).saturating_mul(MIB).saturating_add(16 * MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_made_for_nothing_goes_away_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "").unwrap();
        drop(Target::open(&new).unwrap());
        drop(Target::open(&old).unwrap());
        assert!(!new.exists() && old.exists());
        Target::open(&new).unwrap().settle().unwrap();
        assert!(new.exists());
    }

    #[test]
    fn what_holds_something_or_has_no_folder_is_no_target() {
        let dir = tempfile::tempdir().unwrap();
        let used = dir.path().join("used");
        fs::write(&used, b"LUKS\xba\xbe\0\x02").unwrap();
        for path in [&used, &dir.path().join("none/x"), &dir.path().join("used/x")] {
            assert!(look(path, 32 << 20).is_err(), "{}", path.display());
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(look(&dir.path().join("link"), 32 << 20).is_err());
        look(&dir.path().join("new"), 32 << 20).unwrap();
        assert!(!dir.path().join("new").exists());
    }
}
