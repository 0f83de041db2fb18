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
    key: Key,
    number: Option<u64>,
}

/// How deep a number can be that is looked for: `response.usage.input_tokens`.
const DEEPEST: usize = 3;

/// The longest key that is looked for, in bytes.
const KEY_LEN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line of events, of which so many bytes were `data:`.
    Prefix(usize),
    /// In a line of events that is none of data.
    Skip,
    /// Between tokens.
    Json,
    /// In a string.
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

/// The last string: the key of what comes next, when a colon follows.
#[derive(Debug, Clone, Copy)]
struct Key {
    bytes: [u8; KEY_LEN],
    /// More than [`KEY_LEN`]: it was longer, or is none that is looked for.
    len: usize,
}

impl Key {
    const NONE: Self = Self {
        bytes: [0; KEY_LEN],
        len: KEY_LEN + 1,
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

    fn spoil(&mut self) {
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
            key: Key::NONE,
            number: None,
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
                At::Json => {
                    self.json(first);
                    rest
                }
                At::String => self.string(bytes),
                At::Escape => {
                    self.key.spoil();
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

    fn string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.key.push(bytes);
            return &[];
        };
        let (text, rest) = bytes.split_at(end);
        self.key.push(text);
        self.at = if rest.first() == Some(&b'"') {
            At::Json
        } else {
            At::Escape
        };
        rest.get(1..).unwrap_or_default()
    }

    fn json(&mut self, byte: u8) {
        if byte.is_ascii_digit() {
            if let Some(number) = &mut self.number {
                *number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
            }
            return;
        }
        match byte {
            b'"' => {
                self.key.len = 0;
                self.number = None;
                self.at = At::String;
            }
            b':' => self.number = Some(0),
            b'{' | b'[' => {
                self.open(byte == b'{');
                self.key = Key::NONE;
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
        let node = match (self.here(), self.key.text()) {
            _ if !object => Node::Other,
            _ if self.depth == 0 => Node::Root,
            (Node::Root | Node::Nested, b"usage") => Node::Usage,
            (Node::Root, b"response" | b"message") => Node::Nested,
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
        let key = std::mem::replace(&mut self.key, Key::NONE);
        let Some(number) = self.number.take() else { return };
        let slot = match (self.here(), key.text()) {
            (Node::Root, b"prompt_eval_count") | (Node::Usage, b"prompt_tokens" | b"input_tokens") => {
                &mut self.usage.prompt
            }
            (Node::Root, b"eval_count") | (Node::Usage, b"completion_tokens" | b"output_tokens") => {
                &mut self.usage.output
            }
            _ => return,
        };
        *slot = Some(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(framing: Framing, text: &str) -> Usage {
        let mut whole = Counter::new(framing);
        whole.take(text.as_bytes());
        // However it is cut, the same is counted.
        for size in [1, 2, 3, 7] {
            let mut pieces = Counter::new(framing);
            for piece in text.as_bytes().chunks(size) {
                pieces.take(piece);
            }
            assert_eq!(pieces.usage(), whole.usage(), "in pieces of {size}");
        }
        whole.usage()
    }

    fn usage(prompt: u64, output: u64, objects: u64) -> Usage {
        Usage {
            prompt: Some(prompt),
            output: Some(output),
            objects,
        }
    }

    #[test]
    fn ollamas_last_object_tells() {
        let stream = "{\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n\
            {\"message\":{\"content\":\"b\"},\"done\":false}\n\
            {\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":26,\"eval_count\": 298,\"eval_duration\":4}\n";
        assert_eq!(count(Framing::Lines, stream), usage(26, 298, 3));
        let whole = "{\n  \"response\": \"x\",\n  \"context\": [1, 2, [3]],\n  \"prompt_eval_count\" : 5 ,\n  \"eval_count\": 7\n}\n";
        assert_eq!(count(Framing::Whole, whole), usage(5, 7, 1));
    }

    #[test]
    fn usage_is_found_where_each_api_has_it() {
        let openai = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n";
        assert_eq!(count(Framing::Events, openai), usage(9, 2, 2));
        let responses = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":\
            {\"input_tokens\":3,\"input_tokens_details\":{\"cached_tokens\":8},\"output_tokens\":4}}}\r\n\r\n";
        assert_eq!(count(Framing::Events, responses), usage(3, 4, 1));
        let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\
            \"output_tokens\":1}}}\n\nevent: message_delta\ndata:{\"usage\":{\"output_tokens\":30}}\n\n";
        assert_eq!(count(Framing::Events, anthropic), usage(12, 30, 2));
        let whole = "{\"id\":\"x\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
        assert_eq!(count(Framing::Whole, whole), usage(1, 2, 1));
    }

    #[test]
    fn what_a_model_says_does_not_count() {
        for text in [
            r#"{"response":"\",\"eval_count\":9,\"x\":\""}"#,
            r#"{"response":"\\\",\"eval_count\":9"}"#,
            r#"{"message":{"tool_calls":[{"function":{"arguments":{"eval_count":9,"usage":{"output_tokens":9}}}}]}}"#,
            r#"{"message":{"eval_count":9}}"#,
            r#"{"choices":[{"usage":{"completion_tokens":9}}]}"#,
            r#"[{"eval_count":9}]"#,
            r#"{"eval_count":"9"}"#,
            r#"{"eval_count":-9}"#,
            r#"{"eval_count":9.5}"#,
            r#"{"eval_count":null}"#,
            r#"{"EVAL_COUNT":9}"#,
            r#"{"eval_count\u0020":9}"#,
            r#""eval_count":9"#,
            r#"{"a":"eval_count","b":[9]}"#,
        ] {
            let got = count(Framing::Whole, text);
            assert_eq!((got.prompt, got.output), (None, None), "{text}");
        }
        // An event that only looks like data, and a broken line, end with their lines.
        let got = count(
            Framing::Events,
            "xdata: {\"eval_count\":1}\n: {\"eval_count\":2}\ndata: {\"a\":\"\n",
        );
        assert_eq!(got, Usage::default());
        let got = count(Framing::Lines, "{{{{[[\n{\"eval_count\":3}\n");
        assert_eq!((got.output, got.objects), (Some(3), 1));
    }

    #[test]
    fn absurd_numbers_and_depths_stay_in_bounds() {
        let got = count(
            Framing::Whole,
            &format!("{{\"eval_count\":{},\"x\":1}}", "9".repeat(40)),
        );
        assert_eq!(got.output, Some(u64::MAX));
        let deep = "[{\"a\":".repeat(10_000);
        assert_eq!(count(Framing::Whole, &deep), Usage::default());
        assert_eq!(count(Framing::Whole, "}}}]]{\"eval_count\":1}").output, Some(1));
    }
}
