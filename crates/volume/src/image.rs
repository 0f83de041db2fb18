//! The plain content of a volume: an ext4 file system made in memory, or somebody's image.
//!
//! Owns: reading it in pieces, from all workers at once. A hole is not read: its zeros are made in place, at the speed of
//! memory. What lies behind the image's end is zeros too, up to the volume's end.
//! An image is made once and may go into any number of volumes.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use crate::{ContentFile, FilesystemError, Owners, Source, compose::uuid, filesystem, folder, held::Kernel};

/// The plain content of volumes.
#[derive(Debug)]
pub struct Image {
    file: File,
    len: u64,
}

/// Two random UUIDs that are part of an ext4 file system. The same ones, and the same content, make the same image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemIds {
    /// The file system's own UUID.
    pub uuid: [u8; 16],
    /// What the hashes of its folders begin with.
    pub hash_seed: [u8; 16],
}

impl Image {
    /// An ext4 file system of `len` bytes, a multiple of 4096, with `files` in it.
    ///
    /// # Errors
    /// [`FilesystemError`].
    pub fn of_files(
        files: &[ContentFile<'_>],
        len: u64,
        ids: FilesystemIds,
    ) -> Result<Self, FilesystemError> {
        let file = filesystem::make(files, len, &uuid(ids.uuid), &uuid(ids.hash_seed))?;
        Ok(Self { file, len })
    }

    /// An ext4 file system of `len` bytes, a multiple of 4096, with the content of a folder. Its times are made alike.
    ///
    /// # Errors
    /// [`FilesystemError`].
    pub fn of_folder(
        folder: &Path,
        owners: Owners,
        len: u64,
        ids: FilesystemIds,
    ) -> Result<Self, FilesystemError> {
        let file = folder::make(folder, owners, len, &uuid(ids.uuid), &uuid(ids.hash_seed))?;
        Ok(Self { file, len })
    }

    /// As [`Image::of_folder`], with `files` beside what is in the folder. A file of the folder that has the path of one of
    /// these is an error.
    ///
    /// # Errors
    /// [`FilesystemError`].
    pub fn of_folder_and_files(
        folder: &Path,
        owners: Owners,
        files: &[ContentFile<'_>],
        len: u64,
        ids: FilesystemIds,
    ) -> Result<Self, FilesystemError> {
        let image = Self::of_folder(folder, owners, len, ids)?;
        filesystem::add(&image.file, files)?;
        Ok(image)
    }

    /// An image that is there already: a regular file, a memory file or a block device, opened for reading. Any file
    /// system will do. It is read while volumes are written and must not change meanwhile.
    ///
    /// # Errors
    /// Its length cannot be known, or it is empty.
    pub fn of_file(file: File) -> io::Result<Self> {
        let len = Source::len(&file)?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image is empty"));
        }
        Ok(Self { file, len })
    }

    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Never: an image has a byte at least.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The plain bytes, to be looked at with [`crate::survey`].
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Whether `target` is the same file, or a disk of which the other is a partition.
    pub(crate) fn is(&self, target: &File) -> io::Result<bool> {
        if same_file(&self.file, target)? {
            return Ok(true);
        }
        let (one, other) = (self.file.metadata()?, target.metadata()?);
        let devices = one.file_type().is_block_device() && other.file_type().is_block_device();
        Ok(devices && Kernel::here().overlap(one.rdev(), other.rdev())?)
    }

    /// Fills `buffer` from `offset` on.
    pub(crate) fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = u64::try_from(buffer.len()).map_err(io::Error::other)?;
        let there = self.len.saturating_sub(offset).min(wanted);
        let there = if self.hole(offset, there)? { 0 } else { there };
        let there = usize::try_from(there).map_err(io::Error::other)?;
        let (data, rest) = buffer
            .split_at_mut_checked(there)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(data, offset)?;
        rest.fill(0);
        Ok(())
    }

    /// Whether there is nothing but a hole. All reads name their offset, so the cursor is free.
    fn hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data >= offset.saturating_add(len)),
            Err(Errno::NXIO) => Ok(true),
            // A block device, or a file system that knows of no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::SPIPE) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

/// Whether both are one regular file, or one device.
pub(crate) fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    let same_inode = (one.dev(), one.ino()) == (other.dev(), other.ino());
    let same_device = one.rdev() != 0 && one.rdev() == other.rdev();
    Ok(same_inode || same_device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_what_is_behind_the_end_are_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"data", 512 << 10).unwrap();
        file.write_all_at(b"end", (1 << 20) - 3).unwrap();
        let image = Image::of_file(file).unwrap();
        let mut buffer = vec![0xff; 64 << 10];
        for (offset, expected) in [(0, &b""[..]), (512 << 10, b"data"), (5 << 20, b"")] {
            buffer.fill(0xff);
            image.fill(&mut buffer, offset).unwrap();
            assert!(buffer.starts_with(expected));
            assert!(buffer[expected.len()..].iter().all(|b| *b == 0), "{offset}");
        }
        image.fill(&mut buffer, (1 << 20) - 3).unwrap();
        assert_eq!(&buffer[..5], b"end\0\0");
    }

    #[test]
    fn files_go_beside_a_folder_and_not_over_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("page.html"), "a page").unwrap();
        let ids = FilesystemIds {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        let file = |path| ContentFile {
            path,
            mode: 0o400,
            data: zeroize::Zeroizing::new(b"a key".to_vec()),
        };
        let make = |path| {
            let files = [file(path)];
            Image::of_folder_and_files(folder.path(), Owners::Root, &files, 4 << 20, ids)
        };
        let fs = ext4_view::Ext4::load(Box::new(make("/psk").unwrap().reader().unwrap())).unwrap();
        assert_eq!(fs.read("/psk").unwrap(), b"a key");
        assert_eq!(fs.read("/page.html").unwrap(), b"a page");
        assert!(make("/page.html").is_err(), "it is there already");
    }

    #[test]
    fn an_empty_or_unreadable_image_is_none() {
        assert!(Image::of_file(tempfile::tempfile().unwrap()).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let image = Image::of_file(file.try_clone().unwrap()).unwrap();
        file.write_all_at(b"x", 4095).unwrap();
        file.set_len(100).unwrap();
        file.write_all_at(b"x", 50).unwrap();
        assert!(image.fill(&mut [0; 4096], 0).is_err(), "it was cut off meanwhile");
    }

    #[test]
    fn a_file_is_itself_under_every_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let again = File::open(file.path()).unwrap();
        assert!(same_file(file.as_file(), &again).unwrap());
        assert!(!same_file(file.as_file(), &tempfile::tempfile().unwrap()).unwrap());
    }
}
