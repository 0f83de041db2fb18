//! Looking an ext4 file system over: every folder, every inode, every checksum that there is on the way.
//!
//! Owns: the walk and its bounds. `ext4-view` checks the checksums of superblock, group descriptors, inodes, folders and extents
//! while it reads them (feature `metadata_csum`, which ours have). Contents of files carry none in ext4.
//! Whoever made the image controls every byte: the walk is bounded in entries and depth, and never follows a link.

use std::error::Error;

use ext4_view::{Ext4, Ext4Error, Ext4Read, PathBuf};

use crate::Source;

/// Most entries that are looked at.
const MAX_ENTRIES: u64 = 4_000_000;
/// The deepest folder.
const MAX_DEPTH: usize = 128;

/// What is in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Regular files, hard links counted each.
    pub files: u64,
    /// Folders, the root not counted.
    pub folders: u64,
    /// Symbolic links, devices and the like.
    pub others: u64,
    /// Bytes of all files, as their lengths say.
    pub bytes: u64,
}

/// Why a file system is not whole.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It is no ext4 file system at all.
    #[error("there is no ext4 file system")]
    None,
    /// It is broken, or has features that are not read.
    #[error("the file system is broken: {0}")]
    Broken(#[from] Ext4Error),
    /// More entries or deeper folders than anybody wants.
    #[error("the file system has more than {MAX_ENTRIES} entries, or folders deeper than {MAX_DEPTH}")]
    TooLarge,
}

/// Looks over an ext4 file system in the clear, such as an [`crate::Image`]'s reader.
///
/// # Errors
/// [`SurveyError`].
pub fn survey(plain: impl Source + 'static) -> Result<Survey, SurveyError> {
    let fs = Ext4::load(Box::new(Reader(plain))).map_err(not_ext4)?;
    walk(&fs)
}

/// Without its magic it is none; with it, it is broken.
pub(crate) fn not_ext4(error: Ext4Error) -> SurveyError {
    let text = format!("{error:?}");
    if text.contains("SuperblockMagic") {
        SurveyError::None
    } else {
        SurveyError::Broken(error)
    }
}

pub(crate) fn walk(fs: &Ext4) -> Result<Survey, SurveyError> {
    let mut found = Survey::default();
    let mut entries = 0_u64;
    let mut rest = vec![(PathBuf::new("/"), 0)];
    while let Some((folder, depth)) = rest.pop() {
        if depth > MAX_DEPTH {
            return Err(SurveyError::TooLarge);
        }
        for entry in fs.read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            entries = entries.saturating_add(1);
            if entries > MAX_ENTRIES {
                return Err(SurveyError::TooLarge);
            }
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                found.folders = found.folders.saturating_add(1);
                rest.push((entry.path(), depth.saturating_add(1)));
            } else if metadata.file_type().is_regular_file() {
                found.files = found.files.saturating_add(1);
                found.bytes = found.bytes.saturating_add(metadata.len());
            } else {
                found.others = found.others.saturating_add(1);
            }
        }
    }
    Ok(found)
}

/// Where the superblock is, and where in it the size of blocks: the power of two by which they are larger than 1 KiB
/// (ext4 disk layout, `s_log_block_size`).
const SUPERBLOCK: u64 = 1024;
const LOG_BLOCK_SIZE: std::ops::Range<usize> = 0x18..0x1c;
/// 64 KiB, the largest that there are.
const LARGEST_BLOCKS: u32 = 6;

/// Refuses a superblock whose blocks are larger than ext4 has them: a reader that takes memory for one block would take gigabytes.
pub(crate) fn check_blocks(start: u64, read: &[u8]) -> std::io::Result<()> {
    let size = read.get(LOG_BLOCK_SIZE).filter(|_| start == SUPERBLOCK);
    match size.and_then(|size| size.first_chunk::<4>()) {
        Some(size) if u32::from_le_bytes(*size) > LARGEST_BLOCKS => {
            Err(std::io::Error::other("blocks of more than 64 KiB"))
        }
        _ => Ok(()),
    }
}

struct Reader<S>(S);

impl<S: Source> Ext4Read for Reader<S> {
    fn read(&mut self, start: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.read_at(buffer, start)?;
        Ok(check_blocks(start, buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{ContentFile, FilesystemIds, Image};

    #[test]
    fn blocks_of_a_gigabyte_are_refused_before_memory_is_taken() {
        let mut image = image();
        for log in [7, 20, 21, 255] {
            image[1024 + 0x18] = log;
            let error = survey(image.clone()).unwrap_err();
            assert!(format!("{error:?}").contains("64 KiB"), "{log}: {error:?}");
        }
    }

    fn image() -> Vec<u8> {
        let files = ["/psk", "/a/b/c"].map(|path| ContentFile {
            path,
            mode: 0o400,
            data: Zeroizing::new(vec![7; 5000]),
        });
        let ids = FilesystemIds {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        let image = Image::of_files(&files, 4 << 20, ids).unwrap();
        let mut all = vec![0; 4 << 20];
        image.fill(&mut all, 0).unwrap();
        all
    }

    #[test]
    fn everything_is_counted() {
        let found = survey(image()).unwrap();
        // `lost+found` is a folder, too.
        let expected = Survey {
            files: 2,
            folders: 3,
            others: 0,
            bytes: 10_000,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_none_or_broken_is_told_apart() {
        assert!(matches!(survey(vec![0; 1 << 20]), Err(SurveyError::None)));
        assert!(matches!(
            survey(vec![0; 100]),
            Err(SurveyError::None | SurveyError::Broken(_))
        ));
        let good = image();
        // The superblock, the group descriptors, the root's inode and its folder's block.
        let mut noticed = 0;
        for at in [1024 + 4, 4096 + 20] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            noticed += u32::from(matches!(survey(bad), Err(SurveyError::Broken(_))));
        }
        assert_eq!(noticed, 2);
    }
}
