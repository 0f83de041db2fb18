//! Writing volumes: refuse, reserve, encrypt, then the headers. One image may go into many volumes at once.
//!
//! Owns: the order of the writes. Old headers go first (where the caller wants something overwritten), then data and
//! keyslots are written and synced, then the second header, then the first: killed at any byte, the target has either
//! no valid header or is a whole volume, be it the old one.
//! Everything that can be refused is refused before the first write, a full disk too. What the headers hold is `compose`'s
//! work. The same image, keys and entropy make the same bytes, whatever is written beside them.

use std::{collections::HashSet, fs::File, io, os::unix::fs::MetadataExt as _};

use domain::{SealedSecret, VolumeKey, VolumeKeyDigest};

use crate::{
    CreateError, Created, Existing, Image, KeyslotId, Options, Progress, SealToken, TargetError, TokenError,
    binary,
    compose::{self, Composed},
    content_mac::Leaves,
    create::{DATA_OFFSET, MAX_LABEL, MIN_SIZE},
    lock::Lock,
    progress::Meter,
    reserve,
    sectors::{SectorCipher, SectorSize},
    sink::{self, Sink},
    stream::{self, Lane, StreamError},
    target,
};

/// One volume that is to be written.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// Text for people in the header, readable without a key; at most 47 bytes.
    pub label: &'a str,
    /// Bytes of the whole volume, a multiple of 4096, at least 17 MiB: 16 MiB are header.
    pub size: u64,
    /// What happens to something that is on the target already.
    pub existing: Existing,
    /// Ciphers and keyslots.
    pub options: Options<'a>,
    /// The key of the data; no two volumes have the same.
    pub volume_key: &'a VolumeKey,
    /// Keyslot 0: its passphrase is the base64 text of these 32 bytes (PBKDF2-SHA512, 1000 rounds, as systemd does).
    pub secret: &'a SealedSecret,
    /// How a device gets at the secret again.
    pub token: &'a dyn SealToken,
}

/// A volume and where it goes.
pub struct Output<'a> {
    /// A regular file or block device, opened for reading and writing.
    pub target: &'a File,
    /// What is written.
    pub volume: Volume<'a>,
    /// Fills what it is given; the same bytes in the same order make the same volume.
    pub entropy: &'a mut dyn FnMut(&mut [u8]),
}

/// Writes `image` into every output: it is read once, each output gets its own keys. Gives what became of each, in their
/// order.
///
/// One that is refused or fails does not keep the others from being written; only an unreadable image and
/// [`Progress`] end all. `progress` counts the bytes of all outputs' data. A new file is in its folder for
/// certain only after the caller has synced that.
pub fn write(
    image: &Image,
    outputs: Vec<Output<'_>>,
    progress: &dyn Progress,
) -> Vec<Result<Created, CreateError>> {
    let mut seen = HashSet::new();
    let prepared: Vec<_> = outputs
        .into_iter()
        .map(|output| prepare(image, output, &mut seen))
        .collect();
    // The first write comes after the last refusal.
    let begun: Vec<_> = prepared
        .into_iter()
        .map(|prepared| prepared.and_then(Prepared::begin))
        .collect();
    let lanes: Vec<Lane<'_>> = begun.iter().flatten().map(Prepared::lane).collect();
    let total = lanes.iter().map(Lane::len).fold(0, u64::saturating_add);
    let hashed = begun.iter().flatten().any(|one| one.composed.content().is_some());
    let leaves = hashed.then(Leaves::default);
    let whole = stream::encrypt(image, &lanes, leaves.as_ref(), &Meter::new(progress, total));
    let mut written = lanes.into_iter().map(Lane::finish);
    let done: Vec<Result<(), StreamError>> = begun
        .iter()
        .map(|one| match one {
            Ok(_) => written.next().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        })
        .collect();
    begun
        .into_iter()
        .zip(done)
        .map(|(one, lane)| {
            let one = one?;
            lane?;
            whole.as_ref().map_err(again)?;
            one.finish(leaves.as_ref())
        })
        .collect()
}

/// What ended all, once more for each output.
fn again(error: &StreamError) -> CreateError {
    match error {
        StreamError::Read(e) => CreateError::Image(io::Error::new(e.kind(), e.to_string())),
        StreamError::Write(e) => CreateError::Write(io::Error::new(e.kind(), e.to_string())),
        StreamError::Cancelled | StreamError::Crypto(_) => CreateError::Cancelled,
    }
}

/// Refuses a volume that cannot be, and a target that must not be written to; gives the length of the data segment.
pub(crate) fn refuse(target: &File, volume: &Volume<'_>, content: u64) -> Result<u64, CreateError> {
    let whole = volume.size.is_multiple_of(SectorSize::B4096.bytes_u64());
    let data_len = volume
        .size
        .checked_sub(DATA_OFFSET)
        .filter(|_| whole && volume.size >= MIN_SIZE)
        .ok_or(CreateError::Size(volume.size))?;
    if content > data_len {
        return Err(CreateError::TooLarge {
            content,
            room: data_len,
        });
    }
    if volume.label.len() > MAX_LABEL || volume.label.contains('\0') {
        return Err(CreateError::Label);
    }
    if volume.token.keyslot() != KeyslotId::SEALED {
        let other = TokenError::Malformed("its keyslot is not 0".to_owned());
        return Err(CreateError::Token(other));
    }
    // Whatever we write, we must read.
    volume.token.object().map_err(CreateError::Token)?;
    // A key that OpenSSL refuses is refused now and not after the first write.
    let options = &volume.options;
    SectorCipher::encrypting(options.cipher, volume.volume_key, options.sector_size)?;
    target::check(target, volume.size, volume.existing == Existing::Overwrite)?;
    Ok(data_len)
}

/// An output of which nothing is written yet, and nothing is to be refused any more.
struct Prepared<'a> {
    target: &'a File,
    volume: Volume<'a>,
    data_len: u64,
    composed: Composed,
    _lock: Option<Lock<'a>>,
}

fn prepare<'a>(
    image: &Image,
    output: Output<'a>,
    seen: &mut HashSet<(u64, u64, u64)>,
) -> Result<Prepared<'a>, CreateError> {
    let Output {
        target,
        volume,
        entropy,
    } = output;
    let metadata = target.metadata().map_err(TargetError::Io)?;
    let identity = match metadata.rdev() {
        0 => (metadata.dev(), metadata.ino(), 0),
        device => (0, 0, device),
    };
    // Before the target is looked at: what another writer is about to write is not there yet. A target that is there twice has its
    // lock already.
    let lock = if seen.contains(&identity) {
        None
    } else {
        let lock = Lock::take(target).map_err(TargetError::Io)?;
        Some(lock.ok_or(TargetError::Locked)?)
    };
    let data_len = refuse(target, &volume, image.len())?;
    if image.is(target).map_err(TargetError::Io)? {
        return Err(TargetError::IsTheImage.into());
    }
    if !seen.insert(identity) {
        return Err(TargetError::Twice.into());
    }
    let composed = compose::compose(&volume, data_len, image.len(), entropy)?;
    Ok(Prepared {
        target,
        volume,
        data_len,
        composed,
        _lock: lock,
    })
}

impl Prepared<'_> {
    /// Makes room and takes old headers away.
    fn begin(self) -> Result<Self, CreateError> {
        reserve::reserve(self.target, self.volume.size)?;
        clear(self.target).map_err(CreateError::Write)?;
        Ok(self)
    }

    fn lane(&self) -> Lane<'_> {
        let options = &self.volume.options;
        Lane::new(
            self.target,
            (DATA_OFFSET, self.data_len),
            options.cipher,
            options.sector_size,
            self.volume.volume_key,
        )
    }

    fn finish(self, leaves: Option<&Leaves>) -> Result<Created, CreateError> {
        let cipher = self.volume.options.cipher;
        finish(self.target, &self.composed, &self.volume, leaves)?;
        Ok(Created {
            volume_key_digest: cipher.expose(self.volume.volume_key, VolumeKeyDigest::of),
        })
    }
}

/// Takes away whatever is where headers and keyslots will be, so that an old header never stands over new data: first the
/// headers, one after the other, for as long as one is there its keyslots and data must be whole.
fn clear(sink: &dyn Sink) -> io::Result<()> {
    for at in std::iter::once(0).chain(binary::SIZES) {
        if sink::wipe(sink, at, at.saturating_add(binary::LEN_U64))? {
            sink.sync()?;
        }
    }
    sink::wipe(sink, 0, DATA_OFFSET)?;
    sink.sync()
}

/// Keyslots and sync, second header and sync, first header and sync.
fn finish(
    sink: &dyn Sink,
    composed: &Composed,
    volume: &Volume<'_>,
    leaves: Option<&Leaves>,
) -> Result<(), CreateError> {
    let content = match (composed.content(), leaves) {
        (Some(len), Some(leaves)) => {
            let token = leaves.mac(volume.options.cipher, volume.volume_key, len);
            Some(token.ok_or(CreateError::Header(None))?)
        }
        _ => None,
    };
    let [first, second] = composed.headers(content)?;
    let write = || {
        for area in &composed.areas {
            sink.write_at(&area.material, area.offset)?;
        }
        sink.sync()?;
        sink.write_at(&second, binary::DEFAULT_SIZE)?;
        sink.sync()?;
        sink.write_at(&first, 0)?;
        sink.sync()
    };
    write().map_err(CreateError::Write)
}

#[cfg(test)]
mod tests;
