//! A new recovery key for a volume that is there: for one from before the fleet had keepers, and after somebody saw the old one.
//!
//! Owns: that at no moment the volume opens with a recovery key that is in no escrow file. The new key is put into `FILE.next` and synced
//! before the volume is changed; `FILE.next` takes the place of `FILE` after the volume was seen to open with the new key. Stopped in
//! between, both files are there and one of them opens the volume: the next run says so and touches neither.
//! Refuses to end with another file than this volume's escrow file in `FILE`'s place, as far as can be told without a keeper's key: what is
//! there must be encrypted with age, and the volume must have a recovery key already.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use domain::DeviceId;
use volume::{RecoveryKey, RekeyError};

use super::{entropy::Stream, file_fault, unchanged, uncreated, usage};
use crate::{
    adapters::escrows,
    escrow::{self, Recipients, Subject},
    failure::Failure,
};

/// A new recovery key in escrow, beside the old one.
pub(super) struct Rotation {
    pub(super) key: RecoveryKey,
    file: PathBuf,
    next: PathBuf,
}

/// What a rotation needs to know.
pub(super) struct Wish<'a> {
    /// The volume.
    pub(super) volume: &'a Path,
    /// Its UUID.
    pub(super) uuid: Option<[u8; 16]>,
    /// Whether it has a recovery key now.
    pub(super) recoverable: bool,
    /// To whom the key is encrypted; none: there is no rotation.
    pub(super) to: &'a [String],
    /// Where the file goes, if not beside the volume.
    pub(super) file: Option<&'a Path>,
    /// The device, if not named by the volume's file.
    pub(super) device: Option<&'a DeviceId>,
}

impl Rotation {
    /// Makes the key and puts it into escrow; `None` where nobody wants one.
    pub(super) fn begin(wish: &Wish<'_>, stream: &mut Stream) -> Result<Option<Self>, Failure> {
        if wish.to.is_empty() {
            return Ok(None);
        }
        let recipients =
            Recipients::parse(wish.to).map_err(|e| usage(e.to_string(), "age-keygen makes such keys"))?;
        let name = wish
            .volume
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default().parse().ok();
        let device = wish.device.cloned().or(stem).ok_or_else(|| {
            usage(
                "the volume's name is no device id, and one is needed for the escrow file",
                "--device ID",
            )
        })?;
        let uuid = wish
            .uuid
            .ok_or_else(|| unchanged(wish.volume, "its UUID is not one of the usual form"))?;
        let file = wish
            .file
            .map_or_else(|| escrows::beside(wish.volume), Path::to_owned);
        refuse_other(&file, wish.recoverable)?;
        let next = next(&file);
        if next.symlink_metadata().is_ok() {
            return Err(usage(
                format!(
                    "'{}' is there: an earlier run was stopped in between",
                    next.display()
                ),
                "it or the file beside it opens the volume: `volume recover --no-reseal --escrow-file` tells which; move the other away",
            ));
        }
        let key = RecoveryKey::new(domain::SealedSecret::try_fill(|room| stream.try_fill(room))?);
        let of = Subject { device, volume: uuid };
        let text = escrow::seal(&recipients, &of, &key).map_err(|e| uncreated(&next, e))?;
        escrows::write(&next, &text, false)?;
        Ok(Some(Self { key, file, next }))
    }

    /// The volume was not changed: the key opens nothing.
    pub(super) fn undo(&self, why: &RekeyError) {
        if !matches!(why, RekeyError::Write(_)) {
            let _gone = std::fs::remove_file(&self.next);
        }
    }

    /// Sees that the key opens the volume, and puts its file in the place of the old one.
    pub(super) fn finish(self, volume: &Path) -> Result<PathBuf, Failure> {
        let again = File::open(volume).map_err(file_fault("open", volume))?;
        volume::open_with_recovery_key(again, &self.key).map_err(|e| unchanged(volume, e))?;
        escrows::replace(&self.next, &self.file)?;
        Ok(self.file)
    }
}

/// Whether what is at `file` may go when all is done.
fn refuse_other(file: &Path, recoverable: bool) -> Result<(), Failure> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    let there = |what: &str| {
        usage(
            format!("'{}' is there, and {what}", file.display()),
            "move it away, or name another place with --escrow-file",
        )
    };
    if !recoverable {
        return Err(there("the volume has no recovery key that could be in it"));
    }
    if !escrow::is_encrypted(&escrows::read(file)?) {
        return Err(there("it is no file that age has encrypted"));
    }
    Ok(())
}

fn next(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".next");
    name.into()
}
