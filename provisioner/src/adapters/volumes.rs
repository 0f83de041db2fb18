//! Volumes as files: written beside their target under a name of their own, synced, and placed in one step.
//!
//! Owns: that nothing that somebody else made is overwritten, not even between looking and placing, and that the
//! pre-shared key goes from memory into the encrypted volume and nowhere else.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use domain::{PskDigest, SealedSecret, VolumeKey, VolumeKeyDigest};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use volume::{
    ContentFile, DeviceConfig, Existing, FilesystemIds, Image, Options, Output, Owners, RecoveryKey, Volume,
    inspect,
};
use zeroize::Zeroizing;

use super::{escrows, folder, system::SystemEntropy};
use crate::{
    escrow,
    ports::{Content, Entropy as _, Found, Lying, NewVolume, Token, VolumeFault, Volumes},
};

/// Bytes of a volume that are not its data.
const HEADER: u64 = 16 << 20;

/// Volumes in the file system.
pub(super) struct Files;

/// Where a volume is while it is written: `.NAME.partial` beside its target.
pub(super) fn partial(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".partial");
    target.with_file_name(name)
}

impl Volumes for Files {
    fn find(&self, at: &Path) -> Result<Found, VolumeFault> {
        let metadata = match at.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(fault("look at", at)(source)),
        };
        if !metadata.is_file() {
            return Ok(Found::Other("it is not a regular file".to_owned()));
        }
        let file = File::open(at).map_err(fault("open", at))?;
        let header = match inspect(&file) {
            Ok(header) => header,
            Err(why) => return Ok(Found::Other(why.to_string())),
        };
        let Some(uuid) = header.uuid_bytes() else {
            return Ok(Found::Other(
                "it is a volume without a UUID of the usual form".to_owned(),
            ));
        };
        let token = match (header.sealed_tokens(), header.otp_tokens()) {
            ([token], []) => Token::Tpm(token.clone()),
            ([], [token]) => Token::Otp(token.clone()),
            ([], []) => {
                let why = "it is a volume that neither a TPM nor an OTP device key opens";
                return Ok(Found::Other(why.to_owned()));
            }
            _ => return Ok(Found::Other("it is a volume with several sealed keys".to_owned())),
        };
        Ok(Found::Volume(Box::new(Lying {
            uuid,
            token,
            recoverable: !header.recovery_keyslots().is_empty(),
        })))
    }

    fn read(&self, at: &Path, secret: &SealedSecret) -> Result<Content, VolumeFault> {
        let file = File::open(at).map_err(fault("open", at))?;
        let open = volume::open(file, secret).map_err(unopened(at))?;
        let psk = open.read("/psk").map_err(unopened(at))?;
        let config = open.read("/device.toml").map_err(unopened(at))?;
        Ok(Content {
            psk: PskDigest::of(&psk),
            // A text that this version does not read is not the one that it would write.
            config: DeviceConfig::from_toml(&config).ok(),
            volume_key: open.volume_key_digest(),
        })
    }

    fn write(&mut self, new: &NewVolume<'_>) -> Result<VolumeKeyDigest, VolumeFault> {
        let path = partial(new.target);
        let folder = folder(new.target);
        std::fs::create_dir_all(folder).map_err(fault("make the folder", folder))?;
        if new.leftover {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fault("remove", &path)(e)),
                _ => {}
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(fault("make", &path))?;
        let digest = fill(&file, new, &path)?;
        file.sync_all().map_err(fault("sync", &path))?;
        Ok(digest)
    }

    fn place(&mut self, target: &Path, replace: bool) -> Result<(), VolumeFault> {
        let path = partial(target);
        if replace {
            std::fs::rename(&path, target).map_err(fault("place", target))?;
        } else {
            rename_to_nothing(&path, target)?;
        }
        let folder = folder(target);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fault("sync the folder", folder))
    }
}

/// Renames, unless something is at the target: one step of the kernel, so nothing can come between.
pub(super) fn rename_to_nothing(from: &Path, target: &Path) -> Result<(), VolumeFault> {
    let exists = || VolumeFault::Exists {
        path: target.to_owned(),
    };
    match renameat_with(CWD, from, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::EXIST) => return Err(exists()),
        // Some file systems cannot do it; a second name, then one fewer, does the same.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
        Err(source) => return Err(fault("place", target)(source.into())),
    }
    match std::fs::hard_link(from, target) {
        Ok(()) => std::fs::remove_file(from).map_err(fault("remove", from)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
        Err(source) => Err(fault("place", target)(source)),
    }
}

fn fill(file: &File, new: &NewVolume<'_>, path: &Path) -> Result<VolumeKeyDigest, VolumeFault> {
    let uncreated = |source: Box<dyn std::error::Error + Send + Sync>| VolumeFault::Create {
        path: path.to_owned(),
        source,
    };
    let config = new.config.to_toml().map_err(|e| uncreated(e.into()))?;
    let psk = new.psk.expose(|text| Zeroizing::new(text.to_vec()));
    let files = [
        ContentFile {
            path: "/psk",
            mode: 0o400,
            data: psk,
        },
        ContentFile {
            path: "/device.toml",
            mode: 0o444,
            data: Zeroizing::new(config.into_bytes()),
        },
    ];
    let mut ids = FilesystemIds {
        uuid: [0; 16],
        hash_seed: [0; 16],
    };
    SystemEntropy.fill(&mut ids.uuid)?;
    SystemEntropy.fill(&mut ids.hash_seed)?;
    let room = new.size.saturating_sub(HEADER);
    let image = match new.content {
        None => Image::of_files(&files, room, ids),
        Some(folder) => Image::of_folder_and_files(folder, Owners::Root, &files, room, ids),
    };
    let image = image.map_err(|e| uncreated(e.into()))?;
    let recovery = match &new.escrow {
        None => None,
        Some(escrow) => {
            let key = RecoveryKey::new(SealedSecret::try_fill(|room| SystemEntropy.fill(room))?);
            let of = escrow::Subject {
                device: escrow.device.clone(),
                volume: new.uuid,
            };
            let text = escrow::seal(escrow.keepers, &of, &key).map_err(|e| uncreated(e.into()))?;
            escrows::write(escrow.file, &text, new.replace_escrow)?;
            Some(key)
        }
    };
    let volume_key = VolumeKey::try_fill(|room| SystemEntropy.fill(room))?;
    // `write` has no way to say that entropy failed: remember it, and throw the volume away.
    let mut failed = None;
    let mut entropy = |room: &mut [u8]| {
        if let Err(none) = SystemEntropy.fill(room) {
            failed = Some(none);
        }
    };
    let output = Output {
        target: file,
        volume: Volume {
            uuid: new.uuid,
            label: "",
            size: new.size,
            existing: Existing::Refuse,
            options: Options {
                cipher: new.cipher,
                sector_size: new.sector_size,
                recovery: recovery.as_ref(),
                generation: new.generation,
                ..Options::default()
            },
            volume_key: &volume_key,
            secret: new.secret,
            token: new.token,
        },
        entropy: &mut entropy,
    };
    let created = volume::write(&image, vec![output], &()).pop();
    if let Some(none) = failed {
        return Err(none.into());
    }
    // One output, one result.
    created
        .ok_or_else(|| uncreated("nothing was written".into()))?
        .map(|c| c.volume_key_digest)
        .map_err(|e| uncreated(e.into()))
}

pub(super) fn fault(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeFault {
    let path = path.to_owned();
    move |source| VolumeFault::File { doing, path, source }
}

fn unopened<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl FnOnce(E) -> VolumeFault {
    let path = path.to_owned();
    move |source| VolumeFault::Open {
        path,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.luks");
        std::fs::write(partial(&target), "new").unwrap();
        std::fs::write(&target, "theirs").unwrap();
        assert!(matches!(
            Files.place(&target, false),
            Err(VolumeFault::Exists { .. })
        ));
        assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
        Files.place(&target, true).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        std::fs::write(partial(&target), "newer").unwrap();
        std::fs::remove_file(&target).unwrap();
        Files.place(&target, false).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"newer");
        assert!(!partial(&target).exists());
    }

    #[test]
    fn what_is_no_volume_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(matches!(Files.find(&path).unwrap(), Found::Nothing));
        assert!(matches!(Files.find(dir.path()).unwrap(), Found::Other(_)));
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(Files.find(&path).unwrap(), Found::Other(_)));
        std::os::unix::fs::symlink("/dev/null", dir.path().join("link")).unwrap();
        assert!(matches!(
            Files.find(&dir.path().join("link")).unwrap(),
            Found::Other(_)
        ));
    }
}
