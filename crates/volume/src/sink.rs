//! Where a volume's bytes go: the port that every write of this crate passes.
//!
//! Owns: reading, writing and syncing at an offset, and nothing else: what comes before what is decided by `write` and
//! `rekey`. Tests put a recorder here and take the power away after each write (see [`crashes`]).

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// A file or block device that is written to.
pub(crate) trait Sink: Sync {
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when everything written before is on the medium.
    fn sync(&self) -> io::Result<()>;
}

impl Sink for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Bytes of the pieces in which zeros are looked for and written.
const PIECE: u64 = 64 * 1024;

/// Makes `from..to` zero. What is zero already is not written: a new file stays sparse there.
pub(crate) fn wipe(sink: &dyn Sink, from: u64, to: u64) -> io::Result<bool> {
    let mut wiped = false;
    each_piece(sink, from, to, |zeros, at| {
        wiped = true;
        sink.write_at(zeros, at)
    })?;
    Ok(wiped)
}

/// Calls `f` with as many zeros for each piece of `from..to` that is not zero.
pub(crate) fn each_piece(
    sink: &dyn Sink,
    from: u64,
    to: u64,
    mut f: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; usize::try_from(PIECE).unwrap_or_default()];
    let zeros = vec![0; piece.len()];
    let mut at = from;
    while at < to {
        let len = PIECE.min(to - at);
        let here = usize::try_from(len).unwrap_or_default();
        let (Some(read), Some(zeros)) = (piece.get_mut(..here), zeros.get(..here)) else {
            break;
        };
        sink.read_at(read, at)?;
        if read != zeros {
            f(zeros, at)?;
        }
        at += len;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod crashes {
    //! A medium that loses power: every state that a disk may be in after it, one after the other.

    use std::{io, sync::Mutex};

    use super::Sink;

    /// What a writer did, in its order.
    #[derive(Clone)]
    enum Event {
        Write(u64, Vec<u8>),
        Sync,
    }

    /// A medium in memory that remembers.
    pub(crate) struct Recorder {
        start: Vec<u8>,
        now: Mutex<Vec<u8>>,
        events: Mutex<Vec<Event>>,
    }

    impl Recorder {
        pub(crate) fn new(start: Vec<u8>) -> Self {
            Self {
                now: Mutex::new(start.clone()),
                start,
                events: Mutex::default(),
            }
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.now.lock().unwrap().clone()
        }

        /// Shows every state of the medium in which the writer could have been stopped: after each write, in the middle of each
        /// one, and with any one of the writes since the last sync lost although later ones are there.
        pub(crate) fn each_crash(&self, mut check: impl FnMut(&mut Vec<u8>, &str)) -> usize {
            let events = self.events.lock().unwrap().clone();
            let mut disk = self.start.clone();
            let mut unsynced: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut states = 0;
            let mut show = |disk: &mut Vec<u8>, what: &str| {
                states += 1;
                check(disk, what);
            };
            show(&mut disk, "before the first write");
            for (number, event) in events.iter().enumerate() {
                let Event::Write(at, bytes) = event else {
                    unsynced.clear();
                    continue;
                };
                let place = usize::try_from(*at).unwrap();
                let before = disk[place..place + bytes.len()].to_vec();
                for torn in [1, 511, 512, 4095, 4096, bytes.len() / 2, bytes.len() - 1] {
                    if torn < bytes.len() {
                        disk[place..place + torn].copy_from_slice(&bytes[..torn]);
                        show(&mut disk, &format!("write {number} at {at}, torn after {torn}"));
                        // The other way round: a disk may write a page's end before its beginning.
                        disk[place..place + torn].copy_from_slice(&before[..torn]);
                        disk[place + torn..place + bytes.len()].copy_from_slice(&bytes[torn..]);
                        show(
                            &mut disk,
                            &format!("write {number} at {at}, without its first {torn}"),
                        );
                        disk[place..place + bytes.len()].copy_from_slice(&before);
                    }
                }
                disk[place..place + bytes.len()].copy_from_slice(bytes);
                show(&mut disk, &format!("after write {number} at {at}"));
                for (lost_at, old) in &unsynced {
                    let lost = usize::try_from(*lost_at).unwrap();
                    let kept = disk[lost..lost + old.len()].to_vec();
                    disk[lost..lost + old.len()].copy_from_slice(old);
                    show(
                        &mut disk,
                        &format!("after write {number} at {at}, that at {lost_at} lost"),
                    );
                    disk[lost..lost + kept.len()].copy_from_slice(&kept);
                }
                unsynced.push((*at, before));
            }
            assert!(disk == *self.now.lock().unwrap(), "all was replayed");
            states
        }
    }

    impl Sink for Recorder {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&self.now.lock().unwrap()[start..start + buffer.len()]);
            Ok(())
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            self.now.lock().unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
            self.events
                .lock()
                .unwrap()
                .push(Event::Write(offset, bytes.to_vec()));
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.events.lock().unwrap().push(Event::Sync);
            Ok(())
        }
    }

    /// A medium that fails at its nth call and ever after.
    pub(crate) struct Failing<'a> {
        pub(crate) inner: &'a Recorder,
        pub(crate) left: Mutex<u32>,
    }

    impl Failing<'_> {
        fn spend(&self) -> io::Result<()> {
            let mut left = self.left.lock().unwrap();
            *left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        }
    }

    impl Sink for Failing<'_> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.inner.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.spend()?;
            self.inner.write_at(bytes, offset)
        }

        fn sync(&self) -> io::Result<()> {
            self.spend()?;
            self.inner.sync()
        }
    }
}
