//! Reading a whole volume: is it what was written?
//!
//! Owns: what is looked at, on all cores: both headers, the keyslot and the MAC of whoever opens it, every sector of the data, its
//! content's MAC where there is one, and the file system. Changes nothing.
//! Limits: without a content MAC a changed sector is noticed only where it meets a checksum of ext4, which are those of its
//! metadata; neither AES-XTS nor Adiantum authenticates.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use zeroize::Zeroizing;

use crate::{
    HeaderCopy, KeyslotId, OpenVolume, Progress, Survey, SurveyError,
    content_mac::{LEAF, Leaves},
    progress::{Cancelled, Meter},
    sectors::{CipherError, SectorCipher},
    stream::{self, BUFFER, BUFFER_U64},
    survey,
};

/// What was found in a volume that can be read from its first byte to its last.
#[derive(Debug)]
pub struct Verified {
    /// The state of both headers; anything but [`HeaderCopy::Both`] wants to be repaired.
    pub headers: HeaderCopy,
    /// The keyslot that opened it.
    pub keyslot: KeyslotId,
    /// Whether the secret that opened it has authenticated the header.
    pub header_authenticated: bool,
    /// Whether the content is the one that was written.
    pub content: ContentState,
    /// What is in the file system.
    pub filesystem: FilesystemState,
    /// Bytes of data that were read and decrypted.
    pub bytes: u64,
}

/// Whether the content is the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentState {
    /// Every byte is.
    Authentic,
    /// It is not: sectors were changed, by an attacker, a failing disk, or because the volume was mounted for writing.
    Changed,
    /// The volume was made without a MAC of its content.
    Unknown,
}

/// The file system inside.
#[derive(Debug)]
pub enum FilesystemState {
    /// An ext4 file system whose metadata is whole.
    Whole(Survey),
    /// No ext4: somebody's image of another kind.
    Other,
    /// An ext4 file system that is broken.
    Broken(SurveyError),
}

/// Why a volume could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The volume cannot be read.
    #[error("the volume cannot be read")]
    Io(#[from] io::Error),
    /// OpenSSL fails.
    #[error("a sector cannot be decrypted")]
    Crypto(#[from] CipherError),
    /// It was ended by its [`Progress`].
    #[error("it was cancelled")]
    Cancelled,
}

impl From<Cancelled> for VerifyError {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Verified {
    /// Whether nothing at all is wrong: both headers agree, one secret authenticates them, content and file system are not
    /// known to be broken.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self.headers, HeaderCopy::Both)
            && self.header_authenticated
            && !matches!(self.content, ContentState::Changed)
            && !matches!(self.filesystem, FilesystemState::Broken(_))
    }
}

/// Reads all of a volume that was opened. `progress` counts the bytes of its data.
///
/// # Errors
/// [`VerifyError`], where it cannot be read to its end. What was found wrong is in the [`Verified`].
pub fn verify(volume: &OpenVolume, progress: &dyn Progress) -> Result<Verified, VerifyError> {
    let header = volume.header();
    let leaves = read_all(volume, &Meter::new(progress, header.data_len()))?;
    let content = match header.content() {
        None => ContentState::Unknown,
        Some(token) if token.agrees(&leaves, header.cipher(), volume.volume_key()) => ContentState::Authentic,
        Some(_) => ContentState::Changed,
    };
    let surveyed = volume
        .filesystem()
        .map_err(survey::not_ext4)
        .and_then(|fs| survey::walk(&fs));
    Ok(Verified {
        headers: header.copy(),
        keyslot: volume.keyslot(),
        header_authenticated: volume.is_authenticated(),
        content,
        filesystem: match surveyed {
            Ok(found) => FilesystemState::Whole(found),
            Err(SurveyError::None) => FilesystemState::Other,
            Err(broken) => FilesystemState::Broken(broken),
        },
        bytes: header.data_len(),
    })
}

/// Reads and decrypts every sector; hashes the content where there is something to compare it with.
fn read_all(volume: &OpenVolume, meter: &Meter<'_>) -> Result<Leaves, VerifyError> {
    let data = &volume.header().layout.data;
    let (source, end) = (volume.source(), data.extent.len);
    let content = volume.header().authenticated_content();
    let leaves = Leaves::default();
    let next = AtomicU64::new(0);
    let work = || -> Result<(), VerifyError> {
        let mut cipher = SectorCipher::decrypting(data.cipher, volume.volume_key(), data.sector)?;
        let mut buffer = Zeroizing::new(vec![0; BUFFER]);
        loop {
            let start = next.fetch_add(LEAF, Ordering::Relaxed);
            if start >= end {
                return Ok(());
            }
            let mut leaf = leaves.begin();
            let stop = end.min(start.saturating_add(LEAF));
            let mut at = start;
            while at < stop {
                let len = BUFFER_U64.min(stop - at);
                let here = usize::try_from(len).unwrap_or(BUFFER);
                let piece = buffer.get_mut(..here).unwrap_or_default();
                source.read_at(piece, data.extent.offset.saturating_add(at))?;
                cipher.apply(piece, at)?;
                if let Some(content) = content {
                    leaf.update(piece, content.saturating_sub(at));
                }
                meter.add(len)?;
                at += len;
            }
            leaves.end(start, leaf);
        }
    };
    stream::run(|| work().inspect_err(|_| next.store(end, Ordering::Relaxed)))?;
    Ok(leaves)
}
