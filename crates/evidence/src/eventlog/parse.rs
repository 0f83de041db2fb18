//! From bytes to events, in both formats.
//!
//! Owns: every bound. Counts and lengths in a log are anybody's; each is checked against the bytes that are there before
//! it is used, and memory grows only with events that were really read.
//! A tail of nothing but zeros or ones is the padding of the firmware's table, not an event.

use domain::HashAlg;

use super::event::{Digests, Event, EventType, size_in};

/// The longest log that is read, in bytes. Logs seen have 2.6 to 73 kB.
pub const MAX_LOG_LEN: usize = 1 << 20;
/// The most algorithms in a header: more than the TCG has hashes.
const MAX_ALGORITHMS: u32 = 16;
/// PCRs of the PC Client profile.
const PCRS: u32 = 24;
/// `TCG_EfiSpecIdEvent.signature` of the crypto-agile format.
const SPEC_ID_03: &[u8; 16] = b"Spec ID Event03\0";

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `TCG_PCClientPCREvent`: one SHA-1 digest per event.
    Sha1,
    /// `TCG_PCR_EVENT2`: a digest for each active bank.
    CryptoAgile,
}

/// Why bytes are not an event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Nothing at all, or padding only.
    #[error("the log is empty")]
    Empty,
    /// Longer than any log is.
    #[error("the log has {0} bytes, {MAX_LOG_LEN} are read at most")]
    TooLong(usize),
    /// The bytes end inside an event.
    #[error("event {event} ends inside {field}")]
    Truncated {
        /// Its number.
        event: usize,
        /// The field.
        field: &'static str,
    },
    /// The header of the crypto-agile format is no header.
    #[error("the log's header is malformed: {0}")]
    Header(&'static str),
    /// The header is about another register than PCR 0 (10.4.5.1): the log of a confidential VM (CCEL), which has the
    /// same form and numbers the registers of the processor.
    #[error("the log's header is about register {0}, a TPM's is about PCR 0: this is another kind of log")]
    OtherRegisters(u32),
    /// An event extends a PCR that does not exist.
    #[error("event {event} extends PCR {pcr}, PCRs are 0 to 23")]
    Pcr {
        /// Its number.
        event: usize,
        /// The PCR.
        pcr: u32,
    },
    /// The digests of an event do not fit the header.
    #[error("event {event} has {problem}")]
    Digests {
        /// Its number.
        event: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A whole log, well-formed and otherwise unproven.
#[derive(Debug, Clone)]
pub struct EventLog<'a> {
    format: LogFormat,
    events: Vec<Event<'a>>,
    banks: Vec<HashAlg>,
    padding: usize,
}

impl<'a> EventLog<'a> {
    /// Reads a log as the kernel shows it.
    ///
    /// # Errors
    /// Empty, too long, cut, a malformed header, a PCR above 23, digests that the header does not announce.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG_LEN {
            return Err(LogError::TooLong(bytes.len()));
        }
        let mut reader = Reader {
            rest: bytes,
            event: 0,
        };
        if reader.at_padding() {
            return Err(LogError::Empty);
        }
        let first = reader.sha1_event()?;
        let sizes = match first.data.strip_prefix(SPEC_ID_03) {
            Some(_) if first.kind == EventType::NO_ACTION && first.pcr != 0 => {
                return Err(LogError::OtherRegisters(first.pcr));
            }
            Some(header) if first.kind == EventType::NO_ACTION => Some(algorithms(header)?),
            _ => None,
        };
        let mut events = vec![first];
        while !reader.at_padding() {
            reader.event = events.len();
            events.push(match sizes {
                Some(sizes) => reader.agile_event(sizes)?,
                None => reader.sha1_event()?,
            });
        }
        let (format, banks) = match sizes {
            Some(sizes) => (LogFormat::CryptoAgile, banks(sizes)),
            None => (LogFormat::Sha1, vec![HashAlg::Sha1]),
        };
        Ok(Self {
            format,
            events,
            banks,
            padding: reader.rest.len(),
        })
    }

    /// Which format.
    #[must_use]
    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Every event in the log's order, those that measured nothing included.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The banks for which the log announces digests, of those that are ours.
    #[must_use]
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// Bytes of padding after the last event.
    #[must_use]
    pub const fn padding(&self) -> usize {
        self.padding
    }
}

fn banks(sizes: &[u8]) -> Vec<HashAlg> {
    let all = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384];
    let announced = |alg: &HashAlg| size_in(sizes, alg.tpm_id()).is_some();
    all.into_iter().filter(announced).collect()
}

/// The rest of `TCG_EfiSpecIdEvent` (10.4.5.1): its list of algorithms, as little-endian pairs of identifier and size.
/// The header is not measured: it only says how to read on.
fn algorithms(header: &[u8]) -> Result<&[u8], LogError> {
    let cut = LogError::Header("it is cut");
    // platformClass 4, minor and major version, errata and uintnSize 1 each.
    let (fixed, rest) = header.split_first_chunk::<8>().ok_or(cut)?;
    let [_, _, _, _, _, major, ..] = *fixed;
    if major != 2 {
        return Err(LogError::Header("its version is not 2"));
    }
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let count = u32::from_le_bytes(*count);
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(LogError::Header("it announces no algorithm, or too many"));
    }
    let len = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(4);
    let (sizes, rest) = rest.split_at_checked(len).ok_or(cut)?;
    let (vendor_len, rest) = rest.split_first().ok_or(cut)?;
    if rest.len() < usize::from(*vendor_len) {
        return Err(cut);
    }
    let mut seen = Vec::with_capacity(16);
    for pair in sizes.chunks_exact(4) {
        let [a, b, c, d] = *pair else {
            return Err(cut);
        };
        let (id, size) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        if seen.contains(&id) {
            return Err(LogError::Header("it announces an algorithm twice"));
        }
        seen.push(id);
        let known = HashAlg::from_tpm_id(id).map(HashAlg::digest_len);
        if known.is_some_and(|len| len != usize::from(size)) || !(1..=64).contains(&size) {
            return Err(LogError::Header("a digest has not the size of its algorithm"));
        }
    }
    Ok(sizes)
}

/// Reads little-endian fields; `event` is the number of the one at hand, for errors.
struct Reader<'a> {
    rest: &'a [u8],
    event: usize,
}

impl<'a> Reader<'a> {
    /// Nothing is left, or a tail of zeros or ones alone that is no event. An event of zeros would extend nothing.
    fn at_padding(&self) -> bool {
        let all = |octet: u8| self.rest.iter().all(|b| *b == octet);
        all(0) || all(0xff)
    }

    fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], LogError> {
        let event = self.event;
        let cut = LogError::Truncated { event, field };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], LogError> {
        let event = self.event;
        let cut = LogError::Truncated { event, field };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, LogError> {
        self.array(field).map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn head(&mut self) -> Result<(u32, EventType), LogError> {
        let pcr = self.u32("pcrIndex")?;
        let kind = EventType(self.u32("eventType")?);
        // Some firmware gives PCR -1 to an event that measures nothing.
        if pcr >= PCRS && kind != EventType::NO_ACTION {
            let event = self.event;
            return Err(LogError::Pcr { event, pcr });
        }
        Ok((pcr, kind))
    }

    fn data(&mut self) -> Result<&'a [u8], LogError> {
        let len = self.u32("eventSize")?;
        self.take("event", usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// `TCG_PCClientPCREvent` (10.2.1).
    fn sha1_event(&mut self) -> Result<Event<'a>, LogError> {
        let (pcr, kind) = self.head()?;
        Ok(Event {
            number: self.event,
            pcr,
            kind,
            digests: Digests::Sha1(self.array("digest")?),
            data: self.data()?,
        })
    }

    /// `TCG_PCR_EVENT2` (10.2.2): at most one digest of each announced algorithm.
    fn agile_event(&mut self, sizes: &'a [u8]) -> Result<Event<'a>, LogError> {
        let (pcr, kind) = self.head()?;
        let event = self.event;
        let wrong = |problem| LogError::Digests { event, problem };
        let count = self.u32("digests.count")?;
        if count > MAX_ALGORITHMS {
            return Err(wrong("more digests than there are algorithms"));
        }
        let start = self.rest;
        let mut seen = [0; 16];
        for nth in 0..count {
            let id = u16::from_le_bytes(*self.array("digests.hashAlg")?);
            let size = size_in(sizes, id).ok_or(wrong("a digest that the header does not announce"))?;
            let before = usize::try_from(nth).unwrap_or(usize::MAX);
            if seen.iter().take(before).any(|other| *other == id) {
                return Err(wrong("two digests of one algorithm"));
            }
            if let Some(room) = seen.get_mut(before) {
                *room = id;
            }
            self.take("digests.digest", size)?;
        }
        let len = start.len().saturating_sub(self.rest.len());
        let bytes = start.get(..len).unwrap_or_default();
        Ok(Event {
            number: event,
            pcr,
            kind,
            digests: Digests::Agile { bytes, sizes },
            data: self.data()?,
        })
    }
}
