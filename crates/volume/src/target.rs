//! What a volume is written to: a new file, an existing one, or a block device, and what is on it already.
//!
//! Owns: the refusal. Before the first write the target is searched for LUKS headers, file systems, partition tables,
//! RAID and LVM members and swap; whatever is found is named, and only an explicit wish overwrites it. Data of no known kind
//! is somebody's too: anything but zeros in the first 16 MiB, in 64 KiB at each of 256 places behind them, or in the last MiB of what would be
//! written. What is in use (see `held`) is never overwritten.

use std::{fs::File, io};

use crate::{
    Holder, Source as _, binary,
    create::DATA_OFFSET,
    held::Kernel,
    sink::{self, Sink},
};

/// What was found on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset}")]
pub struct Found {
    /// Its name, such as `an ext2, ext3 or ext4 file system`.
    pub what: &'static str,
    /// Where its mark is, in bytes.
    pub offset: u64,
}

/// Why a target is not written to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It cannot be read, grown or written.
    #[error("the target cannot be used")]
    Io(#[from] io::Error),
    /// Something is there already.
    #[error("the target holds {0}")]
    Occupied(Found),
    /// Somebody uses it.
    #[error("the target is {0}")]
    InUse(Holder),
    /// The disk is full, or a limit is reached.
    #[error("there is no room for the {needed} bytes of the volume")]
    NoRoom {
        /// Bytes of the volume.
        needed: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It is the image that is to be encrypted.
    #[error("the target is the image itself")]
    IsTheImage,
    /// Another writer of a volume is at it.
    #[error("another process writes a volume to the target")]
    Locked,
    /// It is the target of another volume of the same call.
    #[error("the target is there twice")]
    Twice,
    /// It has fewer bytes than the volume.
    #[error("the target has {found} bytes, the volume needs {needed}")]
    TooSmall {
        /// Bytes of the volume.
        needed: u64,
        /// Bytes of the target.
        found: u64,
    },
}

/// Magic numbers: their offset, bytes, and owner.
const MARKS: &[(u64, &[u8], &str)] = &[
    (0, b"LUKS\xba\xbe\0\x01", "a LUKS1 volume"),
    (0, b"LUKS\xba\xbe\0\x02", "a LUKS2 volume"),
    (0, b"LUKS\xba\xbe", "a LUKS volume of an unknown version"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (0, b"XFSB", "an XFS file system"),
    (65600, b"_BHRfS_M", "a btrfs file system"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (3, b"-FVE-FS-", "a BitLocker volume"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT32 file system"),
    (32769, b"CD001", "an ISO 9660 file system"),
    // Behind the first page, whatever that machine's size is.
    (4086, b"SWAPSPACE2", "a swap area"),
    (8182, b"SWAPSPACE2", "a swap area"),
    (16374, b"SWAPSPACE2", "a swap area"),
    (65526, b"SWAPSPACE2", "a swap area"),
    (4086, b"SWAP-SPACE", "a swap area"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (510, b"\x55\xaa", "an MBR partition table"),
    // In one of the first four sectors.
    (0, b"LABELONE", "an LVM physical volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (1024, b"LABELONE", "an LVM physical volume"),
    (1536, b"LABELONE", "an LVM physical volume"),
    (0, b"integrt\0", "a dm-integrity device"),
    (
        4120,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "a bcache device",
    ),
    (0, b"verity\0\0", "a dm-verity device"),
    (0, b"\xfc\x4e\x2b\xa9", "a RAID member"),
    (4096, b"\xfc\x4e\x2b\xa9", "a RAID member"),
    (
        4120,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "a bcachefs file system",
    ),
    (32, b"NXSB", "an APFS container"),
    (1024, b"H+\0\x04", "an HFS+ file system"),
    (1024, b"HX\0\x05", "an HFS+ file system"),
    (32768, b"JFS1", "a JFS file system"),
    (8244, b"ReIsEr", "a ReiserFS file system"),
    (65588, b"ReIsEr", "a ReiserFS file system"),
    (65536, b"\x01\x16\x19\x70", "a GFS2 file system"),
    (34817, b"NSR02", "a UDF file system"),
    (34817, b"NSR03", "a UDF file system"),
    (0, b"dmvdo001", "a VDO volume"),
    (516, b"!Stra0tis", "a Stratis member"),
    (0, b"bluestore block ", "a Ceph device"),
    (0, b"\x45\x3d\xcd\x28", "a cramfs file system"),
    (0, b"-rom1fs-", "a romfs file system"),
];

/// Where ZFS keeps its labels from the start and from the end, and in each the room for uberblocks.
const ZFS_LABEL: u64 = 256 << 10;
const ZFS_UBERBLOCKS: u64 = 128 << 10;
/// The smallest room of one uberblock, and its mark in either byte order.
const ZFS_SLOT: u64 = 1024;
const ZFS_MARKS: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];
/// How many places behind the headers are looked at for data of no known kind, and how much of each, in bytes. One more is the end.
const SAMPLES: u64 = 256;
const SAMPLE: u64 = 64 << 10;

/// The first mark on `target`, if there is one, or data where `size` bytes will be written.
pub(crate) fn search(target: &File, size: u64) -> io::Result<Option<Found>> {
    let second_headers = binary::SIZES
        .iter()
        .map(|at| (*at, binary::MAGIC_SECONDARY.as_slice(), "a LUKS2 volume"));
    // The second GPT is in the last block, a RAID's superblock of version 0.9 or 1.0 near the end.
    let len = target.len()?;
    let from_end = |distance: u64, mark: &'static [u8], what| {
        let at = len.checked_sub(distance)?;
        Some((at, mark, what))
    };
    let old_raid = (len & !0xffff).checked_sub(0x1_0000);
    let last = [
        from_end(512, b"EFI PART", "a GPT partition table"),
        from_end(4096, b"EFI PART", "a GPT partition table"),
        from_end(1024, b"Intel Raid ISM C", "a RAID member"),
        from_end(512, b"\xde\x11\xde\x11", "a RAID member"),
        old_raid.map(|at| (at, b"\xfc\x4e\x2b\xa9".as_slice(), "a RAID member")),
        from_end(
            len - (len & !0xfff).saturating_sub(0x2000),
            b"\xfc\x4e\x2b\xa9",
            "a RAID member",
        ),
    ];
    let last = last.into_iter().flatten();
    for (offset, mark, what) in MARKS.iter().copied().chain(second_headers).chain(last) {
        let mut there = [0; 16];
        let Some(room) = there.get_mut(..mark.len()) else {
            continue;
        };
        match Sink::read_at(target, room, offset) {
            Ok(()) if room == mark => return Ok(Some(Found { what, offset })),
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(e),
        }
    }
    if let Some(offset) = zfs(target, len)? {
        let what = "a ZFS member";
        return Ok(Some(Found { what, offset }));
    }
    unknown(target, len.min(size))
}

/// The first uberblock of ZFS in one of its four labels.
fn zfs(target: &File, len: u64) -> io::Result<Option<u64>> {
    let end = len & !(ZFS_LABEL - 1);
    let labels = [
        Some(0),
        Some(ZFS_LABEL),
        end.checked_sub(2 * ZFS_LABEL),
        end.checked_sub(ZFS_LABEL),
    ];
    for label in labels.into_iter().flatten() {
        for slot in 0..ZFS_UBERBLOCKS / ZFS_SLOT {
            let at = label
                .saturating_add(ZFS_UBERBLOCKS)
                .saturating_add(slot.saturating_mul(ZFS_SLOT));
            let mut mark = [0; 8];
            match Sink::read_at(target, &mut mark, at) {
                Ok(()) if ZFS_MARKS.contains(&mark) => return Ok(Some(at)),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(None)
}

/// Anything but zeros in `len` bytes: where the headers will be, at many places behind them and at the end.
fn unknown(target: &File, len: u64) -> io::Result<Option<Found>> {
    let mut found = None;
    let mut look = |from: u64, to: u64| {
        sink::each_piece(target as &dyn Sink, from, to, |_, offset| {
            found.get_or_insert(Found {
                what: "data of no known kind",
                offset,
            });
            Ok(())
        })
    };
    look(0, len.min(DATA_OFFSET))?;
    let behind = len.saturating_sub(DATA_OFFSET);
    if behind <= SAMPLES * SAMPLE {
        look(DATA_OFFSET.min(len), len)?;
    } else {
        let step = (behind / SAMPLES) & !(SAMPLE - 1);
        for nth in 0..SAMPLES {
            let at = DATA_OFFSET.saturating_add(nth.saturating_mul(step));
            look(at, at.saturating_add(SAMPLE))?;
        }
        look(len.saturating_sub(1 << 20), len)?;
    }
    Ok(found)
}

/// Whether a volume of `size` bytes may be written to `target`: nothing is there, nobody uses it, and it is large enough. Looks
/// and changes nothing; [`crate::write()`] looks again.
///
/// # Errors
/// [`TargetError`].
pub fn refuse_target(target: &File, size: u64) -> Result<(), TargetError> {
    check(target, size, false)
}

/// Checks the target without changing it.
pub(crate) fn check(target: &File, needed: u64, overwrite: bool) -> Result<(), TargetError> {
    if let Some(holder) = Kernel::here().holder(target)? {
        return Err(TargetError::InUse(holder));
    }
    if !overwrite && let Some(found) = search(target, needed)? {
        return Err(TargetError::Occupied(found));
    }
    let found = target.len()?;
    let grows = target.metadata()?.is_file() && (found == 0 || overwrite);
    if found >= needed || grows {
        Ok(())
    } else {
        Err(TargetError::TooSmall { needed, found })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn every_mark_is_found_and_named() {
        for (offset, mark, what) in MARKS {
            let target = tempfile::tempfile().unwrap();
            target.set_len(1 << 20).unwrap();
            target.write_all_at(mark, *offset).unwrap();
            let found = search(&target, u64::MAX).unwrap().unwrap();
            // FAT32 has the shorter mark elsewhere; every other is found under its own name.
            assert_eq!((found.what, found.offset), (*what, *offset));
            let refused = check(&target, 1 << 20, false);
            assert!(matches!(refused, Err(TargetError::Occupied(f)) if f == found));
            let refused = refuse_target(&target, 1 << 20);
            assert!(matches!(refused, Err(TargetError::Occupied(f)) if f == found));
            check(&target, 1 << 20, true).unwrap();
        }
    }

    #[test]
    fn second_headers_and_second_partition_tables_are_found() {
        for (offset, mark) in [
            (0x4000, b"SKUL\xba\xbe".as_slice()),
            (0x40_0000, b"SKUL\xba\xbe"),
            ((8 << 20) - 512, b"EFI PART"),
        ] {
            let target = tempfile::tempfile().unwrap();
            target.set_len(8 << 20).unwrap();
            target.write_all_at(mark, offset).unwrap();
            assert_eq!(search(&target, u64::MAX).unwrap().unwrap().offset, offset);
        }
    }

    #[test]
    fn zfs_labels_and_data_far_behind_are_found() {
        let len = (4 << 30) + 12345;
        for (offset, what) in [
            (128 << 10, "a ZFS member"),
            ((384 << 10) + 5 * 1024, "a ZFS member"),
            ((4 << 30) - (512 << 10) + (128 << 10), "a ZFS member"),
            ((4 << 30) - (128 << 10) + 127 * 1024, "a ZFS member"),
        ] {
            for mark in ZFS_MARKS {
                let target = tempfile::tempfile().unwrap();
                target.set_len(len).unwrap();
                target.write_all_at(&mark, offset).unwrap();
                assert_eq!(search(&target, u64::MAX).unwrap(), Some(Found { what, offset }));
            }
        }
        let step = ((len - DATA_OFFSET) / SAMPLES) & !(SAMPLE - 1);
        for at in [100, DATA_OFFSET + 7 * step + 3, len - 1] {
            let target = tempfile::tempfile().unwrap();
            target.set_len(len).unwrap();
            assert_eq!(search(&target, u64::MAX).unwrap(), None);
            target.write_all_at(b"x", at).unwrap();
            let found = search(&target, u64::MAX).unwrap().unwrap();
            assert!(
                found.what == "data of no known kind" && (found.offset..found.offset + SAMPLE).contains(&at)
            );
        }
    }

    #[test]
    fn only_empty_and_overwritten_files_grow() {
        let target = tempfile::tempfile().unwrap();
        check(&target, 8192, false).unwrap();
        target.set_len(8192).unwrap();
        check(&target, 4096, false).unwrap();
        let small = check(&target, 16384, false);
        assert!(matches!(
            small,
            Err(TargetError::TooSmall {
                needed: 16384,
                found: 8192
            })
        ));
        check(&target, 16384, true).unwrap();
        let device = File::options().read(true).write(true).open("/dev/null").unwrap();
        assert!(matches!(
            check(&device, 4096, true),
            Err(TargetError::TooSmall { .. })
        ));
    }

    #[test]
    fn a_target_that_cannot_be_read_is_not_searched_for_nothing() {
        let target = tempfile::NamedTempFile::new().unwrap();
        target.as_file().set_len(8192).unwrap();
        let write_only = File::options().write(true).open(target.path()).unwrap();
        assert!(matches!(check(&write_only, 4096, false), Err(TargetError::Io(_))));
    }
}
