//! One line of HTTP/1 (RFC 9112 2.2).
//!
//! Owns: where a line ends, and that nothing is in it on which parsers disagree: a CR or LF alone, NUL, other controls.
//! Pure. An attacker controls every byte and where the reads split.

use super::vet::Violation;
use crate::eights;

/// How much of a line is kept to be looked at. Longer names than ours are not looked at; values of the two length
/// fields are short.
pub(super) const KEPT: usize = 64;
/// The longest method, in bytes: every registered one is shorter. hyper waits for all that its buffer holds.
const METHOD: usize = 32;

/// The line that is being read: its first bytes, and whether its last byte was a CR.
#[derive(Debug)]
pub(super) struct Line {
    kept: [u8; KEPT],
    /// How long it is so far, in bytes.
    len: usize,
    carriage: bool,
    hash: bool,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self {
            kept: [0; KEPT],
            len: 0,
            carriage: false,
            hash: false,
        }
    }

    /// Makes room for the next one.
    pub(super) const fn clear(&mut self) {
        self.len = 0;
        self.hash = false;
    }

    /// Takes the bytes in front that mean nothing to [`Line::push`], and tells how many they are.
    pub(super) fn take_plain(&mut self, bytes: &[u8]) -> usize {
        if self.carriage {
            return 0;
        }
        let plain = plain(bytes);
        let room = self.kept.get_mut(self.len..).unwrap_or_default();
        let kept = plain.min(room.len());
        if let (Some(room), Some(bytes)) = (room.get_mut(..kept), bytes.get(..kept)) {
            room.copy_from_slice(bytes);
        }
        self.len = self.len.saturating_add(plain);
        plain
    }

    /// Takes a byte; true at the end of a line.
    pub(super) fn push(&mut self, byte: u8) -> Result<bool, Violation> {
        match byte {
            b'\n' if self.carriage => {
                self.carriage = false;
                return Ok(true);
            }
            _ if self.carriage => return Err(Violation::Line),
            b'\r' => {
                self.carriage = true;
                return Ok(false);
            }
            b'#' => self.hash = true,
            0..=8 | 10..=31 | 127 => return Err(Violation::Line),
            _ => {}
        }
        if let Some(room) = self.kept.get_mut(self.len) {
            *room = byte;
        }
        self.len = self.len.saturating_add(1);
        Ok(false)
    }

    /// Whether a byte of it has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.len > 0 || self.carriage
    }

    /// What is known of it.
    pub(super) fn seen(&self) -> Seen<'_> {
        Seen {
            kept: self.kept.get(..self.len.min(KEPT)).unwrap_or_default(),
            len: self.len,
            has_hash: self.hash,
        }
    }
}

/// What is known of a line.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// At most [`KEPT`] bytes from its beginning.
    pub(super) kept: &'a [u8],
    /// How long it is, in bytes, without its end.
    pub(super) len: usize,
    /// Whether a `#` is in it.
    pub(super) has_hash: bool,
}

impl<'a> Seen<'a> {
    /// The line with which these bytes begin, and how long it is with its end, if it is whole and has nothing in it that
    /// [`Line::push`] treats in a way of its own.
    #[inline]
    pub(super) fn whole(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let len = plain(bytes);
        if bytes.get(len..len.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        let line = Self {
            kept: bytes.get(..len.min(KEPT))?,
            len,
            has_hash: false,
        };
        Some((line, len.saturating_add(2)))
    }

    /// Whether it has begun like no request line does.
    pub(super) fn is_endless_method(&self) -> bool {
        self.len > METHOD
            && !self
                .kept
                .iter()
                .take(METHOD.saturating_add(1))
                .any(|b| *b == b' ')
    }
}

/// How many bytes there are before the first one that [`Line::push`] treats in a way of its own.
fn plain(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut passed = 0_usize;
    for chunk in chunks {
        match first_special(chunk) {
            Some(at) => return passed.saturating_add(at),
            None => passed = passed.saturating_add(8),
        }
    }
    // What is missing of the last eight bytes is filled with special ones.
    let mut last = [0; 8];
    for (room, byte) in last.iter_mut().zip(rest) {
        *room = *byte;
    }
    passed.saturating_add(first_special(&last).unwrap_or(0))
}

/// The first of eight bytes that is a control, DEL or `#`; all eight are looked at at once.
fn first_special(eight: &[u8; 8]) -> Option<usize> {
    let word = eights::word(eight);
    let marks = eights::below(word, 32) | eights::is(word, 127) | eights::is(word, b'#');
    (marks != 0).then(|| eights::first(marks))
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    TOKENS.get(usize::from(byte)).copied().unwrap_or(false)
}

static TOKENS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "below 128, and at compile time")]
        {
            table[byte as usize] = is_tchar(byte);
        }
        byte += 1;
    }
    table
};

const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_at_once_are_what_each_of_them_is() {
        let special = |byte: u8| byte < 32 || byte == 127 || byte == b'#';
        for byte in 0..=255_u8 {
            for before in 0..20 {
                for beside in [b'a', 0x80, 0xff, b' ', b'~', b'$', b'"'] {
                    let mut text = vec![beside; before];
                    text.push(byte);
                    text.extend([beside, b'\r', b'x', 0x01, byte, b'#', 0x7f, 0x00, 0x1f]);
                    let expected = text.iter().position(|b| special(*b)).unwrap();
                    assert_eq!(plain(&text), expected, "{text:?}");
                }
            }
            assert_eq!(plain(&vec![b'a'; usize::from(byte)]), usize::from(byte));
        }
    }
}
