//! Volumes that `provisioner` writes straight to disks, inside the machine, and disks that it must leave alone.
//!
//! Owns: the disks and what must become of each. *blank* holds nothing: a volume goes there, sealed to the machine as it is, and dm-crypt opens it.
//! What holds a volume already, a partition table, or is mounted is refused by name, and stays as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER;
use domain::Sha256Digest;

use super::AES;
use super::checks::{Expect as _, expect, opened, unless};
use crate::error::VmError;
use crate::factory::random;
use crate::guest::{Console, Opener, Verb};
use crate::run::succeed;
use crate::yard::Yard;

const BLANK: &str = "blank";
const CONTENT: &str = "content";
const PARTED: &str = "parted";
const MOUNTED: &str = "mounted";
/// Bytes of the disks that get a volume or refuse it.
const SIZE: u64 = 32 << 20;

/// The disks of a boot.
pub(super) struct Disks {
    files: [PathBuf; 4],
    /// What opening says of the content.
    said: String,
    /// The partitioned disk, before the boot.
    parted: Vec<u8>,
}

/// What is asked: write once, open by everybody, and be refused wherever something is.
pub(super) fn job() -> Vec<Verb> {
    vec![
        Verb::Create(BLANK),
        Verb::Unlock(Opener::Ours, BLANK),
        Verb::Unlock(Opener::Stock, BLANK),
        Verb::Create(BLANK),
        Verb::Create(AES),
        Verb::Create(PARTED),
        Verb::Mount(MOUNTED),
        Verb::Create(MOUNTED),
    ]
}

impl Disks {
    pub(super) fn make(yard: &Yard) -> Result<Self, VmError> {
        let folder = yard.runs.join("disks");
        let tree = folder.join("tree");
        fs::create_dir_all(&tree).map_err(VmError::file(&tree))?;
        let key = HEXLOWER.encode(&random::<16>()?);
        let psk = tree.join("psk");
        fs::write(&psk, &key).map_err(VmError::file(&psk))?;
        let at = |name: &str| folder.join(name);
        for name in [BLANK, PARTED] {
            let file = fs::File::create(at(name)).map_err(VmError::file(at(name)))?;
            file.set_len(SIZE).map_err(VmError::file(at(name)))?;
        }
        for (name, size) in [(CONTENT, "4M"), (MOUNTED, "32M")] {
            succeed(
                Command::new("/usr/sbin/mke2fs")
                    .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
                    .args([&tree, &at(name)])
                    .arg(size),
            )?;
        }
        let mut parted = fs::read(at(PARTED)).map_err(VmError::file(at(PARTED)))?;
        partition(&mut parted).ok_or_else(|| VmError::Missing("room for a partition table".to_owned()))?;
        fs::write(at(PARTED), &parted).map_err(VmError::file(at(PARTED)))?;
        Ok(Self {
            files: [BLANK, CONTENT, PARTED, MOUNTED].map(at),
            said: Sha256Digest::of(key.as_bytes()).to_string(),
            parted,
        })
    }

    /// Each with its file.
    pub(super) fn named(&self) -> [(&'static str, &Path); 4] {
        let [blank, content, parted, mounted] = &self.files;
        [
            (BLANK, blank),
            (CONTENT, content),
            (PARTED, parted),
            (MOUNTED, mounted),
        ]
    }

    pub(super) fn check(&self, console: &Console) -> Result<(), VmError> {
        expect(console, &Verb::Create(BLANK), 0)?.is("made")?;
        for opener in [Opener::Ours, Opener::Stock] {
            opened(console, &Verb::Unlock(opener, BLANK), 0, &self.said)?;
        }
        expect(console, &Verb::Mount(MOUNTED), 0)?.is("mounted")?;
        for (disk, nth, reason) in [
            (BLANK, 1, "a LUKS2 volume at offset 0"),
            (AES, 0, "a LUKS2 volume at offset 0"),
            (PARTED, 0, "an MBR partition table at offset 510"),
            (MOUNTED, 0, "mounted"),
        ] {
            expect(console, &Verb::Create(disk), nth)?.begins("refused ", &[reason])?;
        }
        let [_, _, parted, _] = &self.files;
        let after = fs::read(parted).map_err(VmError::file(parted))?;
        unless(
            after == self.parted,
            || "a partitioned disk that nothing was written to".to_owned(),
            || "other bytes".to_owned(),
        )
    }
}

/// A table with one partition of Linux, 1 MiB from the start.
fn partition(disk: &mut [u8]) -> Option<()> {
    let entry = [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 64, 0, 0];
    disk.get_mut(446..462)?.copy_from_slice(&entry);
    disk.get_mut(510..512)?.copy_from_slice(&[0x55, 0xaa]);
    Some(())
}
