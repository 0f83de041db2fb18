//! A volume with changed bytes, as a source.

use std::{io, sync::LazyLock};

use serde_json::Value;
use volume::Source;

use super::{SIZE, edit, volume_bytes};

/// Bytes at the start of a volume that a test changes: headers and the first keyslots.
const HEAD: usize = 1 << 20;

static VOLUME: LazyLock<Vec<u8>> = LazyLock::new(volume_bytes);

/// The volume with another start, without a copy of the rest.
pub struct Touched {
    pub head: Vec<u8>,
    pub len: u64,
}

impl Touched {
    pub fn new() -> Self {
        Self {
            head: VOLUME[..HEAD].to_vec(),
            len: SIZE,
        }
    }

    pub fn edited(change: impl FnOnce(&mut Value)) -> Self {
        let mut volume = Self::new();
        edit(&mut volume.head, change);
        volume
    }
}

impl Source for Touched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let end = start + buffer.len();
        if u64::try_from(end).unwrap() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = if end <= HEAD { &self.head } else { &*VOLUME };
        buffer.copy_from_slice(&from[start..end]);
        Ok(())
    }
}

/// The volume with a bit flipped at some places.
pub struct Flipped(pub Vec<usize>);

impl Source for Flipped {
    fn len(&self) -> io::Result<u64> {
        Ok(SIZE)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&VOLUME[start..start + buffer.len()]);
        for at in &self.0 {
            if let Some(byte) = at.checked_sub(start).and_then(|within| buffer.get_mut(within)) {
                *byte ^= 0x10;
            }
        }
        Ok(())
    }
}
