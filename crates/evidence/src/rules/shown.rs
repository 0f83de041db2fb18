//! What an event measured, as far as its data shows it.
//!
//! Owns: the ways in which data holds what was hashed: as it is, or, as GRUB writes it, behind a prefix (`kernel_cmdline: `)
//! and before a zero, neither of which is measured; or, as older shims write a variable, before one more byte of their
//! memory. Anything found here hashes to the digest; the rest is anybody's.

use domain::HashAlg;

use crate::{
    eventlog::{Event, ProvenLog},
    hash,
};

/// The events of one PCR.
pub(super) fn events_of<'l, 'a>(log: &'l ProvenLog<'a>, pcr: u64) -> impl Iterator<Item = &'l Event<'a>> {
    log.events()
        .iter()
        .filter(move |event| u64::from(event.pcr) == pcr)
}

/// The bytes that were measured, if the event shows them.
pub(super) fn measured<'a>(event: &Event<'a>, bank: HashAlg) -> Option<&'a [u8]> {
    let digest = event.digests.of(bank)?;
    let text = event.data.strip_suffix(&[0]).unwrap_or(event.data);
    let candidates = [
        Some(event.data),
        event.data.split_last().map(|(_, all_but_one)| all_but_one),
        after(text, b": "),
        after(text, b" "),
    ];
    let is_it = |bytes: &&[u8]| hash::digest(bank, &[bytes]).as_ref() == digest;
    candidates.into_iter().flatten().find(is_it)
}

fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    bytes.get(at.checked_add(mark.len())?..)
}

/// What was measured as text: UTF-16, which has zero octets in it, from systemd-stub, or UTF-8, which has none, from
/// GRUB.
pub(super) struct Text {
    pub(super) is_utf16: bool,
    /// The octets that a kernel may have been given, without zeros at their end. Two ways for UTF-16 beyond ASCII: stubs
    /// before version 251 kept the lower half of each unit alone, so that `\u{169}` was an `i`.
    pub(super) readings: Vec<Vec<u8>>,
}

impl Text {
    pub(super) fn of(measured: &[u8]) -> Self {
        if !measured.contains(&0) {
            return Self {
                is_utf16: false,
                readings: vec![measured.to_vec()],
            };
        }
        let units = measured.chunks(2).map(|unit| match *unit {
            [low, high] => u16::from_le_bytes([low, high]),
            [low] => low.into(),
            _ => 0,
        });
        let chars = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        let text: String = chars.collect();
        let halves: Vec<u8> = measured.iter().step_by(2).copied().collect();
        let mut readings = vec![without_zeros(text.into_bytes())];
        if measured.iter().skip(1).step_by(2).any(|high| *high != 0) {
            readings.push(without_zeros(halves));
        }
        Self {
            is_utf16: true,
            readings,
        }
    }
}

fn without_zeros(mut octets: Vec<u8>) -> Vec<u8> {
    let end = octets.iter().rposition(|octet| *octet != 0);
    octets.truncate(end.map_or(0, |last| last.saturating_add(1)));
    octets
}

/// Words between what the kernel takes for space: the white space of ASCII, and the octet A0 (`lib/ctype.c` is Latin-1), which
/// is the second half of `à`. Quotes stay where they are. What is not UTF-8 becomes replacement characters.
pub(super) fn words(octets: &[u8]) -> impl Iterator<Item = String> {
    octets
        .split(|octet| matches!(octet, 9..=13 | b' ' | 0xa0))
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
}
