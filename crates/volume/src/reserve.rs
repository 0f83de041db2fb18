//! Room on the disk, before the first write.
//!
//! Owns: asking the file system for every byte of a new volume, so that a full disk, a quota or a limit on file sizes is an
//! error while nothing is lost yet. Block devices have their room.
//! A process that grows a file beyond its limit (`RLIMIT_FSIZE`) is killed by a signal, so that limit is asked first.
//! Limits: a file system that cannot reserve, and memory, is asked how much is free, which another writer may take meanwhile.

use std::fs::File;

use rustix::{
    fs::{FallocateFlags, fallocate, fstat, fstatfs, fstatvfs},
    io::Errno,
    process::{Resource, getrlimit},
};

use crate::TargetError;

/// The kernel's number of tmpfs (`linux/magic.h`).
const TMPFS: u64 = 0x0102_1994;
/// Bytes of the unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Whether a file may have `size` bytes.
pub(crate) fn within_limit(size: u64) -> std::io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(most) if size > most => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Makes a regular file `size` bytes long, all of them its own. Where that fails, its length is as it was.
pub(crate) fn reserve(target: &File, size: u64) -> Result<(), TargetError> {
    let metadata = target.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let no_room = |source: Errno| TargetError::NoRoom {
        needed: size,
        source: source.into(),
    };
    within_limit(size).map_err(|_| no_room(Errno::FBIG))?;
    // Memory knows exactly what is free; handing its pages out here, on one core, would take longer than encrypting.
    let reserved = if in_memory(target)? {
        Err(Errno::OPNOTSUPP)
    } else {
        fallocate(target, FallocateFlags::empty(), 0, size)
    };
    match reserved {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            if free(target)? < size {
                return Err(no_room(Errno::NOSPC));
            }
            if metadata.len() < size {
                target.set_len(size)?;
            }
            Ok(())
        }
        Err(error) => {
            if target.metadata()?.len() != metadata.len() {
                target.set_len(metadata.len())?;
            }
            Err(match error {
                Errno::NOSPC | Errno::DQUOT | Errno::FBIG => no_room(error),
                other => TargetError::Io(other.into()),
            })
        }
    }
}

fn in_memory(target: &File) -> Result<bool, TargetError> {
    let kind = fstatfs(target).map_err(std::io::Error::from)?.f_type;
    Ok(u64::try_from(kind) == Ok(TMPFS))
}

/// Bytes that are free where the file is, and those that it has already.
fn free(target: &File) -> Result<u64, TargetError> {
    let there = fstatvfs(target).map_err(std::io::Error::from)?;
    // A tmpfs without a limit has no size.
    if there.f_blocks == 0 {
        return Ok(u64::MAX);
    }
    let own = fstat(target).map_err(std::io::Error::from)?.st_blocks;
    let own = u64::try_from(own).unwrap_or(0).saturating_mul(BLOCK);
    Ok(there.f_bavail.saturating_mul(there.f_frsize).saturating_add(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_there() {
        let target = tempfile::tempfile().unwrap();
        reserve(&target, 1 << 20).unwrap();
        assert_eq!(target.metadata().unwrap().len(), 1 << 20);
        assert!(fstat(&target).unwrap().st_blocks >= 2048, "not sparse");
        reserve(&target, 4096).unwrap();
        assert_eq!(
            target.metadata().unwrap().len(),
            1 << 20,
            "a longer file stays long"
        );
        assert!(free(&target).unwrap() >= 1 << 20);
    }

    #[test]
    fn memory_is_asked_and_not_taken() {
        let target = tempfile::tempfile_in("/dev/shm").unwrap();
        reserve(&target, 1 << 20).unwrap();
        assert_eq!(target.metadata().unwrap().len(), 1 << 20);
        assert!(fstat(&target).unwrap().st_blocks < 2048, "sparse still");
        let refused = reserve(&target, 1 << 50);
        assert!(matches!(refused, Err(TargetError::NoRoom { .. })), "{refused:?}");
        assert_eq!(target.metadata().unwrap().len(), 1 << 20);
    }

    #[test]
    fn more_than_there_is_is_refused_and_leaves_the_length() {
        let target = tempfile::tempfile().unwrap();
        target.set_len(100).unwrap();
        let refused = reserve(&target, 1 << 60);
        assert!(matches!(refused, Err(TargetError::NoRoom { .. })), "{refused:?}");
        assert_eq!(target.metadata().unwrap().len(), 100);
        let read_only = File::open("/proc/self/exe").unwrap();
        assert!(matches!(reserve(&read_only, 4096), Err(TargetError::Io(_))));
        reserve(&File::open("/dev/null").unwrap(), 4096).unwrap();
    }
}
