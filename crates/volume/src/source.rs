//! Where a volume's bytes come from: a file, a block device, or memory.
//!
//! Owns: reading at an offset and knowing the length, nothing else. Reads are whole or they fail.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
};

/// Random access to the bytes of a volume.
pub trait Source: Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is not a single byte.
    ///
    /// # Errors
    /// Those of [`Source::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when there are fewer bytes; those of the operating system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A regular file or a block device.
impl Source for File {
    fn len(&self) -> io::Result<u64> {
        // A block device has no length in its metadata; all our reads name their offset, so the cursor is free.
        let mut cursor: &File = self;
        cursor.seek(SeekFrom::End(0))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// A volume in memory.
impl Source for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.as_slice().len()).map_err(io::Error::other)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_and_memory_read_alike() {
        let memory = b"0123456789".to_vec();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&memory).unwrap();
        let sources: [&dyn Source; 2] = [&memory, &file];
        for source in sources {
            assert_eq!(source.len().unwrap(), 10);
            assert!(!source.is_empty().unwrap());
            let mut two = [0; 2];
            source.read_at(&mut two, 8).unwrap();
            assert_eq!(&two, b"89");
            for offset in [9, 10, u64::MAX] {
                let end = source.read_at(&mut two, offset);
                assert!(end.is_err(), "{offset}");
            }
        }
    }
}
