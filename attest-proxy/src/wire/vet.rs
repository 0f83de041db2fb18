//! Message framing of HTTP/1.1 (RFC 9112), stricter than hyper reads it.
//!
//! Owns: a state machine that sees every byte a client sends, beside hyper's own parser, and says whether two servers
//! could disagree on where a request ends. It refuses, and never repairs: bare LF or CR, NUL and other controls, folded
//! lines, space around a name, `Content-Length` beside `Transfer-Encoding`, either of them twice, any coding but
//! `chunked`, a `Content-Length` with zeros in front, malformed chunks ([`chunk`](super::chunk)), and bytes that are not a
//! request line. Well-formed chunk extensions and trailers are passed over; which trailers may be is the receiver's to say.
//! It stops where a message ends: what follows is looked at when that message was answered.
//! Pure. An attacker controls every byte and where the reads split. What hyper refuses on its own, it still refuses.

use super::{
    chunk::ChunkLine,
    line::{KEPT, Line, Seen, is_token},
};

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line does not end in CRLF, or a control character is in it.
    #[error("a line with a control character, or without CRLF at its end")]
    Line,
    /// A fragment in the request line: parsers drop it, so that two could read two targets.
    #[error("a fragment in the request target")]
    Fragment,
    /// A field line is folded, has no colon, or space around its name.
    #[error("a malformed field line")]
    Field,
    /// `Content-Length` and `Transfer-Encoding`, or one of them twice.
    #[error("the request's length is given twice")]
    TwoLengths,
    /// `Content-Length` is not a plain number.
    #[error("Content-Length is not a plain number")]
    Length,
    /// A transfer coding other than `chunked`.
    #[error("a transfer coding other than chunked")]
    Coding,
    /// A chunk's first line is not its size and well-formed extensions, or the chunk does not end where it says.
    #[error("a malformed chunk")]
    Chunk,
    /// More chunk extensions than anybody needs.
    #[error("chunk extensions that are too long")]
    Extensions,
    /// A request line begins with no method that there is.
    #[error("a method that is too long")]
    Method,
    /// hyper has read a request where this watch has seen none.
    #[error("two parsers disagree on where a request ends")]
    Disagreement,
    /// HTTP/2: more frames that move nothing than a client has any use for.
    #[error("a flood of frames")]
    Flood,
    /// HTTP/2: a head that is too long, or does not end.
    #[error("a header block that is too long")]
    HeaderBlock,
}

/// Watches one direction of a connection.
#[derive(Debug)]
pub(super) struct Vet {
    line: Line,
    message: Message,
}

/// The message that is being read.
#[derive(Debug)]
struct Message {
    state: State,
    chunk: ChunkLine,
    content_length: Option<u64>,
    chunked: bool,
    heads: u32,
    ended: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of the next request has come (an empty line before it is tolerated, RFC 9112 2.2).
    Idle,
    RequestLine,
    Field,
    /// So many bytes of body to come.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
}

/// Where the connection is after some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// In a head.
    Head,
    /// In a body.
    Body,
}

impl Vet {
    pub(super) const fn new() -> Self {
        Self {
            line: Line::new(),
            message: Message {
                state: State::Idle,
                chunk: ChunkLine::new(),
                content_length: None,
                chunked: false,
                heads: 0,
                ended: 0,
            },
        }
    }

    /// Where the connection is.
    pub(super) const fn phase(&self) -> Phase {
        match self.message.state {
            State::Idle => Phase::Idle,
            State::RequestLine | State::Field => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// How many heads have ended.
    pub(super) const fn heads(&self) -> u32 {
        self.message.heads
    }

    /// How many messages have ended.
    pub(super) const fn ended(&self) -> u32 {
        self.message.ended
    }

    /// Looks at bytes in the order in which they came, up to the end of a message; tells how many it has looked at. After
    /// an error the connection is done with.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut rest = bytes;
        let before = self.ended();
        while let Some(first) = rest.first()
            && self.ended() == before
        {
            let here = match self.whole_line(rest)? {
                Some(line) => line,
                None => self.step(*first, rest)?,
            };
            rest = rest.get(here..).unwrap_or_default();
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    /// Takes a line of a head where it lies, and says how long it is, if it is here from its beginning to its end and nothing is in it
    /// that [`step`](Self::step) is to see.
    #[inline]
    fn whole_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let state = self.message.state;
        if !matches!(state, State::Idle | State::RequestLine | State::Field) || self.line.has_begun() {
            return Ok(None);
        }
        let Some((line, len)) = Seen::whole(bytes) else {
            return Ok(None);
        };
        if state != State::Field && line.is_endless_method() {
            self.message.state = State::RequestLine;
            return Err(Violation::Method);
        }
        self.message.end_of_line(&line)?;
        Ok(Some(len))
    }

    /// Bodies are skipped in one step, what means nothing in a line is taken in one; everything else goes byte by byte.
    fn step(&mut self, first: u8, bytes: &[u8]) -> Result<usize, Violation> {
        let message = &mut self.message;
        if let State::Body(left) | State::ChunkData(left) = message.state {
            let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
            message.skipped(left.saturating_sub(here));
            return Ok(usize::try_from(here).unwrap_or(bytes.len()));
        }
        let plain = match message.state {
            State::ChunkSize | State::ChunkEnd => 0,
            _ => self.line.take_plain(bytes),
        };
        if plain == 0 {
            if self.line.push(first)? {
                message.end_of_line(&self.line.seen())?;
                self.line.clear();
                return Ok(1);
            }
            match message.state {
                State::ChunkSize if first != b'\r' => message.chunk.push(first)?,
                // At once: whoever looks for a way in waits for who waits.
                State::ChunkEnd if first != b'\r' => return Err(Violation::Chunk),
                _ => {}
            }
        }
        if matches!(message.state, State::Idle | State::RequestLine) {
            message.state = State::RequestLine;
            if self.line.seen().is_endless_method() {
                return Err(Violation::Method);
            }
        }
        Ok(plain.max(1))
    }
}

impl Message {
    fn end_of_message(&mut self) -> State {
        self.ended = self.ended.wrapping_add(1);
        State::Idle
    }

    fn skipped(&mut self, left: u64) {
        self.state = match self.state {
            State::Body(_) if left == 0 => self.end_of_message(),
            State::Body(_) => State::Body(left),
            _ if left == 0 => State::ChunkEnd,
            _ => State::ChunkData(left),
        };
    }

    fn end_of_line(&mut self, line: &Seen<'_>) -> Result<(), Violation> {
        let empty = line.len == 0;
        self.state = match self.state {
            State::Idle | State::RequestLine if empty => State::Idle,
            State::Idle | State::RequestLine if line.has_hash => return Err(Violation::Fragment),
            State::Idle | State::RequestLine => {
                self.content_length = None;
                self.chunked = false;
                State::Field
            }
            State::Field if empty => {
                self.heads = self.heads.wrapping_add(1);
                match (self.chunked, self.content_length) {
                    (true, _) => {
                        self.chunk = ChunkLine::new();
                        State::ChunkSize
                    }
                    (false, None | Some(0)) => self.end_of_message(),
                    (false, Some(length)) => State::Body(length),
                }
            }
            State::Field => {
                self.field(line)?;
                State::Field
            }
            State::ChunkSize => match self.chunk.end()? {
                0 => State::Trailer,
                size => State::ChunkData(size),
            },
            State::ChunkEnd => State::ChunkSize,
            State::Trailer if empty => self.end_of_message(),
            State::Trailer => {
                field_name(line)?;
                State::Trailer
            }
            // Not read line by line.
            state @ (State::Body(_) | State::ChunkData(_)) => state,
        };
        Ok(())
    }

    fn field(&mut self, line: &Seen<'_>) -> Result<(), Violation> {
        let (name, value) = field_name(line)?;
        // A value of these two fields that was cut off is none.
        let value = if line.len > KEPT { &[] } else { value };
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value.trim_ascii())?;
            if self.content_length.is_some() || self.chunked {
                return Err(Violation::TwoLengths);
            }
            self.content_length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::Coding);
            }
            if self.content_length.is_some() || self.chunked {
                return Err(Violation::TwoLengths);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// The name of a field line, unless the name is longer than what was kept of it, and what was kept behind its colon.
fn field_name<'a>(line: &Seen<'a>) -> Result<(&'a [u8], &'a [u8]), Violation> {
    let end = line.kept.iter().position(|b| !is_token(*b));
    match end.and_then(|end| line.kept.split_at_checked(end)) {
        Some((name, [b':', value @ ..])) if !name.is_empty() => Ok((name, value)),
        // A long name: what of it was kept must be a name.
        None if line.len > KEPT => Ok((line.kept, &[])),
        _ => Err(Violation::Field),
    }
}

/// A length: digits, and no zero in front, which some read as octal.
fn decimal(text: &[u8]) -> Result<u64, Violation> {
    let octal = text.len() > 1 && text.first() == Some(&b'0');
    if text.is_empty() || text.len() > 18 || octal || !text.iter().all(u8::is_ascii_digit) {
        return Err(Violation::Length);
    }
    Ok(text.iter().fold(0, |n: u64, b| {
        n.saturating_mul(10)
            .saturating_add(u64::from(b.saturating_sub(b'0')))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text whole, and byte by byte: where the reads split must not matter.
    fn vet(text: &str) -> Result<Phase, Violation> {
        let mut whole = Vet::new();
        let mut rest = text.as_bytes();
        let mut messages = || {
            while !rest.is_empty() {
                rest = &rest[whole.feed(rest)?..];
            }
            Ok(whole.phase())
        };
        let result = messages();
        let mut single = Vet::new();
        let split = text
            .bytes()
            .try_for_each(|b| single.feed(&[b]).map(|taken| assert_eq!(taken, 1)))
            .map(|()| single.phase());
        assert_eq!(result, split, "{text:?}");
        result
    }

    fn head(fields: &str) -> Result<Phase, Violation> {
        vet(&format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn plain_requests_pass() {
        assert_eq!(vet(""), Ok(Phase::Idle));
        assert_eq!(vet("GE"), Ok(Phase::Head));
        assert_eq!(head(""), Ok(Phase::Idle));
        assert_eq!(head("Content-Length: 3\r\n"), Ok(Phase::Body));
        assert_eq!(
            vet("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /"),
            Ok(Phase::Head)
        );
        assert_eq!(vet("\r\nGET / HTTP/1.1\r\nX:\tb\r\n\r\n"), Ok(Phase::Idle));
    }

    #[test]
    fn chunked_bodies_pass_in_their_plain_form() {
        let start = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(
            vet(&format!("{start}3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n")),
            Ok(Phase::Idle)
        );
        assert_eq!(vet(&format!("{start}3\r\nab")), Ok(Phase::Body));
        for (rest, what) in [
            ("3;\r\nabc\r\n", Violation::Chunk),
            ("3;a=\"\r\n\"\r\nabc\r\n", Violation::Chunk),
            ("3;a\nabc\r\n", Violation::Line),
            ("3;a\rb\r\nabc\r\n", Violation::Line),
            ("\r\n", Violation::Chunk),
            ("0x3\r\n", Violation::Chunk),
            (" 3\r\n", Violation::Chunk),
            ("111111111\r\n", Violation::Chunk),
            ("3\r\nabcd", Violation::Chunk),
            ("3\nabc\r\n", Violation::Line),
            ("0\r\n X: a\r\n\r\n", Violation::Field),
            ("0\r\nX : a\r\n\r\n", Violation::Field),
            ("0\r\nX: a\n\r\n", Violation::Line),
        ] {
            assert_eq!(vet(&format!("{start}{rest}")), Err(what), "{rest:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_passed_over_when_they_are_well_formed() {
        let start = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for rest in [
            "3;x=y\r\nabc\r\n0\r\n\r\n",
            "3;x=\"a;b\"\r\nabc\r\n0;last\r\n\r\n",
            "3\r\nabc\r\n0\r\nX-Checksum: abc\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(vet(&format!("{start}{rest}")), Ok(Phase::Idle), "{rest:?}");
            assert_eq!(vet(&format!("{start}{rest}GET")), Ok(Phase::Head), "{rest:?}");
        }
    }

    #[test]
    fn it_stops_where_a_message_ends() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let mut vet = Vet::new();
        let both = format!("{first}\nGET");
        assert_eq!(vet.feed(both.as_bytes()), Ok(first.len()));
        assert_eq!((vet.heads(), vet.ended(), vet.phase()), (1, 1, Phase::Idle));
        assert_eq!(vet.feed(b"\nGET"), Err(Violation::Line));
    }

    #[test]
    fn a_method_ends() {
        assert_eq!(vet(&"A".repeat(33)), Err(Violation::Method));
        assert_eq!(
            vet(&format!("{} / HTTP/1.1\r\n", "A".repeat(32))),
            Ok(Phase::Head)
        );
        assert!(head(&format!("{}: v\r\n", "n".repeat(60))).is_ok());
    }

    #[test]
    fn lengths_are_given_once() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\ncontent-length: 1\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(head(fields), Err(Violation::TwoLengths), "{fields}");
        }
        for value in [
            "+1",
            "-1",
            "1, 1",
            "0x1",
            "",
            "1 1",
            "01",
            "00",
            "99999999999999999999",
            &"0".repeat(80),
        ] {
            assert_eq!(
                head(&format!("Content-Length: {value}\r\n")),
                Err(Violation::Length),
                "{value}"
            );
        }
        for value in [
            "identity",
            "gzip, chunked",
            "chunked, chunked",
            "xchunked",
            "\u{b}chunked",
            "",
        ] {
            let result = head(&format!("Transfer-Encoding: {value}\r\n"));
            assert!(
                matches!(result, Err(Violation::Coding | Violation::Line)),
                "{value:?}"
            );
        }
    }

    #[test]
    fn lines_end_in_crlf() {
        for text in [
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\nHost: a\n",
            "GET / HTTP/1.1\r\rX",
            "GET /\0 HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n",
            "\n",
            "GET / HTTP/1.1\r\nA: \u{7f}\r\n",
        ] {
            assert_eq!(vet(text), Err(Violation::Line), "{text:?}");
        }
    }

    #[test]
    fn a_target_has_no_fragment() {
        assert_eq!(vet("GET /api/tags#x HTTP/1.1\r\n"), Err(Violation::Fragment));
        assert!(head("X: #\r\n").is_ok());
    }

    #[test]
    fn field_lines_are_a_name_and_a_colon() {
        for fields in [
            " Host: b\r\n",
            "Host : b\r\n",
            "\tx: y\r\n",
            ": b\r\n",
            "no colon\r\n",
            "X(y): z\r\n",
            "Content-Length\t: 1\r\n",
            "Xé: y\r\n",
        ] {
            assert_eq!(head(fields), Err(Violation::Field), "{fields:?}");
        }
        assert!(head(&format!("{}: v\r\n", "n".repeat(200))).is_ok());
        assert!(head(&format!("x: {}\r\n", "v".repeat(5000))).is_ok());
        assert_eq!(
            head(&format!("{} : v\r\n", "n".repeat(20))),
            Err(Violation::Field)
        );
    }
}
