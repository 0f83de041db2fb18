//! The head of a server's answer (RFC 9112 4 and 6.3).
//!
//! Owns: where the head ends, how long the body is, whether the connection can be used again, and which fields are kept. The
//! grammar of lines is httparse's, which hyper uses too.
//! Refuses: whatever leaves the length open to two readings: two lengths, a length that is no number, one beside a transfer
//! coding, a coding that is not `chunked`, a coding in HTTP/1.0.
//! Pure. A server is trusted not to lie, not to be well.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use httparse::ParserConfig;

/// The longest head, in bytes; what informs before it included.
pub(super) const MAX_HEAD: usize = 32 << 10;
/// The most fields of one.
const MAX_FIELDS: usize = 100;
/// The longest value of a field that is kept, in bytes; a longer one is left out.
const MAX_VALUE: usize = 1024;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Those that were asked for; of several of one name, the first.
    pub(super) fields: HeaderMap,
    pub(super) length: Length,
    /// Whether another request may follow on the connection.
    pub(super) keeps: bool,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// After so many bytes.
    Known(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Closed,
}

/// Why a head is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeadError {
    /// It is not in the grammar.
    #[error("{0}")]
    Grammar(#[from] httparse::Error),
    /// It does not end.
    #[error("its head is longer than {MAX_HEAD} bytes")]
    Long,
    /// It has no clear length.
    #[error("it has no clear length")]
    Framing,
    /// `101`, which nobody asked for.
    #[error("it switches protocols")]
    Switch,
}

/// What stands at the beginning of what came.
#[derive(Debug)]
pub(super) enum Read {
    /// The head of the answer, so many bytes long.
    Head(Head, usize),
    /// Something that comes before it, so many bytes long (RFC 9110 15.2).
    Interim(usize),
    /// Less than a head.
    Part,
}

/// Reads what came so far; of the fields, those in `keep`.
pub(super) fn read(came: &[u8], keep: &[HeaderName]) -> Result<Read, HeadError> {
    // Empty lines before it are for requests only (RFC 9112 2.2).
    if came.first().is_some_and(|first| *first != b'H') {
        return Err(HeadError::Grammar(httparse::Error::Version));
    }
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parsing = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, came, &mut room)?;
    let len = match parsing {
        httparse::Status::Complete(len) if len <= MAX_HEAD => len,
        httparse::Status::Partial if came.len() < MAX_HEAD => return Ok(Read::Part),
        _ => return Err(HeadError::Long),
    };
    let code = parsed.code.unwrap_or(0);
    let status = StatusCode::from_u16(code).map_err(|_| HeadError::Grammar(httparse::Error::Status))?;
    if code == 101 {
        return Err(HeadError::Switch);
    }
    if status.is_informational() {
        return Ok(Read::Interim(len));
    }
    let modern = parsed.version == Some(1);
    let mut seen = Seen::default();
    let mut fields = HeaderMap::with_capacity(keep.len());
    for field in &*parsed.headers {
        seen.field(field)?;
        if let Some(name) = keep.iter().find(|name| is(field, name.as_str()))
            && field.value.len() <= MAX_VALUE
            && !fields.contains_key(name)
        {
            // The grammar was checked.
            let value = HeaderValue::from_bytes(field.value);
            fields.insert(name, value.map_err(|_| httparse::Error::HeaderValue)?);
        }
    }
    // Said to a client once, and in one way.
    if let (true, Some(length), Some(said)) =
        (seen.oddly, seen.length, fields.get_mut(header::CONTENT_LENGTH))
    {
        *said = length.into();
    }
    let length = match seen {
        // RFC 9112 6.3: these have none, whatever they say.
        _ if matches!(code, 204 | 304) => Length::Known(0),
        Seen { chunked: true, .. } if !modern || seen.length.is_some() => return Err(HeadError::Framing),
        Seen { chunked: true, .. } => Length::Chunked,
        Seen { length, .. } => length.map_or(Length::Closed, Length::Known),
    };
    let keeps = !seen.close && (modern || seen.keep_alive) && length != Length::Closed;
    let head = Head {
        status,
        fields,
        length,
        keeps,
    };
    Ok(Read::Head(head, len))
}

/// What fields say of the message.
#[derive(Debug, Default)]
struct Seen {
    length: Option<u64>,
    /// The length is written in another way than most write it.
    oddly: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Seen {
    fn field(&mut self, field: &httparse::Header<'_>) -> Result<(), HeadError> {
        if is(field, "content-length") {
            self.oddly |= matches!(field.value, [b'0', _, ..]) || field.value.contains(&b',');
            for value in field.value.split(|b| *b == b',') {
                let length = number(value.trim_ascii()).ok_or(HeadError::Framing)?;
                // Several that are alike are one (RFC 9110 8.6).
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(HeadError::Framing);
                }
            }
        } else if is(field, "transfer-encoding") {
            if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Framing);
            }
            self.chunked = true;
        } else if is(field, "connection") {
            for token in field.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }
}

fn is(field: &httparse::Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

fn number(digits: &[u8]) -> Option<u64> {
    // `parse` would take a plus sign.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, HeadError> {
        let keep = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::RETRY_AFTER];
        for len in 0..text.len() {
            match read(&text.as_bytes()[..len], &keep) {
                Ok(Read::Part) => {}
                Err(error) => return Err(error),
                other => panic!("{other:?} after {len} bytes of {text:?}"),
            }
        }
        match read(format!("{text}more").as_bytes(), &keep)? {
            Read::Head(head, len) => {
                assert_eq!(len, text.len());
                Ok(head)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_a_body_is_where_the_head_says() {
        for (fields, length, keeps) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", Length::Known(5), true),
            (
                "HTTP/1.1 200\r\nContent-Length: 5\r\nCONTENT-LENGTH: 5\r\n",
                Length::Known(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5 , 5\r\n",
                Length::Known(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n",
                Length::Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n", Length::Closed, false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n",
                Length::Known(1),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n",
                Length::Known(1),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n",
                Length::Known(1),
                false,
            ),
            (
                "HTTP/1.1 204 Gone\r\nContent-Length: 5\r\n",
                Length::Known(0),
                true,
            ),
            (
                "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n",
                Length::Known(0),
                true,
            ),
            ("HTTP/1.1 599 x\r\nContent-Length: 0\r\n", Length::Known(0), true),
        ] {
            let head = head(&format!("{fields}\r\n")).unwrap();
            assert_eq!((head.length, head.keeps), (length, keeps), "{fields}");
        }
    }

    #[test]
    fn a_length_is_passed_on_as_it_was_understood() {
        for said in ["5", "005", "5, 5", "5,5", "05 , 5"] {
            let head = head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n\r\n")).unwrap();
            assert_eq!(head.length, Length::Known(5));
            assert_eq!(head.fields.get("content-length").unwrap(), "5", "{said:?}");
        }
    }

    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_none() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1, 2",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: 1 1",
            "Content-Length:",
            "Content-Length: 1,",
            "Content-Length: 99999999999999999999",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: ",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(head(&text).unwrap_err(), HeadError::Framing, "{fields}");
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(head(old).unwrap_err(), HeadError::Framing);
    }

    #[test]
    fn what_is_no_head_is_said_at_once() {
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        ] {
            let error = head(text).unwrap_err();
            assert!(matches!(error, HeadError::Grammar(_)), "{text:?}: {error}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD));
        assert_eq!(read(long.as_bytes(), &[]).unwrap_err(), HeadError::Long);
        let whole = format!("{long}\r\n\r\n");
        assert_eq!(read(whole.as_bytes(), &[]).unwrap_err(), HeadError::Long);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(
            read(many.as_bytes(), &[]).unwrap_err(),
            HeadError::Grammar(httparse::Error::TooManyHeaders)
        );
        let switch = "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n";
        assert_eq!(read(switch.as_bytes(), &[]).unwrap_err(), HeadError::Switch);
    }

    #[test]
    fn what_comes_before_an_answer_is_passed_over() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: x\r\n\r\n";
        let came = format!("{hints}HTTP/1.1 200 OK\r\n");
        assert!(matches!(read(came.as_bytes(), &[]), Ok(Read::Interim(len)) if len == hints.len()));
    }

    #[test]
    fn of_the_fields_those_are_kept_that_were_asked_for() {
        let text = format!(
            "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: 1\r\ncontent-type: 2\r\nContent-Length: 0\r\nRetry-After: {}\r\n\r\n",
            "9".repeat(MAX_VALUE + 1)
        );
        let head = head(&text).unwrap();
        let kept: Vec<_> = head
            .fields
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        assert_eq!(kept, [("content-type", "1"), ("content-length", "0")]);
    }
}
