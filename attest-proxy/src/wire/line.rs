//! One line of HTTP/1 (RFC 9112 2.2).
//!
//! Owns: where a line ends, and that nothing is in it on which parsers disagree: a CR or LF alone, NUL, other controls.
//! Pure. An attacker controls every byte and where the reads split.

use super::vet::Violation;

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
    pub(super) len: usize,
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
        for (room, byte) in room.iter_mut().zip(bytes.iter().take(plain)) {
            *room = *byte;
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

    /// What was kept of it.
    pub(super) fn text(&self) -> &[u8] {
        self.kept.get(..self.len.min(KEPT)).unwrap_or_default()
    }

    /// Whether a `#` is in it.
    pub(super) const fn has_hash(&self) -> bool {
        self.hash
    }

    /// Whether it has begun like no request line does.
    pub(super) fn is_endless_method(&self) -> bool {
        self.len > METHOD
            && !self
                .text()
                .iter()
                .take(METHOD.saturating_add(1))
                .any(|b| *b == b' ')
    }
}

/// How many bytes there are before the first one that [`Line::push`] treats in a way of its own.
fn plain(bytes: &[u8]) -> usize {
    const fn special(byte: u8) -> bool {
        (byte < 32 && byte != b'\t') || byte == 127 || byte == b'#'
    }
    // Without a branch in it, the compiler looks at a whole chunk at once.
    let any = |chunk: &[u8; 16]| chunk.iter().fold(false, |any, byte| any | special(*byte));
    let (chunks, _) = bytes.as_chunks::<16>();
    let clean = chunks.iter().take_while(|chunk| !any(chunk)).count();
    let skipped = clean.saturating_mul(16);
    let rest = bytes.get(skipped..).unwrap_or_default();
    let more = rest.iter().position(|byte| special(*byte)).unwrap_or(rest.len());
    skipped.saturating_add(more)
}

/// RFC 9110 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
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
