//! The data segment: a plain image in, every sector of it encrypted, on all cores.
//!
//! Owns: the split into buffers of 256 KiB, which fit the cache of a core, and the workers. Each worker has one
//! buffer and one cipher context; memory is bounded by their number and not by the image.
//! Every sector is encrypted, those of zeros too: a hole left in the target would tell anybody how full the volume is
//! and where. That the holes of the image cost no read is the kernel's affair.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use domain::VolumeKey;
use zeroize::Zeroizing;

use crate::sectors::{CipherError, DataCipher, SectorCipher, SectorSize};

/// Bytes of a worker's buffer.
const BUFFER: usize = 256 * 1024;
const BUFFER_U64: u64 = 256 * 1024;
/// More workers than this gain nothing: memory is the limit.
const MAX_WORKERS: usize = 16;

/// Why the data could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the image cannot be read")]
    Read(#[source] io::Error),
    #[error("the target cannot be written")]
    Write(#[source] io::Error),
    #[error("a sector cannot be encrypted")]
    Crypto(#[from] CipherError),
}

/// Encrypts the first `len` bytes of `image` into `target` from `offset` on.
pub(crate) fn encrypt(
    image: &File,
    len: u64,
    target: &File,
    offset: u64,
    cipher: DataCipher,
    key: &VolumeKey,
) -> Result<(), StreamError> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    // The place of the next buffer; past the end, all is done. A failing worker sets it there for the others.
    let next = AtomicU64::new(0);
    let work = || -> Result<(), StreamError> {
        let mut cipher = key.expose(|key| SectorCipher::encryptor(cipher, key, SectorSize::B4096))?;
        let mut buffer = Zeroizing::new(vec![0; BUFFER]);
        loop {
            let at = next.fetch_add(BUFFER_U64, Ordering::Relaxed);
            let rest = len.saturating_sub(at);
            if rest == 0 {
                return Ok(());
            }
            let here = usize::try_from(rest).map_or(BUFFER, |rest| rest.min(BUFFER));
            let part = buffer.get_mut(..here).unwrap_or_default();
            image.read_exact_at(part, at).map_err(StreamError::Read)?;
            cipher.apply(part, at)?;
            target
                .write_all_at(part, offset.saturating_add(at))
                .map_err(StreamError::Write)?;
        }
    };
    let guarded = || work().inspect_err(|_| next.store(len, Ordering::Relaxed));
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(guarded)).collect();
        running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .try_fold((), |(), done| match done {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> VolumeKey {
        VolumeKey::copy_from(&std::array::from_fn::<u8, 64, _>(|i| u8::try_from(i).unwrap())).unwrap()
    }

    #[test]
    fn every_sector_is_encrypted_also_where_the_image_is_empty() {
        let len = BUFFER_U64 * 3 + 4096;
        let (image, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        image.set_len(len).unwrap();
        image.write_all_at(b"content", BUFFER_U64 * 2).unwrap();
        encrypt(&image, len, &target, 8192, DataCipher::AesXts, &key()).unwrap();
        let mut all = vec![0; usize::try_from(len).unwrap()];
        target.read_exact_at(&mut all, 8192).unwrap();
        assert!(all.chunks(4096).all(|sector| sector.iter().any(|b| *b != 0)));
        key()
            .expose(|key| SectorCipher::decryptor(DataCipher::AesXts, key, SectorSize::B4096))
            .unwrap()
            .apply(&mut all, 0)
            .unwrap();
        let content = BUFFER * 2;
        assert_eq!(&all[content..content + 7], b"content");
        assert!(all[..content].iter().chain(&all[content + 7..]).all(|b| *b == 0));
    }

    #[test]
    fn every_failure_is_told() {
        let (image, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        image.set_len(4096).unwrap();
        let too_long = encrypt(&image, 8192, &target, 0, DataCipher::AesXts, &key());
        assert!(matches!(too_long, Err(StreamError::Read(_))));
        let weak = VolumeKey::copy_from(&[1; 64]).unwrap();
        assert!(matches!(
            encrypt(&image, 4096, &target, 0, DataCipher::AesXts, &weak),
            Err(StreamError::Crypto(_))
        ));
        let read_only = File::open("/dev/null").unwrap();
        let denied = encrypt(&image, 4096, &read_only, 0, DataCipher::AesXts, &key());
        assert!(matches!(denied, Err(StreamError::Write(_))));
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(matches!(
            encrypt(&image, 4096, &full, 0, DataCipher::AesXts, &key()),
            Err(StreamError::Write(_))
        ));
    }
}
