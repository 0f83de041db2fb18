//! One writer at a time: the lock on a target while it is written.
//!
//! Owns: an exclusive `flock`, which every writer of this crate takes before it looks at what is there, and which ends with the
//! writer however that ends. Two writers at one target would leave one's header over the other's data.
//! Limits: the lock is advice. It holds among our own programs and tools that ask for it (udev, systemd-repart, mkfs); a block
//! device that a udev worker looks at is waited for, two seconds long.

use std::{fs::File, io, os::unix::fs::FileTypeExt as _, thread, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// How often a block device is tried, and the pause between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A target that is ours alone until this is dropped.
pub(crate) struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    /// The lock, or `None` where another open file has it.
    pub(crate) fn take(target: &'a File) -> io::Result<Option<Self>> {
        let block = target.metadata()?.file_type().is_block_device();
        for nth in 0..if block { TRIES } else { 1 } {
            if nth > 0 {
                thread::sleep(PAUSE);
            }
            match flock(target, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {}
                other => return other.map(|()| Some(Self(target))).map_err(io::Error::from),
            }
        }
        Ok(None)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // The lock belongs to the open file, which may live on. A lock that cannot be given back ends with the file.
        let _kept = flock(self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn another_open_file_waits_until_it_is_dropped() {
        let target = tempfile::tempfile().unwrap();
        let again = File::open(format!("/proc/self/fd/{}", target.as_raw_fd())).unwrap();
        let lock = Lock::take(&target).unwrap();
        assert!(lock.is_some());
        assert!(Lock::take(&again).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(&again).unwrap().is_some());
        assert!(Lock::take(&target).unwrap().is_some(), "given back again");
    }
}
