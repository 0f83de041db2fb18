//! Who uses a target already: mounts, swap, and devices that stand on it.
//!
//! Owns: the questions to the kernel, in `/proc` and `/sys` below a root that tests replace. What is in use is never written to,
//! not even where the caller wants its content overwritten. A disk is in use where one of its partitions is.
//! A block device is besides opened once for itself (`O_EXCL`), which the kernel refuses for all of this and for what
//! this module does not know.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, major, minor};

/// Who uses a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Holder {
    /// A file system on it is mounted.
    #[error("mounted at {0:?}")]
    Mount(PathBuf),
    /// The kernel swaps to it.
    #[error("a swap area in use")]
    Swap,
    /// Another block device stands on it: device-mapper, RAID, a loop device.
    #[error("held by the device {0:?}")]
    Device(String),
    /// The kernel will not say who.
    #[error("in use")]
    Somebody,
}

/// What a target is to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Regular { dev: u64, ino: u64 },
    Block { device: u64 },
}

/// The kernel's own view of what is in use.
pub(crate) struct Kernel {
    root: PathBuf,
}

impl Kernel {
    /// This machine's.
    pub(crate) fn here() -> Self {
        Self { root: "/".into() }
    }

    /// Who uses `target`, if somebody does.
    pub(crate) fn holder(&self, target: &File) -> io::Result<Option<Holder>> {
        let metadata = target.metadata()?;
        if metadata.file_type().is_block_device() {
            let medium = Medium::Block {
                device: metadata.rdev(),
            };
            match self.known(medium)? {
                None => exclusive(target),
                found => Ok(found),
            }
        } else {
            self.known(Medium::Regular {
                dev: metadata.dev(),
                ino: metadata.ino(),
            })
        }
    }

    /// Whether the block device `part` is a partition of the disk `whole`, or the other way round.
    pub(crate) fn overlap(&self, one: u64, other: u64) -> io::Result<bool> {
        for (whole, part) in [(one, other), (other, one)] {
            let folder = self.root.join("sys/dev/block").join(number(whole));
            for child in names(&folder)? {
                let child = folder.join(child);
                if child.join("partition").exists()
                    && fs::read_to_string(child.join("dev"))?.trim() == number(part)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn known(&self, medium: Medium) -> io::Result<Option<Holder>> {
        let mut devices = Vec::new();
        if let Medium::Block { device } = medium {
            let number = number(device);
            let folder = self.root.join("sys/dev/block").join(&number);
            devices.push((number, folder.clone()));
            // A partition is a folder with its number in `dev`.
            for child in names(&folder)? {
                let child = folder.join(child);
                if child.join("partition").exists() {
                    let number = fs::read_to_string(child.join("dev"))?;
                    devices.push((number.trim().to_owned(), child));
                }
            }
        }
        for (number, folder) in &devices {
            if let Some(at) = self.mount_of(number)? {
                return Ok(Some(Holder::Mount(at)));
            }
            if let Some(holder) = names(&folder.join("holders"))?.into_iter().next() {
                return Ok(Some(Holder::Device(holder)));
            }
        }
        if self.swaps(medium, &devices)? {
            return Ok(Some(Holder::Swap));
        }
        self.loop_over(medium)
    }

    /// The first mount point of a device.
    fn mount_of(&self, number: &str) -> io::Result<Option<PathBuf>> {
        let text = self.text("proc/self/mountinfo")?;
        let at = text.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let found = fields.nth(2)?;
            let at = fields.nth(1)?;
            // A file system with a device number of its own (btrfs) is known by its source.
            let source = line
                .split_once(" - ")
                .and_then(|(_, rest)| rest.split(' ').nth(1));
            let same = found == number || source.is_some_and(|source| self.is_device(source, number));
            same.then(|| unescaped(at).into())
        });
        Ok(at)
    }

    fn swaps(&self, medium: Medium, devices: &[(String, PathBuf)]) -> io::Result<bool> {
        let text = self.text("proc/swaps")?;
        let mut names = text.lines().skip(1).filter_map(|line| line.split(' ').next());
        Ok(names.any(|name| {
            let name = unescaped(name);
            self.is_medium(&name, medium) || devices.iter().any(|(number, _)| self.is_device(&name, number))
        }))
    }

    /// The loop device that stands on a file.
    fn loop_over(&self, medium: Medium) -> io::Result<Option<Holder>> {
        let block = self.root.join("sys/block");
        for name in names(&block)? {
            let Ok(backing) = fs::read_to_string(block.join(&name).join("loop/backing_file")) else {
                continue;
            };
            if self.is_medium(backing.trim_end_matches('\n'), medium) {
                return Ok(Some(Holder::Device(name)));
            }
        }
        Ok(None)
    }

    fn is_device(&self, path: &str, other: &str) -> bool {
        let metadata = fs::metadata(self.below(path));
        metadata.is_ok_and(|found| found.file_type().is_block_device() && number(found.rdev()) == other)
    }

    fn is_medium(&self, path: &str, medium: Medium) -> bool {
        fs::metadata(self.below(path)).is_ok_and(|found| match medium {
            Medium::Regular { dev, ino } => (found.dev(), found.ino()) == (dev, ino),
            Medium::Block { device } => found.file_type().is_block_device() && found.rdev() == device,
        })
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file of `/proc`; a kernel without swap has no list of swaps.
    fn text(&self, path: &str) -> io::Result<String> {
        match fs::read_to_string(self.root.join(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && path == "proc/swaps" => Ok(String::new()),
            other => other,
        }
    }
}

/// Opens the device for itself alone, for a moment.
fn exclusive(target: &File) -> io::Result<Option<Holder>> {
    use std::os::fd::AsRawFd as _;
    let flags = i32::try_from(OFlags::EXCL.bits()).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", target.as_raw_fd());
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(Some(Holder::Somebody)),
        Err(e) => Err(e),
    }
}

fn number(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

/// The names in a folder, in their order; none where there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The kernel writes spaces and the like as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Medium = Medium::Block { device: 0x0810 };
    const PROC: &str =
        "25 1 8:1 / /boot\\040menu rw - ext4 /dev/sda1 rw\n26 1 0:5 / /proc rw - proc proc rw\n";

    /// A machine with a disk 8:16 that has one partition 8:17.
    fn machine() -> (tempfile::TempDir, Kernel) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for folder in [
            "proc/self",
            "sys/dev/block/8:16/sdb1/holders",
            "sys/dev/block/8:16/holders",
            "sys/block",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("sys/dev/block/8:16/sdb1/partition"), "1\n").unwrap();
        fs::write(root.join("sys/dev/block/8:16/sdb1/dev"), "8:17\n").unwrap();
        fs::write(root.join("proc/self/mountinfo"), PROC).unwrap();
        fs::write(root.join("proc/swaps"), "Filename Type Size Used Priority\n").unwrap();
        let kernel = Kernel { root: root.into() };
        (folder, kernel)
    }

    #[test]
    fn a_device_that_nobody_uses_is_free() {
        let (_folder, kernel) = machine();
        assert_eq!(number(0x0810), "8:16");
        assert_eq!(kernel.known(DISK).unwrap(), None);
    }

    #[test]
    fn a_partition_is_a_part_of_its_disk_alone() {
        let (_folder, kernel) = machine();
        assert!(kernel.overlap(0x0810, 0x0811).unwrap() && kernel.overlap(0x0811, 0x0810).unwrap());
        assert!(!kernel.overlap(0x0810, 0x0812).unwrap() && !kernel.overlap(0x0820, 0x0811).unwrap());
    }

    #[test]
    fn mounts_of_the_disk_and_of_its_partitions_are_named() {
        for number in ["8:16", "8:17"] {
            let (folder, kernel) = machine();
            let more = format!("{PROC}27 1 {number} / /mnt/a\\040b rw - xfs /dev/x rw\n");
            fs::write(folder.path().join("proc/self/mountinfo"), more).unwrap();
            let found = kernel.known(DISK).unwrap();
            assert_eq!(found, Some(Holder::Mount("/mnt/a b".into())));
        }
    }

    #[test]
    fn device_mapper_and_raid_on_the_disk_or_a_partition_are_named() {
        for place in ["8:16/holders/dm-0", "8:16/sdb1/holders/md127"] {
            let (folder, kernel) = machine();
            fs::create_dir(folder.path().join("sys/dev/block").join(place)).unwrap();
            let name = place.rsplit_once('/').unwrap().1;
            assert_eq!(kernel.known(DISK).unwrap(), Some(Holder::Device(name.into())));
        }
    }

    #[test]
    fn swap_files_and_files_below_loop_devices_are_named() {
        let (folder, kernel) = machine();
        let path = folder.path().join("a file");
        let file = File::create(&path).unwrap();
        assert_eq!(kernel.holder(&file).unwrap(), None);
        let swaps = "Filename Type Size Used Priority\n/a\\040file   file 1 0 -2\n";
        fs::write(folder.path().join("proc/swaps"), swaps).unwrap();
        assert_eq!(kernel.holder(&file).unwrap(), Some(Holder::Swap));
        fs::remove_file(folder.path().join("proc/swaps")).unwrap();
        let device = folder.path().join("sys/block/loop3/loop");
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(folder.path().join("sys/block/sda")).unwrap();
        fs::write(device.join("backing_file"), "/a file\n").unwrap();
        assert_eq!(
            kernel.holder(&file).unwrap(),
            Some(Holder::Device("loop3".into()))
        );
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_not_taken_for_no() {
        let (folder, kernel) = machine();
        fs::remove_file(folder.path().join("proc/self/mountinfo")).unwrap();
        assert!(kernel.known(DISK).is_err());
        assert!(
            Kernel::here()
                .holder(&tempfile::tempfile().unwrap())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn escapes_are_read_and_nothing_else_is_changed() {
        for (text, expected) in [
            ("/a\\040b\\134", "/a b\\"),
            ("\\9x", "\\9x"),
            ("\\0", "\\0"),
            ("ä\\777", "ä\\777"),
        ] {
            assert_eq!(unescaped(text), expected);
        }
    }
}
