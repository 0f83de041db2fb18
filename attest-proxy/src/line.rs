//! A line of a log, written field by field into a buffer that is there already: no tree, no text in between, no memory of its own.
//!
//! Owns: how JSON and the text for people look, and times. What comes from outside is escaped here, whatever it is.

use std::{
    cell::{Cell, RefCell},
    io::Write as _,
    net::IpAddr,
};

use domain::{PskDigest, UnixTime};

use crate::clock::Moment;

/// More than this a buffer does not keep for the next line, in bytes.
const KEPT: usize = 64 << 10;

/// A second, as it is written.
type Second = (u64, [u8; 19]);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SECOND: RefCell<Option<Second>> = const { RefCell::new(None) };
}

/// Lets `write` fill this thread's buffer and `then` take what is in it.
pub(crate) fn build<R>(write: impl FnOnce(&mut Vec<u8>), then: impl FnOnce(&[u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.clear();
    write(&mut buffer);
    let result = then(&buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}

/// How finely a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fraction {
    /// Three digits.
    Millis,
    /// Six.
    Micros,
}

/// The name of a field, as the forms of a line write it: made by [`key!`], so that nothing is put together for a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// `,"name":`
    pub(crate) json: &'static str,
    /// `,"name":"`
    pub(crate) json_text: &'static str,
    /// `name=`
    pub(crate) text: &'static str,
}

/// A field's name.
macro_rules! key {
    ($name:literal) => {
        $crate::line::Key {
            json: concat!(",\"", $name, "\":"),
            json_text: concat!(",\"", $name, "\":\""),
            text: concat!($name, "="),
        }
    };
}
pub(crate) use key;

/// Where the fields of a line go, in their order.
pub(crate) trait Fields {
    /// What the line says: first, and one of our own sentences.
    fn message(&mut self, sentence: &'static str);
    /// What needs no escaping: our own words, digits.
    fn word(&mut self, key: Key, word: &str);
    /// Any text.
    fn text(&mut self, key: Key, text: &str);
    /// A name that has no spaces, which people read without quotes.
    fn name(&mut self, key: Key, text: &str);
    /// An address.
    fn address(&mut self, key: Key, address: IpAddr);
    /// A number.
    fn number(&mut self, key: Key, number: u64);
    /// Yes or no.
    fn flag(&mut self, key: Key, flag: bool);

    /// The first digits of a key's digest, as many as [`PskDigest::short`] gives.
    fn digest(&mut self, key: Key, digest: &PskDigest) {
        let mut digits = [b'0'; 12];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(digest.as_bytes()) {
            pair.copy_from_slice(&[hex(*byte >> 4), hex(*byte)]);
        }
        self.word(key, std::str::from_utf8(&digits).unwrap_or_default());
    }
}

/// The fields of a JSON object, after others.
pub(crate) struct Json<'a>(pub(crate) &'a mut Vec<u8>);

/// `name=value`, as `tracing` writes it for people.
pub(crate) struct Text<'a>(pub(crate) &'a mut Vec<u8>);

impl Json<'_> {
    /// What is JSON already.
    pub(crate) fn json(&mut self, key: Key, json: &str) {
        self.0.extend_from_slice(key.json.as_bytes());
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A time, to the millisecond or finer.
    pub(crate) fn time(&mut self, key: Key, at: Moment, fraction: Fraction) {
        self.0.extend_from_slice(key.json_text.as_bytes());
        time(self.0, at, fraction);
        self.0.push(b'"');
    }
}

// What is small is put where it is used, so that names are copied as constants.
impl Fields for Json<'_> {
    fn message(&mut self, sentence: &'static str) {
        self.word(key!("message"), sentence);
    }

    #[inline]
    fn word(&mut self, key: Key, word: &str) {
        self.0.extend_from_slice(key.json_text.as_bytes());
        end_text(self.0, word);
    }

    #[inline]
    fn text(&mut self, key: Key, text: &str) {
        if is_plain(text) {
            return self.word(key, text);
        }
        self.0.extend_from_slice(key.json.as_bytes());
        // A string has no key, and a vector takes everything.
        let _ = serde_json::to_writer(&mut *self.0, text);
    }

    #[inline]
    fn name(&mut self, key: Key, text: &str) {
        self.text(key, text);
    }

    #[inline]
    fn address(&mut self, key: Key, address: IpAddr) {
        self.0.extend_from_slice(key.json_text.as_bytes());
        write_address(self.0, address);
        self.0.push(b'"');
    }

    #[inline]
    fn number(&mut self, key: Key, number: u64) {
        self.0.extend_from_slice(key.json.as_bytes());
        decimal(self.0, number);
    }

    #[inline]
    fn flag(&mut self, key: Key, flag: bool) {
        self.0.extend_from_slice(key.json.as_bytes());
        write_flag(self.0, flag);
    }
}

impl Text<'_> {
    fn key(&mut self, key: Key) {
        if !self.0.ends_with(b" ") {
            self.0.push(b' ');
        }
        self.0.extend_from_slice(key.text.as_bytes());
    }
}

impl Fields for Text<'_> {
    fn message(&mut self, sentence: &'static str) {
        self.0.extend_from_slice(sentence.as_bytes());
    }

    fn word(&mut self, key: Key, word: &str) {
        self.text(key, word);
    }

    fn text(&mut self, key: Key, text: &str) {
        self.key(key);
        let _ = write!(self.0, "{text:?}");
    }

    fn name(&mut self, key: Key, text: &str) {
        self.key(key);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn address(&mut self, key: Key, address: IpAddr) {
        self.key(key);
        write_address(self.0, address);
    }

    fn number(&mut self, key: Key, number: u64) {
        self.key(key);
        decimal(self.0, number);
    }

    fn flag(&mut self, key: Key, flag: bool) {
        self.key(key);
        write_flag(self.0, flag);
    }
}

/// The rest of a JSON string that has begun.
fn end_text(out: &mut Vec<u8>, plain: &str) {
    out.reserve(plain.len().saturating_add(1));
    out.extend_from_slice(plain.as_bytes());
    out.push(b'"');
}

fn write_flag(out: &mut Vec<u8>, flag: bool) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// The last hexadecimal digit of a number.
pub(crate) const fn hex(number: u8) -> u8 {
    match number & 0xf {
        digit @ 0..=9 => b'0'.saturating_add(digit),
        digit => b'a'.saturating_add(digit).saturating_sub(10),
    }
}

/// Whether a JSON string can hold it as it is (RFC 8259, 7). Looks at all of it, which is faster than to stop.
fn is_plain(text: &str) -> bool {
    let special = |b: u8| (b < 0x20) | (b == b'"') | (b == b'\\');
    !text.bytes().fold(false, |any, b| any | special(b))
}

/// Appends a number in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, number: u64) {
    // As many as the largest one has.
    let mut digits = [0_u8; 20];
    let (mut rest, mut unused) = (number, digits.len());
    for place in digits.iter_mut().rev() {
        *place = u8::try_from(rest % 10).map_or(b'0', |digit| b'0'.saturating_add(digit));
        unused = unused.saturating_sub(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for (nth, octet) in address.octets().into_iter().enumerate() {
        if nth > 0 {
            out.push(b'.');
        }
        decimal(out, octet.into());
    }
}

/// Appends a time in RFC 3339, in UTC.
pub(crate) fn time(out: &mut Vec<u8>, at: Moment, fraction: Fraction) {
    let seconds = at.time().as_secs();
    let Some(whole) = second(seconds) else {
        // Beyond the calendar there are seconds alone.
        return decimal(out, seconds);
    };
    out.extend_from_slice(&whole);
    out.push(b'.');
    let (mut rest, mut unit) = match fraction {
        Fraction::Millis => (at.millis() % 1_000, 100),
        Fraction::Micros => (at.micros() % 1_000_000, 100_000),
    };
    while unit > 0 {
        out.push(u8::try_from(rest / unit).map_or(b'0', |digit| b'0'.saturating_add(digit)));
        rest %= unit;
        unit /= 10;
    }
    out.push(b'Z');
}

/// `2026-10-01T12:00:00`, which is the same for all lines of a second.
fn second(seconds: u64) -> Option<[u8; 19]> {
    SECOND.with_borrow_mut(|last| {
        if let Some((at, text)) = last
            && *at == seconds
        {
            return Some(*text);
        }
        let text = UnixTime::from_secs(seconds).to_string();
        let text: [u8; 19] = text.strip_suffix('Z')?.as_bytes().try_into().ok()?;
        *last = Some((seconds, text));
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(fill: impl FnOnce(&mut Json<'_>)) -> serde_json::Value {
        let mut out = b"{\"a\":1".to_vec();
        fill(&mut Json(&mut out));
        out.push(b'}');
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn whatever_a_stranger_says_is_a_json_string() {
        let all: String = (0..=0x2028).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\"", "\\", "a\nb", "\u{7f}\u{e9}\u{1f600}", &all] {
            let line = json(|fields| fields.text(key!("x"), text));
            assert_eq!(line["x"], text);
        }
        for byte in 0..0x20_u8 {
            let text = format!("0123456789abcdef{}", char::from(byte));
            assert_eq!(json(|fields| fields.text(key!("x"), &text))["x"], text);
        }
    }

    #[test]
    fn every_kind_of_value() {
        let line = json(|fields| {
            fields.word(key!("w"), "word");
            fields.number(key!("n"), u64::MAX);
            fields.flag(key!("y"), true);
            fields.flag(key!("no"), false);
            fields.address(key!("four"), "192.0.2.10".parse().unwrap());
            fields.address(key!("six"), "2001:db8::1".parse().unwrap());
            fields.json(key!("j"), "[{}]");
        });
        let wanted = serde_json::json!({
            "a": 1, "w": "word", "n": u64::MAX, "y": true, "no": false, "four": "192.0.2.10", "six": "2001:db8::1", "j": [{}],
        });
        assert_eq!(line, wanted);
    }

    #[test]
    fn numbers_and_digests_are_as_others_write_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX / 10, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for text in ["", "a", "sbx"] {
            let digest = PskDigest::of(text.as_bytes());
            assert_eq!(
                json(|fields| fields.digest(key!("x"), &digest))["x"],
                digest.short()
            );
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let written = |seconds: u64, micros: u64, fraction| {
            let mut out = Vec::new();
            let at = Moment::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
            time(&mut out, at, fraction);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(0, 7_999, Fraction::Millis), "1970-01-01T00:00:00.007Z");
        assert_eq!(
            written(0, 123_456, Fraction::Micros),
            "1970-01-01T00:00:00.123456Z"
        );
        assert_eq!(
            written(1_791_028_799, 999_000, Fraction::Millis),
            "2026-10-03T11:59:59.999Z"
        );
        assert_eq!(
            written(1_791_028_800, 0, Fraction::Micros),
            "2026-10-03T12:00:00.000000Z"
        );
        let beyond = (u64::MAX / 1_000_000).to_string();
        assert_eq!(written(u64::MAX, 0, Fraction::Micros), beyond);
    }

    #[test]
    fn a_buffer_is_used_again_and_not_kept_when_it_is_large() {
        let len = build(|out| out.extend_from_slice(b"one"), <[u8]>::len);
        assert_eq!(len, 3);
        build(|out| out.resize(KEPT * 2, 0), |_| ());
        let (len, nested) = build(
            |out| out.push(1),
            |outer| (outer.len(), build(|out| out.push(2), <[u8]>::to_vec)),
        );
        assert_eq!((len, nested), (1, vec![2]));
    }
}
