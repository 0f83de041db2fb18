//! The two copies of a header: reading them, and choosing one.
//!
//! Owns: the choice, which is cryptsetup's and by the rules of the format alone: whoever opens the volume for the kernel afterwards must
//! not use another copy than the one that was believed. A broken first copy is no reason to give up: the second is used.
//! An attacker controls every byte. Memory is bounded by the largest header of the format, 4 MiB, and its JSON as values.

use crate::{
    CopyFault, HeaderCopy, HeaderFault, InspectError, Source,
    binary::{self, BinaryHeader, Copy},
    wellformed::WellFormed,
};

/// The copy that is used.
pub(crate) struct Chosen {
    pub(crate) whole: WholeCopy,
    pub(crate) copy: HeaderCopy,
}

/// Reads both copies and chooses as cryptsetup does: what opens the volume for the kernel must not use another one.
pub(crate) fn choose(source: &impl Source, device_len: u64) -> Result<Chosen, InspectError> {
    let primary = read_copy(source, Copy::Primary, 0);
    let secondary = match &primary {
        Err(HeaderFault::Version(version)) => return Err(InspectError::Version(*version)),
        Ok(first) => read_copy(source, Copy::Secondary, first.binary.size),
        Err(_) => search_secondary(source),
    };
    let primary = primary.and_then(|copy| copy.parse(None));
    let secondary = secondary.and_then(|copy| copy.parse(primary.as_ref().ok()));
    let (whole, copy) = match (primary, secondary) {
        (Ok(first), Ok(second)) if second.binary.seqid > first.binary.seqid => {
            (second, HeaderCopy::Secondary(CopyFault::Older))
        }
        (Ok(first), Ok(second)) if second.binary.seqid < first.binary.seqid => {
            (first, HeaderCopy::Primary(CopyFault::Older))
        }
        (Ok(first), Ok(second)) if first.says(&second) => (first, HeaderCopy::Both),
        (Ok(first), Ok(_)) => (first, HeaderCopy::Primary(CopyFault::Different)),
        (Ok(first), Err(why)) => (first, HeaderCopy::Primary(CopyFault::Broken(why))),
        (Err(why), Ok(second)) => (second, HeaderCopy::Secondary(CopyFault::Broken(why))),
        (Err(primary), Err(secondary)) => return Err(InspectError::NoHeader { primary, secondary }),
    };
    let needed = whole.metadata.len_of_areas();
    if device_len < needed {
        return Err(InspectError::TooShort {
            needed,
            found: device_len,
        });
    }
    Ok(Chosen { whole, copy })
}

/// One copy whose checksum matches.
struct Checked {
    binary: BinaryHeader,
    json: Vec<u8>,
}

/// One copy that keeps the rules of the format.
pub(crate) struct WholeCopy {
    pub(crate) binary: BinaryHeader,
    pub(crate) metadata: WellFormed,
    json: Vec<u8>,
}

impl Checked {
    /// Judges the metadata, unless `other` has the same ones.
    fn parse(self, other: Option<&WholeCopy>) -> Result<WholeCopy, HeaderFault> {
        let Self { binary, json } = self;
        let same = other.filter(|other| other.json == json && other.binary.size == binary.size);
        let metadata = match same {
            Some(other) => other.metadata.clone(),
            None => WellFormed::parse(&json, binary.size).map_err(HeaderFault::Metadata)?,
        };
        Ok(WholeCopy {
            binary,
            metadata,
            json,
        })
    }
}

impl WholeCopy {
    /// Whether the other copy says the same; only salt, place and checksum differ.
    fn says(&self, other: &Self) -> bool {
        let one = (&self.binary.uuid, &self.binary.label, &self.json);
        one == (&other.binary.uuid, &other.binary.label, &other.json)
    }
}

fn read_copy(source: &impl Source, copy: Copy, at: u64) -> Result<Checked, HeaderFault> {
    let read = |buffer: &mut [u8], offset| {
        source.read_at(buffer, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => HeaderFault::Truncated,
            kind => HeaderFault::Unreadable(kind),
        })
    };
    let mut bytes = [0; binary::LEN];
    read(&mut bytes, at)?;
    let header = BinaryHeader::parse(&bytes, copy, at)?;
    // At most 4 MiB, so neither the subtraction nor the conversion fails.
    let json_len = header.size.saturating_sub(binary::LEN_U64);
    let json_len = usize::try_from(json_len).map_err(|_| HeaderFault::Size(header.size))?;
    let mut json = Vec::new();
    json.try_reserve_exact(json_len)
        .map_err(|_| HeaderFault::Unreadable(std::io::ErrorKind::OutOfMemory))?;
    json.resize(json_len, 0);
    read(&mut json, at.saturating_add(binary::LEN_U64))?;
    binary::verify(&bytes, &json)?;
    Ok(Checked { binary: header, json })
}

/// Without a first copy the place of the second is not known: it is at one of the sizes that a header can have.
fn search_secondary(source: &impl Source) -> Result<Checked, HeaderFault> {
    let mut fault = HeaderFault::Magic;
    for at in binary::SIZES {
        match read_copy(source, Copy::Secondary, at) {
            Ok(copy) => return Ok(copy),
            // The most telling fault: that of a place where there was a magic at least.
            Err(HeaderFault::Magic | HeaderFault::Truncated) => {}
            Err(other) => fault = other,
        }
    }
    Err(fault)
}
