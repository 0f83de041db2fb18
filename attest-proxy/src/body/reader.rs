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

/// The reader of one body.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: u8,
}

impl<'de> Reader<'de> {
    pub(super) const fn new(text: &'de str) -> Self {
        Self {
            text,
            at: 0,
            depth: DEPTH,
        }
    }

    /// Where the next byte is.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'de [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte, which is read.
    pub(super) fn next(&mut self) -> Option<u8> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// Reads the next byte if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    /// Whether white space may follow.
    pub(super) fn is_at_space(&self) -> bool {
        self.peek().is_some_and(|b| b <= b' ')
    }

    /// Reads white space.
    pub(super) fn space(&mut self) {
        let is = |b: &&u8| matches!(b, b' ' | b'\n' | b'\t' | b'\r');
        self.at += self.rest().iter().take_while(is).count();
    }

    /// Reads the rest of a word.
    pub(super) fn word(&mut self, rest: &str) -> Result<(), BodyError> {
        if !self.rest().starts_with(rest.as_bytes()) {
            return Err(self.flaw("something that is no value"));
        }
        self.at += rest.len();
        Ok(())
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

    /// Reads a string after its opening quote, if nothing in it is escaped and nothing could be folded: no other key's twin.
    #[inline]
    pub(super) fn plain_key(&mut self) -> Option<&'de str> {
        let mut end = self.at;
        for eight in self.rest().as_chunks().0.iter().take(NEAR / 8) {
            let word = eights::word(eight);
            let (special, foldable) = (special(word), eights::foldable(word));
            if special == 0 {
                if foldable != 0 {
                    return None;
                }
                end += 8;
                continue;
            }
            if eights::before(foldable, special) != 0 {
                return None;
            }
            end += eights::first(special);
            if self.text.as_bytes().get(end) != Some(&b'"') {
                return None;
            }
            let key = self.text.get(self.at..end)?;
            self.at = end + 1;
            return Some(key);
        }
        None
    }

    /// Reads a string after its opening quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'de>, BodyError> {
        let start = self.at;
        if self.special() == Some(b'"') {
            return Ok(Text::Plain(self.since(start)));
        }
        self.at = start;
        self.escaped(start)
    }

    /// What came since `start` and before a closing quote that was read.
    fn since(&self, start: usize) -> &'de str {
        self.text
            .get(start..self.at.saturating_sub(1))
            .unwrap_or_default()
    }

    /// Reads a string that has more than plain letters in it.
    #[inline(never)]
    fn escaped(&mut self, start: usize) -> Result<Text<'de>, BodyError> {
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
        if ours {
            return Ok(Text::Escaped(self.since(start), escapes));
        }
        let quoted = self
            .text
            .get(start.saturating_sub(1)..self.at)
            .unwrap_or_default();
        serde_json::from_str(quoted)
            .map(Text::Otherwise)
            .map_err(|_| self.flaw("a malformed escape"))
    }

    /// Reads up to the next quote, backslash or control character in a string, and it.
    #[inline]
    fn special(&mut self) -> Option<u8> {
        let rest = self.rest();
        let mut at = 0;
        for eight in rest.as_chunks().0.iter().take(NEAR / 8) {
            let special = special(eights::word(eight));
            if special != 0 {
                at += eights::first(special);
                self.at += at + 1;
                return rest.get(at).copied();
            }
            at += 8;
        }
        at += far_special(rest.get(at..)?)?;
        self.at += at + 1;
        rest.get(at).copied()
    }

    /// Reads a number whose first byte was read, if it is written as ours are.
    #[inline]
    pub(super) fn plain_number(&mut self) -> Option<Number> {
        let (number, end) = self.number_token();
        let number = Number::plain(number.as_bytes())?;
        self.at = end;
        Some(number)
    }

    /// Reads any number whose first byte was read; with it comes how it is written, if not as it came.
    pub(super) fn number(&mut self) -> Result<(Number, Option<String>), BodyError> {
        let (token, end) = self.number_token();
        match Number::any(token) {
            Some((number, written)) => {
                self.at = end;
                Ok((number, (written != token).then_some(written)))
            }
            None => Err(self.flaw("a malformed number, or one without bounds")),
        }
    }

    /// As far as it can be one: what is malformed in it, serde_json finds.
    #[inline]
    fn number_token(&self) -> (&'de str, usize) {
        let bytes = self.text.as_bytes();
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|b| b.is_ascii_digit()).count()
        };
        let mut end = digits(self.at);
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
            end = digits(end + 1 + usize::from(sign));
        }
        (
            self.text.get(self.at.saturating_sub(1)..end).unwrap_or_default(),
            end,
        )
    }

    /// What is wrong, and where.
    #[cold]
    pub(super) fn flaw(&self, what: &str) -> BodyError {
        let read = self.text.as_bytes().get(..self.at).unwrap_or_default();
        let line = memchr_iter(b'\n', read).count().saturating_add(1);
        let column = read
            .len()
            .saturating_sub(memrchr(b'\n', read).map_or(0, |at| at.saturating_add(1)));
        BodyError::Json(format!("{what} at line {line} column {column}"))
    }
}

/// The first quote, backslash or control character, wherever it is.
fn far_special(bytes: &[u8]) -> Option<usize> {
    let end = memchr2(b'"', b'\\', bytes);
    let before = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    // Looked at to its end whatever is found: that is what a machine does in wide steps.
    if before.iter().fold(false, |found, b| found | (*b < b' ')) {
        before.iter().position(|b| *b < b' ')
    } else {
        end
    }
}

/// Marks what ends a string, is escaped in it, or may not be in it.
#[inline]
const fn special(word: u64) -> u64 {
    eights::below(word, b' ') | eights::is(word, b'"') | eights::is(word, b'\\')
}
