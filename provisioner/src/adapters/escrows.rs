//! Escrow files: written beside their volume in one step, readable by their owner alone.
//!
//! Owns: that an older file is not lost by accident, since it may be the only way into a volume, and that a file is either
//! whole or not there. What is written is encrypted already; what is read out of an identity file is wiped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    folder,
    volumes::{fault, partial, rename_to_nothing},
};
use crate::{escrow::MAX_FILE, ports::VolumeFault};

/// Where the escrow file of a volume is, unless somebody says otherwise: `NAME.recovery.age` beside it.
pub(crate) fn beside(volume: &Path) -> PathBuf {
    let mut name = volume.file_name().unwrap_or_default().to_owned();
    name.push(".recovery.age");
    volume.with_file_name(name)
}

/// Writes an escrow file with mode 0600 and syncs it and its folder. What is there is replaced only where `replace` says so.
pub(crate) fn write(at: &Path, text: &str, replace: bool) -> Result<(), VolumeFault> {
    let folder = folder(at);
    std::fs::create_dir_all(folder).map_err(fault("make the folder", folder))?;
    let path = partial(at);
    // A leftover of a run that was killed. It is removed and not written into: it may be a link by now.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fault("remove", &path)(e)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path).map_err(fault("make", &path))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(fault("write", &path))?;
    if replace {
        std::fs::rename(&path, at).map_err(fault("place", at))?;
    } else if let Err(why) = rename_to_nothing(&path, at) {
        // Nobody needs it: the one that is there stays.
        let _kept = std::fs::remove_file(&path);
        return Err(why);
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fault("sync the folder", folder))
}

/// Puts one escrow file in the place of another, in one step, and syncs the folder.
pub(crate) fn replace(from: &Path, at: &Path) -> Result<(), VolumeFault> {
    std::fs::rename(from, at).map_err(fault("place", at))?;
    let folder = folder(at);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fault("sync the folder", folder))
}

/// Reads an escrow or an identity file, or what comes through a pipe; one byte more than is allowed at most, so that its parser
/// sees that it is too long.
pub(crate) fn read(at: &Path) -> Result<Zeroizing<Vec<u8>>, VolumeFault> {
    let mut file = File::open(at).map_err(fault("open", at))?;
    let mut bytes = Zeroizing::new(vec![0; MAX_FILE.saturating_add(1)]);
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len = len.saturating_add(more),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(fault("read", at)(e)),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_its_owners_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let at = beside(&dir.path().join("sub/x.luks"));
        assert_eq!(at, dir.path().join("sub/x.luks.recovery.age"));
        write(&at, "first", false).unwrap();
        assert_eq!(
            std::fs::metadata(&at).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert!(matches!(
            write(&at, "second", false),
            Err(VolumeFault::Exists { .. })
        ));
        assert_eq!(*read(&at).unwrap(), b"first");
        write(&at, "third", true).unwrap();
        assert_eq!(*read(&at).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(at.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_or_a_link_in_its_place_is_not_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let (at, theirs) = (dir.path().join("x.age"), dir.path().join("theirs"));
        std::fs::write(&theirs, "theirs").unwrap();
        symlink(&theirs, partial(&at)).unwrap();
        write(&at, "ours", false).unwrap();
        assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
        assert!(!at.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_written_or_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(
            write(&file.join("x.age"), "", false),
            Err(VolumeFault::File { .. })
        ));
        assert!(matches!(
            read(&dir.path().join("none")),
            Err(VolumeFault::File { .. })
        ));
        assert!(matches!(read(dir.path()), Err(VolumeFault::File { .. })));
        std::fs::write(&file, vec![b'x'; MAX_FILE * 2]).unwrap();
        assert_eq!(read(&file).unwrap().len(), MAX_FILE + 1);
    }
}
