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
/// GRUB. What cannot be read becomes replacement characters, never less text.
pub(super) enum Text {
    Utf16(String),
    Utf8(String),
}

impl Text {
    pub(super) fn of(measured: &[u8]) -> Self {
        if !measured.contains(&0) {
            return Self::Utf8(String::from_utf8_lossy(measured).into_owned());
        }
        let units = measured.chunks(2).map(|unit| match *unit {
            [low, high] => u16::from_le_bytes([low, high]),
            [low] => low.into(),
            _ => 0,
        });
        let chars = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        Self::Utf16(chars.collect())
    }
}

/// Words as the kernel would split them, and finer: zeros and control characters part words too, so that none can hide.
/// Quotes are taken off: the kernel does so.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .map(|word| word.replace('"', ""))
        .filter(|word| !word.is_empty())
}
