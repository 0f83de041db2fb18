//! The binary header of LUKS2 (on-disk format section 2.1): 4096 bytes before each copy of the JSON area.
//!
//! Owns: its layout, its checksum (SHA-256 over the header with the checksum zeroed, then the JSON area) and the
//! sizes that a header may have. Refuses another version, another checksum algorithm and a size out of the list.
//! An attacker controls every byte; the checksum is no authentication.

use openssl::sha::Sha256;

use crate::wellformed::MetadataFault;

/// Bytes of the binary header.
pub(crate) const LEN: usize = 4096;
/// [`LEN`], for offsets.
pub(crate) const LEN_U64: u64 = 4096;
/// Header sizes (binary and JSON together) that the format allows; also where the second copy may be.
pub(crate) const SIZES: [u64; 9] = [
    0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000,
];
/// Within these a header may be to find the second copy behind it.
const SIZE_RANGE: std::ops::RangeInclusive<u64> = 0x4000..=0x40_0000;
/// The header size that we write, as cryptsetup does by default.
pub(crate) const DEFAULT_SIZE: u64 = 0x4000;
/// The first copy's magic; LUKS1 has the same.
pub(crate) const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// The second copy's magic.
pub(crate) const MAGIC_SECONDARY: [u8; 6] = *b"SKUL\xba\xbe";

const CHECKSUM: std::ops::Range<usize> = 448..512;
const ALGORITHM: &[u8] = b"sha256";

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// At the start.
    Primary,
    /// At the header size.
    Secondary,
}

impl Copy {
    const fn magic(self) -> [u8; 6] {
        match self {
            Self::Primary => MAGIC,
            Self::Secondary => MAGIC_SECONDARY,
        }
    }
}

/// The fields that are ours to choose or to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BinaryHeader {
    /// Binary header and JSON area together, one of [`SIZES`].
    pub(crate) size: u64,
    /// Rises with every change; the higher copy is the newer.
    pub(crate) seqid: u64,
    /// Text for people, at most 47 bytes.
    pub(crate) label: String,
    /// Random, so that two headers with one JSON have other checksums.
    pub(crate) salt: [u8; 64],
    /// The volume's UUID as text, at most 39 bytes.
    pub(crate) uuid: String,
    /// Where this copy is.
    pub(crate) offset: u64,
}

/// Why one copy of a header is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Shorter than a header.
    #[error("it is cut off")]
    Truncated,
    /// Another magic: no LUKS header at all, or wiped.
    #[error("there is no LUKS magic")]
    Magic,
    /// LUKS1, or something of the future.
    #[error("its version is {0}, only 2 is read")]
    Version(u16),
    /// A size that the format does not know.
    #[error("its size of {0} bytes is none that the format knows")]
    Size(u64),
    /// The header says that it is elsewhere.
    #[error("it says that it belongs at offset {0}")]
    Offset(u64),
    /// Another checksum algorithm than SHA-256.
    #[error("its checksum algorithm is not sha256")]
    ChecksumAlgorithm,
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches and the metadata break the rules of the format.
    #[error(transparent)]
    Metadata(MetadataFault),
    /// The device failed to read.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
}

impl HeaderFault {
    /// Whether another tool may take this copy for a whole one. Damage is none to every reader; a copy whose checksum somebody
    /// made to fit, or that has another kind of checksum, may be read by one that is less strict.
    #[must_use]
    pub const fn is_doubtful(self) -> bool {
        matches!(self, Self::ChecksumAlgorithm | Self::Metadata(_))
    }
}

impl BinaryHeader {
    /// The 4096 bytes of a copy, its checksum over `json` (the whole JSON area) in place. `None` when a text is too
    /// long for its field.
    pub(crate) fn encode(&self, copy: Copy, json: &[u8]) -> Option<[u8; LEN]> {
        let mut out = [0; LEN];
        put(&mut out, 0, &copy.magic())?;
        put(&mut out, 6, &2_u16.to_be_bytes())?;
        put(&mut out, 8, &self.size.to_be_bytes())?;
        put(&mut out, 16, &self.seqid.to_be_bytes())?;
        put_text(&mut out, 24, 48, &self.label)?;
        put_text(&mut out, 72, 32, "sha256")?;
        put(&mut out, 104, &self.salt)?;
        put_text(&mut out, 168, 40, &self.uuid)?;
        // 208..256 is the subsystem, empty; 264..448 is padding.
        put(&mut out, 256, &self.offset.to_be_bytes())?;
        let sum = checksum(&out, json);
        put(&mut out, CHECKSUM.start, &sum)?;
        Some(out)
    }

    /// Reads everything but the checksum, which needs the JSON area: see [`verify`].
    pub(crate) fn parse(bytes: &[u8; LEN], copy: Copy, at: u64) -> Result<Self, HeaderFault> {
        if array::<6>(bytes, 0) != copy.magic() {
            return Err(HeaderFault::Magic);
        }
        let version = u16::from_be_bytes(array(bytes, 6));
        if version != 2 {
            return Err(HeaderFault::Version(version));
        }
        let size = u64::from_be_bytes(array(bytes, 8));
        // Other sizes than the format's are refused where the metadata are judged: cryptsetup looks for the second copy behind them.
        if !SIZE_RANGE.contains(&size) {
            return Err(HeaderFault::Size(size));
        }
        let offset = u64::from_be_bytes(array(bytes, 256));
        let belongs = match copy {
            Copy::Primary => 0,
            Copy::Secondary => size,
        };
        if offset != at || at != belongs {
            return Err(HeaderFault::Offset(offset));
        }
        if text::<32>(bytes, 72).as_deref().map(str::as_bytes) != Some(ALGORITHM) {
            return Err(HeaderFault::ChecksumAlgorithm);
        }
        Ok(Self {
            size,
            seqid: u64::from_be_bytes(array(bytes, 16)),
            label: shown::<48>(bytes, 24),
            salt: array(bytes, 104),
            uuid: shown::<40>(bytes, 168),
            offset,
        })
    }
}

/// Compares the checksum in `header` with one made over it and its JSON area. What follows the 32 bytes in their field is looked at
/// by nobody.
pub(crate) fn verify(header: &[u8; LEN], json: &[u8]) -> Result<(), HeaderFault> {
    let found: [u8; 32] = array(header, CHECKSUM.start);
    if found == checksum(header, json) {
        Ok(())
    } else {
        Err(HeaderFault::Checksum)
    }
}

fn checksum(header: &[u8; LEN], json: &[u8]) -> [u8; 32] {
    let mut blank = *header;
    if let Some(field) = blank.get_mut(CHECKSUM) {
        field.fill(0);
    }
    let mut sum = Sha256::new();
    sum.update(&blank);
    sum.update(json);
    sum.finish()
}

fn put(out: &mut [u8; LEN], at: usize, bytes: &[u8]) -> Option<()> {
    out.get_mut(at..at.checked_add(bytes.len())?)?
        .copy_from_slice(bytes);
    Some(())
}

/// A text in a field of `room` bytes, one of which stays NUL.
fn put_text(out: &mut [u8; LEN], at: usize, room: usize, text: &str) -> Option<()> {
    let fits = text.len() < room && !text.contains('\0');
    fits.then(|| put(out, at, text.as_bytes()))?
}

/// The `N` bytes at `at`; all callers name constant places inside the header.
fn array<const N: usize>(bytes: &[u8; LEN], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// A text for people. One that is not terminated ends with its field, as cryptsetup has it, and bytes that are none are shown as `?`:
/// a reader that refused them would read the other copy, and cryptsetup this one.
fn shown<const N: usize>(bytes: &[u8; LEN], at: usize) -> String {
    let field: [u8; N] = array(bytes, at);
    let until_nul = field.split(|b| *b == 0).next().unwrap_or_default();
    let most = until_nul.get(..N.saturating_sub(1)).unwrap_or(until_nul);
    match std::str::from_utf8(most) {
        Ok(text) => text.to_owned(),
        Err(_) => most
            .iter()
            .map(|b| if b.is_ascii() { char::from(*b) } else { '?' })
            .collect(),
    }
}

fn text<const N: usize>(bytes: &[u8; LEN], at: usize) -> Option<String> {
    let field: [u8; N] = array(bytes, at);
    let until_nul = field.split(|b| *b == 0).next()?;
    let fits = until_nul.len() < N;
    fits.then(|| String::from_utf8(until_nul.to_vec()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(copy: Copy) -> BinaryHeader {
        BinaryHeader {
            size: DEFAULT_SIZE,
            seqid: 3,
            label: "kiosk".to_owned(),
            salt: [9; 64],
            uuid: "11111111-2222-4333-8444-555555555555".to_owned(),
            offset: if copy == Copy::Primary { 0 } else { DEFAULT_SIZE },
        }
    }

    #[test]
    fn both_copies_round_trip() {
        for (copy, at) in [(Copy::Primary, 0), (Copy::Secondary, DEFAULT_SIZE)] {
            let bytes = header(copy).encode(copy, b"{}").unwrap();
            assert_eq!(BinaryHeader::parse(&bytes, copy, at).unwrap(), header(copy));
            assert_eq!(verify(&bytes, b"{}"), Ok(()));
            assert_eq!(verify(&bytes, b"[]"), Err(HeaderFault::Checksum));
        }
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        for (label, uuid) in [
            ("x".repeat(48), "u".into()),
            ("a\0b".into(), "u".into()),
            (String::new(), "u".repeat(40)),
        ] {
            let bad = BinaryHeader {
                label,
                uuid,
                ..header(Copy::Primary)
            };
            assert!(bad.encode(Copy::Primary, b"").is_none());
        }
    }

    #[test]
    fn every_fault_is_named() {
        let good = header(Copy::Primary).encode(Copy::Primary, b"").unwrap();
        let with = |at: usize, byte: u8| {
            let mut bad = good;
            bad[at] = byte;
            BinaryHeader::parse(&bad, Copy::Primary, 0).unwrap_err()
        };
        assert_eq!(with(0, 0), HeaderFault::Magic);
        assert_eq!(with(7, 1), HeaderFault::Version(1));
        assert_eq!(with(13, 0xff), HeaderFault::Size(0xff_4000));
        assert_eq!(with(8, 0xff), HeaderFault::Size(0xff00_0000_0000_4000));
        assert_eq!(with(263, 1), HeaderFault::Offset(1));
        assert_eq!(with(72, b'S'), HeaderFault::ChecksumAlgorithm);
        let mut odd = good;
        odd[24..72].fill(0xff);
        odd[168] = 0xff;
        let read = BinaryHeader::parse(&odd, Copy::Primary, 0).unwrap();
        assert_eq!(read.label, "?".repeat(47));
        assert!(read.uuid.starts_with("?11"));
        assert_eq!(
            BinaryHeader::parse(&good, Copy::Secondary, DEFAULT_SIZE),
            Err(HeaderFault::Magic)
        );
        assert_eq!(
            BinaryHeader::parse(&good, Copy::Primary, 0x4000),
            Err(HeaderFault::Offset(0))
        );
    }
}
