//! Tokens out of a passing answer: read from the numbers that the model server itself gives, without keeping the answer.
//!
//! Owns: a reader of JSON that is told bytes as they pass, in whatever pieces, and remembers only where it is and the
//! few numbers that it is looking for: `prompt_eval_count` and `eval_count` of Ollama's objects, and `usage` of OpenAI's
//! and Anthropic's, at the places where these APIs have them. What a model writes is inside strings and cannot be taken
//! for them. Its memory is a few dozen bytes, whatever comes.
//! Refuses: nothing; what is no JSON has no tokens. Pure. A device that can make a model say something controls the
//! strings, a broken upstream everything.

use http::{HeaderMap, header};
use memchr::{memchr, memchr2};

use crate::eights;

/// How the objects of an answer follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One document, maybe over many lines.
    Whole,
    /// One object a line: NDJSON.
    Lines,
    /// One object after each `data:`: server-sent events.
    Events,
}

impl Framing {
    /// The framing that an answer's type says.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let is = |name: &str| {
            headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(name.as_bytes()))
        };
        if is("application/x-ndjson") {
            Self::Lines
        } else if is("text/event-stream") {
            Self::Events
        } else {
            Self::Whole
        }
    }
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, as the server told last.
    pub prompt: Option<u64>,
    /// Tokens of the answer, as the server told last.
    pub output: Option<u64>,
    /// Objects that passed. A model server sends about one for each token.
    pub objects: u64,
}

/// The reader.
#[derive(Debug)]
pub struct Counter {
    framing: Framing,
    usage: Usage,
    at: At,
    /// Brackets that are open.
    depth: u32,
    /// What the open brackets mean, outermost first; [`Node::Other`] from the first on that means nothing.
    nodes: [Node; DEEPEST],
    /// The last string: the key of what comes next, when a colon follows.
    key: Key,
    /// The number behind it. There is none without a key that is looked for.
    number: Option<u64>,
    /// What came of the string that the pieces of the answer cut.
    piece: Piece,
}

/// How deep a number can be that is looked for: `response.usage.input_tokens`.
const DEEPEST: usize = 3;

/// The longest key that is looked for, in bytes.
const KEY_LEN: usize = 17;

/// How many bytes of a string are looked through eight by eight. So many most strings have; in a longer one memchr is faster.
const NEAR: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line of events, of which so many bytes were `data:`.
    Prefix(usize),
    /// In a line of events that is none of data.
    Skip,
    /// Between tokens.
    Json,
    /// In a string that began in an earlier piece of the answer, or has an escape.
    String,
    /// After a backslash in one.
    Escape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Root,
    /// `response` or `message`.
    Nested,
    Usage,
    Other,
}

/// A key that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// None of them.
    None,
    /// `response` or `message`.
    Nested,
    Usage,
    /// A number in the outermost object.
    RootPrompt,
    RootOutput,
    /// A number in `usage`.
    UsagePrompt,
    UsageOutput,
}

impl Key {
    #[inline]
    fn of(text: &[u8]) -> Self {
        match text {
            b"usage" => Self::Usage,
            b"response" | b"message" => Self::Nested,
            b"prompt_eval_count" => Self::RootPrompt,
            b"eval_count" => Self::RootOutput,
            b"prompt_tokens" | b"input_tokens" => Self::UsagePrompt,
            b"completion_tokens" | b"output_tokens" => Self::UsageOutput,
            _ => Self::None,
        }
    }

    const fn is_of_a_number(self) -> bool {
        matches!(
            self,
            Self::RootPrompt | Self::RootOutput | Self::UsagePrompt | Self::UsageOutput
        )
    }
}

/// The beginning of a string.
#[derive(Debug, Clone, Copy)]
struct Piece {
    bytes: [u8; KEY_LEN],
    /// More than [`KEY_LEN`]: it was longer, or is none that is looked for.
    len: usize,
}

impl Piece {
    const EMPTY: Self = Self {
        bytes: [0; KEY_LEN],
        len: 0,
    };

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.len.saturating_add(more.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(more);
        }
        self.len = end;
    }

    const fn spoil(&mut self) {
        self.len = KEY_LEN + 1;
    }
}

const DATA: &[u8] = b"data:";

impl Counter {
    /// A reader of an answer that is framed like this.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self {
            framing,
            usage: Usage {
                prompt: None,
                output: None,
                objects: 0,
            },
            at: Self::start(framing),
            depth: 0,
            nodes: [Node::Other; DEEPEST],
            key: Key::None,
            number: None,
            piece: Piece::EMPTY,
        }
    }

    const fn start(framing: Framing) -> At {
        match framing {
            Framing::Whole | Framing::Lines => At::Json,
            Framing::Events => At::Prefix(0),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = match self.at {
                At::Json => self.json(bytes),
                At::String => self.string(bytes),
                At::Escape => {
                    self.piece.spoil();
                    self.at = At::String;
                    rest
                }
                At::Prefix(so_far) => {
                    self.prefix(so_far, first);
                    rest
                }
                At::Skip => match memchr(b'\n', bytes) {
                    Some(end) => {
                        self.at = At::Prefix(0);
                        bytes.get(end.saturating_add(1)..).unwrap_or_default()
                    }
                    None => return,
                },
            };
        }
    }

    fn prefix(&mut self, so_far: usize, byte: u8) {
        self.at = match DATA.get(so_far) {
            Some(wanted) if *wanted == byte => match so_far.saturating_add(1) {
                all if all == DATA.len() => At::Json,
                part => At::Prefix(part),
            },
            _ if byte == b'\n' => At::Prefix(0),
            _ => At::Skip,
        };
    }

    /// Goes on with a string.
    fn string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.piece.push(bytes);
            return &[];
        };
        let (text, rest) = bytes.split_at(end);
        self.piece.push(text);
        if rest.first() == Some(&b'"') {
            self.key = Key::of(self.piece.text());
            self.at = At::Json;
        } else {
            self.at = At::Escape;
        }
        rest.get(1..).unwrap_or_default()
    }

    /// Reads on between tokens, over strings that are whole and without escapes; gives back what is for another to read.
    fn json<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while self.at == At::Json {
            // Behind a key that nobody looks for, there is nothing in what is neither a string nor a bracket.
            if self.key == Key::None {
                bytes = bytes.get(plain(bytes)..).unwrap_or_default();
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                break;
            };
            bytes = if byte == b'"' { self.begin(rest) } else { rest };
            match byte {
                b'"' => {}
                b'0'..=b'9' => {
                    if let Some(number) = self.number {
                        bytes = self.digits(grown(number, byte), bytes);
                    }
                }
                b':' if self.key.is_of_a_number() => bytes = self.digits(0, bytes),
                b':' => self.number = None,
                b'{' | b'[' => {
                    self.open(byte == b'{');
                    self.key = Key::None;
                    self.number = None;
                }
                b'}' | b']' => {
                    self.value();
                    self.close();
                }
                b',' => self.value(),
                b'\n' if self.framing != Framing::Whole => self.line(),
                // A space after the colon is not yet the value; anything else is none that counts: a sign, a point, `null`.
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => self.number = None,
            }
        }
        bytes
    }

    /// Goes on with a number.
    fn digits<'a>(&mut self, mut number: u64, mut bytes: &'a [u8]) -> &'a [u8] {
        while let [digit @ b'0'..=b'9', rest @ ..] = bytes {
            number = grown(number, *digit);
            bytes = rest;
        }
        self.number = Some(number);
        bytes
    }

    /// Begins a string after its quote, and goes to its end if that is here and it has no escape; and on, as long as it is one that
    /// nobody looks for and another follows it.
    #[inline]
    fn begin<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        self.number = None;
        loop {
            let end = end_of_string(bytes);
            let Some((text, [b'"', rest @ ..])) = bytes.split_at_checked(end) else {
                self.piece.len = 0;
                self.at = At::String;
                return bytes;
            };
            self.key = Key::of(text);
            bytes = match rest {
                [b':' | b',', b'"', next @ ..] if self.key == Key::None => next,
                _ => return rest,
            };
        }
    }

    /// A line's end is the end of whatever was open: no JSON of these forms has one inside.
    fn line(&mut self) {
        self.value();
        self.depth = 0;
        self.at = Self::start(self.framing);
    }

    fn here(&self) -> Node {
        let at = usize::try_from(self.depth).unwrap_or(usize::MAX);
        at.checked_sub(1)
            .and_then(|at| self.nodes.get(at))
            .copied()
            .unwrap_or(Node::Other)
    }

    fn open(&mut self, object: bool) {
        let node = match (self.here(), self.key) {
            _ if !object => Node::Other,
            _ if self.depth == 0 => Node::Root,
            (Node::Root | Node::Nested, Key::Usage) => Node::Usage,
            (Node::Root, Key::Nested) => Node::Nested,
            _ => Node::Other,
        };
        if let Some(slot) = usize::try_from(self.depth)
            .ok()
            .and_then(|at| self.nodes.get_mut(at))
        {
            *slot = node;
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        if self.depth == 1 && self.here() == Node::Root {
            self.usage.objects = self.usage.objects.saturating_add(1);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// The end of a member: its number counts if its key is one that is looked for here.
    fn value(&mut self) {
        let key = std::mem::replace(&mut self.key, Key::None);
        let Some(number) = self.number.take() else { return };
        let slot = match (self.here(), key) {
            (Node::Root, Key::RootPrompt) | (Node::Usage, Key::UsagePrompt) => &mut self.usage.prompt,
            (Node::Root, Key::RootOutput) | (Node::Usage, Key::UsageOutput) => &mut self.usage.output,
            _ => return,
        };
        *slot = Some(number);
    }
}

/// A number with one more digit.
const fn grown(number: u64, digit: u8) -> u64 {
    number
        .saturating_mul(10)
        .saturating_add(digit.wrapping_sub(b'0') as u64)
}

/// How many bytes there are before a quote, a bracket or a line's end, or before one that only might be.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some((eight, _)) = bytes.get(end..).and_then(<[u8]>::split_first_chunk) {
        let word = eights::word(eight);
        // What all brackets have in common: of a bracket and few others, these bits make a DEL.
        let brackets = eights::is(word | (eights::ONES * 0x26), 127);
        let marks = brackets | eights::is(word, b'"') | eights::is(word, b'\n');
        if marks != 0 {
            return end + eights::first(marks);
        }
        end += 8;
    }
    let rest = bytes.get(end..).unwrap_or_default().iter();
    end + rest
        .take_while(|b| !matches!(b, b'"' | b'{' | b'}' | b'[' | b']' | b'\n'))
        .count()
}

/// How many bytes of a string come before its end or its first escape.
#[inline]
fn end_of_string(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some((eight, _)) = bytes.get(end..).and_then(<[u8]>::split_first_chunk)
        && end < NEAR
    {
        let word = eights::word(eight);
        let marks = eights::is(word, b'"') | eights::is(word, b'\\');
        if marks != 0 {
            return end + eights::first(marks);
        }
        end += 8;
    }
    let far = bytes.get(end..).unwrap_or_default();
    end + memchr2(b'"', b'\\', far).unwrap_or(far.len())
}

#[cfg(test)]
#[path = "count_tests.rs"]
mod tests;
