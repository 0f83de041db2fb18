//! The data segments: a plain image in once, every sector of it encrypted into each output, on all cores.
//!
//! Owns: the split into pieces of 256 KiB, which fit the cache of a core, and the workers. Each worker has two buffers and a
//! cipher for each output; memory is bounded by their number and not by the image.
//! Every sector is encrypted, those of zeros too: a hole left in the target would tell anybody how full the volume is
//! and where, and would decrypt to noise. The holes of the image cost no read (see [`Image`]).
//! An output that fails is left behind; the others go on.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use domain::VolumeKey;
use zeroize::Zeroizing;

use crate::{
    Image,
    content_mac::{LEAF, Leaves},
    progress::{Cancelled, Meter},
    sectors::{CipherError, DataCipher, SectorCipher, SectorSize},
    sink::Sink,
};

/// Bytes of a worker's buffer.
pub(crate) const BUFFER: usize = 256 * 1024;
pub(crate) const BUFFER_U64: u64 = 256 * 1024;
/// More workers than this gain nothing: memory is the limit.
const MAX_WORKERS: usize = 16;

/// How many threads encrypt or decrypt.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS))
}

/// Why the data of an output could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the image cannot be read")]
    Read(#[source] io::Error),
    #[error("the target cannot be written")]
    Write(#[source] io::Error),
    #[error("a sector cannot be encrypted")]
    Crypto(#[from] CipherError),
    #[error("it was cancelled")]
    Cancelled,
}

impl From<Cancelled> for StreamError {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Where the data of one volume goes.
pub(crate) struct Lane<'a> {
    sink: &'a dyn Sink,
    offset: u64,
    len: u64,
    cipher: DataCipher,
    sector: SectorSize,
    key: &'a VolumeKey,
    given_up: AtomicBool,
    error: Mutex<Option<StreamError>>,
}

impl<'a> Lane<'a> {
    /// A data segment of `len` bytes at `offset`.
    pub(crate) const fn new(
        sink: &'a dyn Sink,
        (offset, len): (u64, u64),
        cipher: DataCipher,
        sector: SectorSize,
        key: &'a VolumeKey,
    ) -> Self {
        Self {
            sink,
            offset,
            len,
            cipher,
            sector,
            key,
            given_up: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    /// Bytes of data.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// What became of it.
    pub(crate) fn finish(self) -> Result<(), StreamError> {
        let error = self
            .error
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        error.map_or(Ok(()), Err)
    }

    fn wants(&self, at: u64) -> bool {
        at < self.len && !self.given_up.load(Ordering::Relaxed)
    }

    fn give_up(&self, why: StreamError) {
        self.given_up.store(true, Ordering::Relaxed);
        let mut error = self
            .error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        error.get_or_insert(why);
    }

    /// Encrypts `piece`, which is at `at` of the segment, and writes what of it is inside.
    fn put(&self, cipher: &mut SectorCipher, piece: &mut [u8], at: u64) -> Result<(), StreamError> {
        let rest = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let here = rest.min(piece.len());
        let piece = piece.get_mut(..here).unwrap_or_default();
        cipher.apply(piece, at)?;
        self.sink
            .write_at(piece, self.offset.saturating_add(at))
            .map_err(StreamError::Write)
    }
}

/// Encrypts `image`, and zeros behind it, into every lane; each lane knows then what became of it. With `leaves`, the
/// image's own bytes are hashed on the way.
///
/// # Errors
/// The image cannot be read, or it was cancelled: then no lane is whole.
pub(crate) fn encrypt(
    image: &Image,
    lanes: &[Lane<'_>],
    leaves: Option<&Leaves>,
    meter: &Meter<'_>,
) -> Result<(), StreamError> {
    let end = lanes.iter().map(Lane::len).max().unwrap_or(0);
    // The place of the next leaf; past the end, all is done. A failing worker sets it there for the others.
    let next = AtomicU64::new(0);
    let work = || -> Result<(), StreamError> {
        let mut ciphers = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let cipher = SectorCipher::encrypting(lane.cipher, lane.key, lane.sector);
            ciphers.push(cipher.map_err(|e| lane.give_up(e.into())).ok());
        }
        let mut plain = Zeroizing::new(vec![0; BUFFER]);
        let mut spare = Zeroizing::new(vec![0; if lanes.len() > 1 { BUFFER } else { 0 }]);
        loop {
            let start = next.fetch_add(LEAF, Ordering::Relaxed);
            if start >= end {
                return Ok(());
            }
            let mut leaf = leaves.map(Leaves::begin);
            for at in (start..end.min(start.saturating_add(LEAF))).step_by(BUFFER) {
                let here = usize::try_from(end.saturating_sub(at))
                    .unwrap_or(BUFFER)
                    .min(BUFFER);
                let piece = plain.get_mut(..here).unwrap_or_default();
                image.fill(piece, at).map_err(StreamError::Read)?;
                if let Some(leaf) = &mut leaf {
                    leaf.update(piece, image.len().saturating_sub(at));
                }
                one_piece(lanes, &mut ciphers, (piece, &mut spare), at, meter)?;
            }
            if let (Some(leaves), Some(leaf)) = (leaves, leaf) {
                leaves.end(start, leaf);
            }
        }
    };
    run(|| work().inspect_err(|_| next.store(end, Ordering::Relaxed)))
}

/// Hands one piece to each lane that still wants it; the last one may encrypt it where it is.
fn one_piece(
    lanes: &[Lane<'_>],
    ciphers: &mut [Option<SectorCipher>],
    (piece, spare): (&mut [u8], &mut [u8]),
    at: u64,
    meter: &Meter<'_>,
) -> Result<(), StreamError> {
    let last = lanes.iter().rposition(|lane| lane.wants(at));
    for (number, (lane, cipher)) in lanes.iter().zip(ciphers).enumerate() {
        let Some(cipher) = cipher.as_mut().filter(|_| lane.wants(at)) else {
            continue;
        };
        let done = if last == Some(number) {
            lane.put(cipher, piece, at)
        } else {
            let copy = spare.get_mut(..piece.len()).unwrap_or_default();
            copy.copy_from_slice(piece);
            lane.put(cipher, copy, at)
        };
        done.unwrap_or_else(|why| lane.give_up(why));
        let bytes = u64::try_from(piece.len()).unwrap_or(0);
        meter.add(bytes.min(lane.len().saturating_sub(at)))?;
    }
    Ok(())
}

/// Runs `work` on every core, and gives the first error.
pub(crate) fn run<E: Send>(work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    thread::scope(|scope| {
        // One core's share is done here: a machine that has no thread to give makes the work slow, and no more.
        let more = (1..workers()).map_while(|_| thread::Builder::new().spawn_scoped(scope, &work).ok());
        let running: Vec<_> = more.collect();
        let mut result = work();
        for thread in running {
            match thread.join() {
                Ok(done) => result = result.and(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, ops::ControlFlow, os::unix::fs::FileExt as _};

    use super::*;

    fn key() -> VolumeKey {
        VolumeKey::copy_from(&std::array::from_fn::<u8, 64, _>(|i| u8::try_from(i).unwrap())).unwrap()
    }

    fn image(len: u64) -> Image {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(b"content", len / 2).unwrap();
        Image::of_file(file).unwrap()
    }

    fn lane<'a>(target: &'a File, len: u64, key: &'a VolumeKey) -> Lane<'a> {
        Lane::new(target, (8192, len), DataCipher::AesXts, SectorSize::B4096, key)
    }

    #[test]
    fn every_sector_is_encrypted_also_where_the_image_is_empty() {
        for (cipher, sector) in [
            (DataCipher::AesXts, SectorSize::B4096),
            (DataCipher::AesXts, SectorSize::B512),
            (DataCipher::Adiantum, SectorSize::B4096),
            (DataCipher::Adiantum, SectorSize::B512),
        ] {
            let len = LEAF + BUFFER_U64 * 3 + 4096;
            let image = image(BUFFER_U64 * 4);
            let (target, key) = (tempfile::tempfile().unwrap(), key());
            let lane = Lane::new(&target, (8192, len), cipher, sector, &key);
            let meter = Meter::new(&(), len);
            let lanes = [lane];
            encrypt(&image, &lanes, None, &meter).unwrap();
            let [lane] = lanes;
            lane.finish().unwrap();
            let mut all = vec![0; usize::try_from(len).unwrap()];
            target.read_exact_at(&mut all, 8192).unwrap();
            assert!(all.chunks(512).all(|sector| sector.iter().any(|b| *b != 0)));
            let mut decryptor = SectorCipher::decrypting(cipher, &key, sector).unwrap();
            decryptor.apply(&mut all, 0).unwrap();
            let content = BUFFER * 2;
            assert_eq!(&all[content..content + 7], b"content");
            assert!(all[..content].iter().chain(&all[content + 7..]).all(|b| *b == 0));
        }
    }

    #[test]
    fn one_output_that_fails_does_not_stop_the_others() {
        let (image, len) = (image(BUFFER_U64 * 2), BUFFER_U64 * 4);
        let key = key();
        let (good, small, alone) = (
            tempfile::tempfile().unwrap(),
            tempfile::tempfile().unwrap(),
            tempfile::tempfile().unwrap(),
        );
        let full = File::options().write(true).open("/dev/full").unwrap();
        let weak = VolumeKey::copy_from(&[1; 64]).unwrap();
        let lanes = [
            lane(&full, len, &key),
            lane(&good, len, &key),
            lane(&small, BUFFER_U64, &key),
            lane(&small, len, &weak),
        ];
        encrypt(&image, &lanes, None, &Meter::new(&(), 0)).unwrap();
        let [full, good_lane, small_lane, weak] = lanes.map(Lane::finish);
        assert!(matches!(full, Err(StreamError::Write(_))));
        assert!(matches!(weak, Err(StreamError::Crypto(_))));
        good_lane.unwrap();
        small_lane.unwrap();
        encrypt(&image, &[lane(&alone, len, &key)], None, &Meter::new(&(), 0)).unwrap();
        let read = |file: &File, len: u64| {
            let mut all = vec![0; usize::try_from(len).unwrap()];
            file.read_exact_at(&mut all, 8192).unwrap();
            all
        };
        assert!(read(&good, len) == read(&alone, len), "as if it had been alone");
        assert!(read(&small, BUFFER_U64) == read(&alone, BUFFER_U64));
        assert_eq!(small.metadata().unwrap().len(), 8192 + BUFFER_U64);
    }

    #[test]
    fn an_image_that_cannot_be_read_ends_all() {
        let image = image(BUFFER_U64);
        image.reader().unwrap().set_len(4096).unwrap();
        image.reader().unwrap().write_all_at(b"x", 4000).unwrap();
        let (target, key) = (tempfile::tempfile().unwrap(), key());
        let cut_off = encrypt(
            &image,
            &[lane(&target, BUFFER_U64, &key)],
            None,
            &Meter::new(&(), 0),
        );
        assert!(matches!(cut_off, Err(StreamError::Read(_))));
    }

    #[test]
    fn progress_counts_every_byte_and_can_end_it() {
        let (image, len) = (image(BUFFER_U64), LEAF * 3 + 4096);
        let (a, b, key) = (
            tempfile::tempfile().unwrap(),
            tempfile::tempfile().unwrap(),
            key(),
        );
        let most = AtomicU64::new(0);
        let progress = |done, total| {
            assert_eq!(total, 2 * len);
            most.fetch_max(done, Ordering::Relaxed);
            ControlFlow::Continue(())
        };
        let lanes = [lane(&a, len, &key), lane(&b, len, &key)];
        encrypt(&image, &lanes, None, &Meter::new(&progress, 2 * len)).unwrap();
        assert_eq!(most.load(Ordering::Relaxed), 2 * len);
        let stop = |done, _| {
            if done > LEAF {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let ended = encrypt(&image, &lanes, None, &Meter::new(&stop, 2 * len));
        assert!(matches!(ended, Err(StreamError::Cancelled)));
    }
}
