//! The body of a server's answer, piece by piece (RFC 9112 6 and 7).
//!
//! Owns: how much of what came belongs to the body, and where it ends. A chunk's line is read by the grammar that requests are held
//! to ([`ChunkLine`]); trailers are passed over.
//! Pure. A server is trusted not to lie, not to be well.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::answer::Length;
use crate::wire::ChunkLine;

/// The longest line of a chunk, or trailers together, in bytes.
const MAX_LINES: usize = 8 << 10;

/// What is still to come of a body.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// So many bytes.
    Known(u64),
    /// All that comes.
    Closed,
    /// The line of a chunk.
    Line(ChunkLine),
    /// So many bytes of a chunk.
    Chunk(u64, ChunkLine),
    /// The line end after a chunk.
    After(ChunkLine),
    /// Trailers, of which so many bytes may come.
    Trailers(usize),
}

/// A body that is not what chunks are.
#[derive(Debug, thiserror::Error)]
#[error("its chunks are broken")]
pub struct Broken;

impl Rest {
    pub(super) const fn of(length: Length) -> Self {
        match length {
            Length::Known(0) => Self::Nothing,
            Length::Known(len) => Self::Known(len),
            Length::Chunked => Self::Line(ChunkLine::new()),
            Length::Closed => Self::Closed,
        }
    }

    /// Whether all of it came.
    pub(super) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether it may end with the connection.
    pub(super) const fn ends_closed(&self) -> bool {
        matches!(self, Self::Closed | Self::Nothing)
    }

    /// Its length, where it is known, in bytes.
    pub(super) const fn known(&self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Known(len) => Some(*len),
            _ => None,
        }
    }

    /// Takes the next piece from what came. `None`: more must come, or all of it came.
    pub(super) fn take(&mut self, came: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        loop {
            if came.is_empty() {
                return Ok(None);
            }
            match self {
                Self::Nothing => return Ok(None),
                Self::Closed => return Ok(Some(came.split().freeze())),
                Self::Known(left) => {
                    let piece = up_to(*left, came);
                    *left = left.saturating_sub(size(&piece));
                    if *left == 0 {
                        *self = Self::Nothing;
                    }
                    return Ok(Some(piece));
                }
                Self::Chunk(left, line) => {
                    let piece = up_to(*left, came);
                    *left = left.saturating_sub(size(&piece));
                    if *left == 0 {
                        *self = Self::After(std::mem::replace(line, ChunkLine::new()));
                    }
                    return Ok(Some(piece));
                }
                Self::After(line) => {
                    match came.as_ref() {
                        [b'\r', b'\n', ..] => came.advance(2),
                        [b'\r'] => return Ok(None),
                        _ => return Err(Broken),
                    }
                    *self = Self::Line(std::mem::replace(line, ChunkLine::new()));
                }
                Self::Line(line) => {
                    let Some(text) = next_line(came, MAX_LINES)? else {
                        return Ok(None);
                    };
                    // Of other controls, the grammar knows that they were refused before.
                    if text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
                        return Err(Broken);
                    }
                    text.iter().try_for_each(|b| line.push(*b)).map_err(|_| Broken)?;
                    *self = match line.end().map_err(|_| Broken)? {
                        0 => Self::Trailers(MAX_LINES),
                        len => Self::Chunk(len, std::mem::replace(line, ChunkLine::new())),
                    };
                }
                Self::Trailers(room) => {
                    let Some(text) = next_line(came, *room)? else {
                        return Ok(None);
                    };
                    *room = room.saturating_sub(text.len());
                    if text.is_empty() {
                        *self = Self::Nothing;
                        return Ok(None);
                    }
                    if !is_field(&text) {
                        return Err(Broken);
                    }
                }
            }
        }
    }
}

/// Whether a line is a field.
fn is_field(line: &[u8]) -> bool {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let value = value.trim_ascii_start();
    !value.is_empty() && HeaderName::from_bytes(name).is_ok() && HeaderValue::from_bytes(value).is_ok()
}

fn size(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

fn up_to(most: u64, came: &mut BytesMut) -> Bytes {
    let len = usize::try_from(most).map_or(came.len(), |most| most.min(came.len()));
    came.split_to(len).freeze()
}

/// A line without its end, if it is there; it may be at most `most` bytes long.
fn next_line(came: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, Broken> {
    let end = memchr::memchr(b'\n', came);
    if end.unwrap_or(came.len()) > most {
        return Err(Broken);
    }
    let Some(end) = end else {
        return Ok(None);
    };
    let mut line = came.split_to(end.saturating_add(1));
    line.truncate(end);
    match line.last() {
        Some(b'\r') => line.truncate(end.saturating_sub(1)),
        _ => return Err(Broken),
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Body = (Vec<u8>, Vec<u8>);

    /// The body, and what follows it, where it comes in pieces of `step` bytes. `None`: it did not end.
    fn body(length: Length, came: &[u8], step: usize) -> Result<Option<Body>, Broken> {
        let (mut rest, mut buf, mut whole) = (Rest::of(length), BytesMut::new(), Vec::new());
        for piece in came.chunks(step) {
            buf.extend_from_slice(piece);
            while let Some(data) = rest.take(&mut buf)? {
                assert!(!data.is_empty());
                whole.extend_from_slice(&data);
            }
        }
        Ok(rest.is_nothing().then(|| (whole, buf.to_vec())))
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_comes() {
        for (length, came, data, follows) in [
            (Length::Known(3), "abcdef", "abc", "def"),
            (Length::Known(0), "abc", "", "abc"),
            (Length::Chunked, "3\r\nabc\r\n0\r\n\r\nHTTP", "abc", "HTTP"),
            (Length::Chunked, "0\r\n\r\n", "", ""),
            (
                Length::Chunked,
                "1;a=b\r\na\r\n00002\r\nbc\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\nx",
                "abc",
                "x",
            ),
            (Length::Chunked, "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ] {
            for step in 1..=came.len() {
                let (whole, left) = body(length, came.as_bytes(), step).unwrap().unwrap();
                assert_eq!(whole, data.as_bytes(), "{came:?}");
                // What is not looked at any more stays where it came.
                assert!(follows.as_bytes().ends_with(&left) || left == follows.as_bytes());
            }
            assert_eq!(
                body(length, came.as_bytes(), came.len()).unwrap().unwrap().1,
                follows.as_bytes()
            );
        }
    }

    #[test]
    fn what_lacks_its_end_has_none() {
        for came in [
            "",
            "3",
            "3\r\n",
            "3\r\nab",
            "3\r\nabc",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\n",
            "0\r\nT: 1\r\n",
        ] {
            for step in 1..=came.len().max(1) {
                assert!(
                    body(Length::Chunked, came.as_bytes(), step).unwrap().is_none(),
                    "{came:?}"
                );
            }
        }
        assert!(body(Length::Known(4), b"abc", 1).unwrap().is_none());
        assert!(body(Length::Closed, b"abc", 1).unwrap().is_none());
    }

    #[test]
    fn broken_chunks_are_noticed() {
        let long = format!("3;{}", "a".repeat(300));
        let trailers = format!("0\r\n{}", "T: 1\r\n".repeat(MAX_LINES));
        let line = "1".repeat(MAX_LINES + 1);
        for came in [
            "x\r\n",
            "\r\n",
            "3\nabc",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n",
            "3\r\nabc\rx",
            "-1\r\n",
            "0x1\r\n",
            "fffffffff\r\n",
            "3 a\r\n",
            "3\0\r\n",
            "3;a=\"\u{1}\"\r\n",
            "3\r\r\n",
            "0\r\nT: 1\n\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\nT : 1\r\n\r\n",
            "0\r\n: 1\r\n\r\n",
            "0\r\nT: \0\r\n\r\n",
            &format!("{long}\r\n"),
            &trailers,
            &line,
        ] {
            for step in [1, 7, came.len()] {
                assert!(body(Length::Chunked, came.as_bytes(), step).is_err(), "{came:?}");
            }
        }
    }
}
