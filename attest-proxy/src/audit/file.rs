//! One file of the audit log, with the chain that goes on in it.
//!
//! Owns: opening it (mode 0600, appended to, locked against a second writer), what is done with the end that a crash left, and that a
//! write that failed half-way is taken back. Called by the writer alone.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use domain::FleetName;
use rustix::fs::{FlockOperation, flock};

use super::{
    AuditError,
    chain::{Hash, Sealed, seal},
    event::{self, Open},
};
use crate::{clock::Moment, keys::StorageKeys};

/// How much of a file's end is looked at to find its last line.
const TAIL: u64 = 4 << 20;

/// A buffer that was larger is not kept for the next lines, in bytes.
const KEPT: usize = 256 << 10;

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Of the last line; 0: there is none.
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Chain {
    pub(super) const START: Self = Self {
        seq: 0,
        hash: Hash::NONE,
    };

    /// Appends a line, of which `fill` appends what comes after its number, and goes on.
    fn line(&mut self, out: &mut Vec<u8>, keys: &StorageKeys, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        event::number(out, self.next());
        fill(out);
        self.hash = seal(out, start, &self.hash, keys.audit());
        self.seq = self.next();
    }

    const fn next(&self) -> u64 {
        self.seq.saturating_add(1)
    }
}

#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    /// Bytes up to the end of the last whole line.
    len: u64,
    /// The sequence number of the first line in it.
    first: u64,
    chain: Chain,
    /// What is written next.
    buffer: Vec<u8>,
}

impl AuditFile {
    /// Opens `path` and goes on with the chain in it, or with `before` where the file is new or is the one that `before` ended in.
    /// Nothing is written yet. Gives the bytes of a torn last line, which was taken away.
    pub(super) fn open(path: &Path, before: Option<Chain>) -> Result<(Self, Option<u64>), AuditError> {
        let failed = |source| AuditError::Open {
            path: path.into(),
            source,
        };
        let mut file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| AuditError::Locked { path: path.into() })?;
        let tail = read_tail(&mut file).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let whole = tail
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at.saturating_add(1));
        let torn = tail.len().saturating_sub(whole);
        let torn = u64::try_from(torn).unwrap_or(u64::MAX);
        let lines = tail.get(..whole).unwrap_or_default();
        let found = match last_line(lines) {
            None if len > torn => return Err(AuditError::NotALog { path: path.into() }),
            None => None,
            Some(line) => Some(stands(line).ok_or_else(|| AuditError::NotALog { path: path.into() })?),
        };
        let len = len.saturating_sub(torn);
        if torn > 0 {
            file.set_len(len).map_err(failed)?;
        }
        let chain = found.or(before).unwrap_or(Chain::START);
        let file = Self {
            path: path.into(),
            file,
            len,
            first: chain.next(),
            chain,
            buffer: Vec::new(),
        };
        Ok((file, (torn > 0).then_some(torn)))
    }

    pub(super) const fn chain(&self) -> Chain {
        self.chain
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Begins this program's part of the chain.
    pub(super) fn begin(
        &mut self,
        at: Moment,
        fleet: &FleetName,
        keys: &StorageKeys,
        torn: Option<u64>,
    ) -> io::Result<()> {
        let previous = self.chain.hash.to_string();
        let open = Open {
            fleet: fleet.as_str(),
            key: keys.id().as_str(),
            previous: &previous,
            torn,
        };
        self.write(|chain, out| chain.line(out, keys, |out| event::write_open(out, at, &open)))
    }

    /// Ends this program's part.
    pub(super) fn end(&mut self, at: Moment, keys: &StorageKeys) -> io::Result<()> {
        let closed = self.write(|chain, out| chain.line(out, keys, |out| event::write_close(out, at)));
        // A disk too full for this line still owes us those before it.
        self.sync().and(closed)
    }

    /// Appends all of it or nothing; `lost` lines were not kept before. A line is what comes after its number.
    pub(super) fn append<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [u8]>,
        lost: Option<(u64, Moment)>,
        keys: &StorageKeys,
    ) -> io::Result<()> {
        self.write(|chain, out| {
            if let Some((count, at)) = lost {
                chain.line(out, keys, |out| event::write_lost(out, at, count));
            }
            for line in lines {
                chain.line(out, keys, |out| out.extend_from_slice(line));
            }
        })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the file a name of its own, so that the next one can have its place.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{:012}", self.first));
        std::fs::rename(&self.path, name)
    }

    /// Whether the file's name still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    fn write(&mut self, fill: impl FnOnce(&mut Chain, &mut Vec<u8>)) -> io::Result<()> {
        let (mut chain, mut buffer) = (self.chain, std::mem::take(&mut self.buffer));
        buffer.clear();
        fill(&mut chain, &mut buffer);
        let written = (&self.file).write_all(&buffer);
        if written.is_ok() {
            let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
            self.len = self.len.saturating_add(len);
            self.chain = chain;
        } else {
            // What of it is there is no line. A device file cannot be cut, and needs not be.
            let _ = self.file.set_len(self.len);
        }
        buffer.shrink_to(KEPT);
        self.buffer = buffer;
        written
    }
}

fn read_tail(file: &mut File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(len.min(TAIL)).read_to_end(&mut tail)?;
    Ok(tail)
}

fn last_line(lines: &[u8]) -> Option<&[u8]> {
    let lines = lines.strip_suffix(b"\n")?;
    let start = lines
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at.saturating_add(1));
    lines.get(start..)
}

/// Where the chain stands after a line. Whether the line is genuine is for `verify` to say, with all that came before.
fn stands(line: &[u8]) -> Option<Chain> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let sealed = Sealed::split(line)?;
    let Numbered { seq } = serde_json::from_slice(line).ok()?;
    let hash = sealed.hash();
    Some(Chain { seq, hash })
}
