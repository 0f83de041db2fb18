//! JSON's tokens (RFC 8259), out of a text that stays where it is.
//!
//! Owns: where each token begins and ends, and whether it came as our own serialisation would write it. What most clients send is
//! decided here: keys of small letters, strings whose escapes are ours, short numbers. Any other string or number is handed to
//! serde_json as a whole token, and what that says of it holds.
//! Refuses: what RFC 8259 does, numbers beyond a float's range, lone surrogates, and more than 127 open brackets.
//! An attacker controls every byte. Nothing is read twice but what is handed to serde_json.

use memchr::{memchr_iter, memchr2, memrchr};

use super::{
    BodyError,
    number::Number,
    text::{self, Text},
};
use crate::eights;

/// One more than the most brackets that may be open, as serde_json has it.
const DEPTH: u8 = 128;

/// How many bytes of a string are looked through eight by eight. So many most strings have; in a longer one memchr is faster.
const NEAR: usize = 32;

/// How many digits behind its first one a whole number has at most that is read as it stands.
const NUMBER: usize = 15;

/// The reader of one body; a copy of it can be come back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'de> {
    text: &'de str,
    /// What of it was not read.
    rest: &'de [u8],
    depth: u8,
}

impl<'de> Reader<'de> {
    pub(super) const fn new(text: &'de str) -> Self {
        Self {
            text,
            rest: text.as_bytes(),
            depth: DEPTH,
        }
    }

    /// Where the next byte is.
    pub(super) const fn at(&self) -> usize {
        self.text.len().wrapping_sub(self.rest.len())
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte, which is read.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Reads the next byte if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        if is {
            self.skip(1);
        }
        is
    }

    /// Reads the next byte if it is this one, and no white space follows it.
    #[inline]
    pub(super) fn eat_close(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte && rest.first().is_some_and(|next| *next > b' ') => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    /// Whether white space may follow.
    pub(super) fn is_at_space(&self) -> bool {
        self.peek().is_some_and(|b| b <= b' ')
    }

    /// Reads white space.
    pub(super) fn space(&mut self) {
        while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Reads the next bytes if they are these.
    #[inline]
    pub(super) fn eat_all(&mut self, bytes: &[u8]) -> bool {
        let after = self.rest.strip_prefix(bytes);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// Reads the rest of a word.
    pub(super) fn word(&mut self, rest: &str) -> Result<(), BodyError> {
        if self.eat_all(rest.as_bytes()) {
            Ok(())
        } else {
            Err(self.flaw("something that is no value"))
        }
    }

    /// Whether one more bracket may be opened.
    pub(super) const fn may_go_deeper(&self) -> bool {
        self.depth > 1
    }

    /// A bracket was opened.
    pub(super) fn deeper(&mut self) -> Result<(), BodyError> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            return Err(self.flaw("recursion limit exceeded"));
        }
        Ok(())
    }

    /// It was closed.
    pub(super) const fn higher(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    /// Reads a string with its opening quote, if nothing in it is escaped and nothing could be folded: no other key's twin.
    #[inline(always)]
    pub(super) fn plain_key(&mut self) -> Option<&'de str> {
        let [b'"', rest @ ..] = self.rest else {
            return None;
        };
        let mut len = 0;
        loop {
            let word = eights::word(rest.get(len..)?.first_chunk()?);
            let (special, foldable) = (special(word), eights::foldable(word));
            if eights::before(foldable, special) != 0 {
                return None;
            }
            len += eights::first(special);
            if special != 0 {
                break;
            }
        }
        let (_, [b'"', after @ ..]) = rest.split_at_checked(len)? else {
            return None;
        };
        let start = self.at() + 1;
        self.rest = after;
        self.text.get(start..start + len)
    }

    /// Reads a string after its opening quote, if nothing in it is escaped; nothing of any other.
    #[inline(always)]
    pub(super) fn plain_string(&mut self) -> Option<&'de str> {
        let len = special_from(self.rest)?;
        let (_, [b'"', after @ ..]) = self.rest.split_at_checked(len)? else {
            return None;
        };
        let start = self.at();
        self.rest = after;
        self.text.get(start..start + len)
    }

    /// What came since `start` and before a closing quote that was read.
    fn since(&self, start: usize) -> &'de str {
        self.text
            .get(start..self.at().saturating_sub(1))
            .unwrap_or_default()
    }

    /// Reads any string after its opening quote.
    pub(super) fn string(&mut self) -> Result<Text<'de>, BodyError> {
        let start = self.at();
        let mut escapes = 0_usize;
        let mut ours = true;
        loop {
            match self.special() {
                Some(b'"') => break,
                Some(b'\\') => {
                    ours &= self.next().is_some_and(text::is_our_escape);
                    escapes += 1;
                }
                Some(_) => return Err(self.flaw("a control character in a string")),
                None => return Err(self.flaw("a string without an end")),
            }
        }
        if escapes == 0 {
            return Ok(Text::Plain(self.since(start)));
        }
        if ours {
            return Ok(Text::Escaped(self.since(start), escapes));
        }
        let quoted = self
            .text
            .get(start.saturating_sub(1)..self.at())
            .unwrap_or_default();
        serde_json::from_str(quoted)
            .map(Text::Otherwise)
            .map_err(|_| self.flaw("a malformed escape"))
    }

    /// Reads up to the next quote, backslash or control character in a string, and it.
    fn special(&mut self) -> Option<u8> {
        self.skip(special_from(self.rest)?);
        self.next()
    }

    /// Reads a number whose first byte was read, if it is written as ours are.
    #[inline(always)]
    pub(super) fn plain_number(&mut self, first: u8) -> Option<Number> {
        // Nearly all are small and whole.
        if let b'1'..=b'9' = first {
            let mut value = u64::from(first - b'0');
            let mut rest = self.rest;
            for _ in 0..NUMBER {
                match rest {
                    [digit @ b'0'..=b'9', more @ ..] => {
                        value = value * 10 + u64::from(digit - b'0');
                        rest = more;
                    }
                    [b'.' | b'e' | b'E', ..] => break,
                    _ => {
                        self.rest = rest;
                        return Some(Number::Unsigned(value));
                    }
                }
            }
        }
        self.plain_token()
    }

    #[inline(never)]
    fn plain_token(&mut self) -> Option<Number> {
        let (token, more) = self.number_token();
        let number = Number::plain(token.as_bytes())?;
        self.skip(more);
        Some(number)
    }

    /// Reads any number whose first byte was read; with it comes how it is written, if not as it came.
    pub(super) fn number(&mut self) -> Result<(Number, Option<String>), BodyError> {
        let (token, more) = self.number_token();
        match Number::any(token) {
            Some((number, written)) => {
                self.skip(more);
                Ok((number, (written != token).then_some(written)))
            }
            None => Err(self.flaw("a malformed number, or one without bounds")),
        }
    }

    /// A token with its first byte, and how long it is without it. As far as it can be a number: what is malformed in it, serde_json finds.
    #[inline]
    fn number_token(&self) -> (&'de str, usize) {
        let bytes = self.rest;
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|b| b.is_ascii_digit()).count()
        };
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
            end = digits(end + 1 + usize::from(sign));
        }
        let start = self.at();
        let token = self.text.get(start.saturating_sub(1)..start + end);
        (token.unwrap_or_default(), end)
    }

    /// What is wrong, and where.
    #[cold]
    pub(super) fn flaw(&self, what: &str) -> BodyError {
        let read = self.text.as_bytes().get(..self.at()).unwrap_or_default();
        let line = memchr_iter(b'\n', read).count().saturating_add(1);
        let column = read
            .len()
            .saturating_sub(memrchr(b'\n', read).map_or(0, |at| at.saturating_add(1)));
        BodyError::Json(format!("{what} at line {line} column {column}"))
    }
}

/// Where the first quote, backslash or control character is.
#[inline(always)]
fn special_from(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for eight in bytes.as_chunks().0.iter().take(NEAR / 8) {
        let special = special(eights::word(eight));
        len += eights::first(special);
        if special != 0 {
            return Some(len);
        }
    }
    far_special(bytes, len)
}

/// The first quote, backslash or control character from a place on. Before it, [`NEAR`] bytes are known to be none, or all are.
fn far_special(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let end = memchr2(b'"', b'\\', rest).map_or(bytes.len(), |len| from + len);
    // Looked at to its end whatever is found, and in whole steps: that is what a machine is quick at.
    let steps = (end - from).next_multiple_of(NEAR);
    let before = bytes.get(end.saturating_sub(steps)..end)?;
    let is_control = |found, byte: &u8| found | (*byte < b' ');
    let (whole, odd) = before.as_chunks::<NEAR>();
    let mut found = odd.iter().fold(false, is_control);
    for step in whole {
        found |= step.iter().fold(false, is_control);
    }
    if found {
        return rest.iter().position(|b| *b < b' ').map(|len| from + len);
    }
    (end < bytes.len()).then_some(end)
}

/// Marks what ends a string, is escaped in it, or may not be in it.
#[inline]
const fn special(word: u64) -> u64 {
    eights::below(word, b' ') | eights::is(word, b'"') | eights::is(word, b'\\')
}
