//! Message framing of HTTP/1.1 (RFC 9112), stricter than hyper reads it.
//!
//! Owns: a state machine that sees every byte a client sends, beside hyper's own parser, and says whether two servers
//! could disagree on where a request ends. It refuses, and never repairs: bare LF or CR, NUL and other controls, folded
//! lines, space around a name, `Content-Length` beside `Transfer-Encoding`, either of them twice, any coding but
//! `chunked`, chunk extensions, trailers, and bytes that are not a request line.
//! Pure. An attacker controls every byte and where the reads split. What hyper refuses on its own, it still refuses.

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
    /// A chunk's size line is not plain hexadecimal digits.
    #[error("a malformed chunk")]
    Chunk,
    /// Fields after the last chunk.
    #[error("trailers")]
    Trailer,
    /// HTTP/2: more frames that move nothing than a client has any use for.
    #[error("a flood of frames")]
    Flood,
    /// HTTP/2: a head that is too long, or does not end.
    #[error("a header block that is too long")]
    HeaderBlock,
}

/// How much of a line is kept to be looked at. Longer names than ours are not looked at; values of the two length
/// fields are short.
const KEPT: usize = 64;

/// Watches one direction of a connection.
#[derive(Debug)]
pub(super) struct Vet {
    state: State,
    line: Line,
    content_length: Option<u64>,
    chunked: bool,
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

/// The line that is being read: its first bytes, and whether its last byte was a CR.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT],
    len: usize,
    carriage: bool,
    hash: bool,
}

impl Vet {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Idle,
            line: Line {
                kept: [0; KEPT],
                len: 0,
                carriage: false,
                hash: false,
            },
            content_length: None,
            chunked: false,
        }
    }

    /// Where the connection is.
    pub(super) const fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::RequestLine | State::Field => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// Looks at bytes in the order in which they came. After an error the connection is done with.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while let Some((first, rest)) = bytes.split_first() {
            // Bodies are skipped in one step, what means nothing in a line is taken in one; everything else goes byte by byte.
            if let State::Body(left) | State::ChunkData(left) = self.state {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
                bytes = usize::try_from(here)
                    .ok()
                    .and_then(|n| bytes.get(n..))
                    .unwrap_or_default();
                self.skipped(left.saturating_sub(here));
                continue;
            }
            let plain = self.line.take_plain(bytes);
            if plain > 0 {
                bytes = bytes.get(plain..).unwrap_or_default();
                if self.state == State::Idle {
                    self.state = State::RequestLine;
                }
                continue;
            }
            bytes = rest;
            if self.line.push(*first)? {
                self.end_of_line()?;
                self.line.len = 0;
                self.line.hash = false;
            } else if self.state == State::Idle {
                self.state = State::RequestLine;
            }
        }
        Ok(())
    }

    fn skipped(&mut self, left: u64) {
        self.state = match self.state {
            State::Body(_) if left == 0 => State::Idle,
            State::Body(_) => State::Body(left),
            _ if left == 0 => State::ChunkEnd,
            _ => State::ChunkData(left),
        };
    }

    fn end_of_line(&mut self) -> Result<(), Violation> {
        let empty = self.line.len == 0;
        self.state = match self.state {
            State::Idle | State::RequestLine if empty => State::Idle,
            State::Idle | State::RequestLine if self.line.hash => return Err(Violation::Fragment),
            State::Idle | State::RequestLine => {
                self.content_length = None;
                self.chunked = false;
                State::Field
            }
            State::Field if empty => match (self.chunked, self.content_length) {
                (true, _) => State::ChunkSize,
                (false, None | Some(0)) => State::Idle,
                (false, Some(length)) => State::Body(length),
            },
            State::Field => {
                self.field()?;
                State::Field
            }
            State::ChunkSize => match chunk_size(self.line.text())? {
                0 => State::Trailer,
                size => State::ChunkData(size),
            },
            State::ChunkEnd if empty => State::ChunkSize,
            State::ChunkEnd => return Err(Violation::Chunk),
            State::Trailer if empty => State::Idle,
            State::Trailer => return Err(Violation::Trailer),
            // Not read line by line.
            state @ (State::Body(_) | State::ChunkData(_)) => state,
        };
        Ok(())
    }

    fn field(&mut self) -> Result<(), Violation> {
        let kept = self.line.text();
        let colon = kept.iter().position(|b| *b == b':');
        let name = match colon {
            Some(at) => kept.get(..at).unwrap_or_default(),
            // A long name: what of it was kept must be a name.
            None if self.line.len > KEPT => kept,
            None => return Err(Violation::Field),
        };
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err(Violation::Field);
        }
        let value = || {
            let after = colon
                .and_then(|at| kept.get(at.saturating_add(1)..))
                .unwrap_or_default();
            // A value of these two fields that was cut off is none.
            if self.line.len > KEPT {
                &[]
            } else {
                after.trim_ascii()
            }
        };
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value())?;
            if self.content_length.is_some() || self.chunked {
                return Err(Violation::TwoLengths);
            }
            self.content_length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value().eq_ignore_ascii_case(b"chunked") {
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

impl Line {
    /// Takes the bytes in front that mean nothing to [`Line::push`], and tells how many they are.
    fn take_plain(&mut self, bytes: &[u8]) -> usize {
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
    fn push(&mut self, byte: u8) -> Result<bool, Violation> {
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

    fn text(&self) -> &[u8] {
        self.kept.get(..self.len.min(KEPT)).unwrap_or_default()
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

fn decimal(text: &[u8]) -> Result<u64, Violation> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Violation::Length);
    }
    Ok(text.iter().fold(0, |n: u64, b| {
        n.saturating_mul(10)
            .saturating_add(u64::from(b.saturating_sub(b'0')))
    }))
}

/// A chunk's size: 1 to 8 hexadecimal digits. Extensions are refused: servers disagree on where they end.
fn chunk_size(text: &[u8]) -> Result<u64, Violation> {
    let digits = std::str::from_utf8(text).map_err(|_| Violation::Chunk)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if plain {
        u64::from_str_radix(digits, 16).map_err(|_| Violation::Chunk)
    } else {
        Err(Violation::Chunk)
    }
}

/// RFC 9110 5.6.2.
const fn is_token(byte: u8) -> bool {
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

    /// Feeds the text whole, and byte by byte: where the reads split must not matter.
    fn vet(text: &str) -> Result<Phase, Violation> {
        let mut whole = Vet::new();
        let result = whole.feed(text.as_bytes()).map(|()| whole.phase());
        let mut single = Vet::new();
        let split = text
            .bytes()
            .try_for_each(|b| single.feed(&[b]))
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
            ("3;x=y\r\nabc\r\n", Violation::Chunk),
            ("\r\n", Violation::Chunk),
            ("0x3\r\n", Violation::Chunk),
            (" 3\r\n", Violation::Chunk),
            ("111111111\r\n", Violation::Chunk),
            ("3\r\nabcd\r\n", Violation::Chunk),
            ("3\nabc\r\n", Violation::Line),
            ("0\r\nX-Pre-Shared-Key: a\r\n\r\n", Violation::Trailer),
        ] {
            assert_eq!(vet(&format!("{start}{rest}")), Err(what), "{rest:?}");
        }
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
