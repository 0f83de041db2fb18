//! A request as it goes to a server: a head in the form of RFC 9112, and a body whose length it says.
//!
//! Owns: how it is written. Names and values have the types of `http`, which cannot hold a line end; method and path come
//! from the allow-list.

use std::{fmt, io::Write as _};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

/// Up to how many bytes a body is sent in one piece with its head: copying it costs less than handing the system two.
const JOINED: usize = 1536;
/// What a head and such a body have room in, in bytes; most heads are far shorter.
const ROOM: usize = 2 << 10;

/// A request, ready to be sent; more than once if it must.
#[derive(Clone)]
pub struct Message {
    head: Vec<u8>,
    body: Bytes,
    /// Whether its answer is a head alone.
    asks_head: bool,
}

impl Message {
    /// The first lines of a request.
    #[must_use]
    pub fn new(method: &Method, path: &str, host: &HeaderValue) -> Self {
        let mut message = Self {
            head: Vec::with_capacity(ROOM),
            body: Bytes::new(),
            asks_head: *method == Method::HEAD,
        };
        message.push(&[
            method.as_str().as_bytes(),
            b" ",
            path.as_bytes(),
            b" HTTP/1.1\r\n",
        ]);
        message.field(&header::HOST, host);
        message
    }

    /// A request without fields of its own and without a body.
    #[must_use]
    pub fn get(path: &str, host: &HeaderValue) -> Self {
        Self::new(&Method::GET, path, host).with_body(Bytes::new())
    }

    /// One more field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.push(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }

    /// Ends the head, and adds the body, if it is one.
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        if !body.is_empty() {
            // To a Vec nothing can fail.
            let _ = write!(self.head, "content-length: {}\r\n", body.len());
        }
        self.push(&[b"\r\n"]);
        if body.len() <= JOINED {
            self.push(&[&body]);
        } else {
            self.body = body;
        }
        self
    }

    /// Whether its answer has no body, whatever that says of its length (RFC 9112 6.3).
    pub(super) const fn asks_head(&self) -> bool {
        self.asks_head
    }

    /// What follows `sent` bytes of it, in up to two pieces.
    pub(super) fn after(&self, sent: usize) -> [&[u8]; 2] {
        let in_body = sent.saturating_sub(self.head.len());
        [
            self.head.get(sent..).unwrap_or_default(),
            self.body.get(in_body..).unwrap_or_default(),
        ]
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.head.len().saturating_add(self.body.len())
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.head.extend_from_slice(piece);
        }
    }

    /// Head and joined body as text, for tests.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

/// Says how long it is, and nothing of what is in it: that is a prompt.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HeaderValue {
        HeaderValue::from_static("ollama:11434")
    }

    #[test]
    fn a_message_is_head_and_body() {
        let get = Message::get("/api/ps", &host());
        assert_eq!(get.text(), "GET /api/ps HTTP/1.1\r\nhost: ollama:11434\r\n\r\n");
        assert_eq!(get.len(), get.text().len());
        assert_eq!(format!("{get:?}"), format!("Message({} bytes)", get.len()));
        let mut post = Message::new(&Method::POST, "/api/chat", &host());
        post.field(&header::ACCEPT, &HeaderValue::from_static("*/*"));
        let small = post.clone().with_body(Bytes::from_static(b"{}"));
        let head = "POST /api/chat HTTP/1.1\r\nhost: ollama:11434\r\naccept: */*\r\n";
        assert_eq!(small.text(), format!("{head}content-length: 2\r\n\r\n{{}}"));
        assert_eq!(small.after(0)[1], b"");
        let large = post.with_body(vec![b'x'; JOINED + 1].into());
        assert_eq!(large.text(), format!("{head}content-length: 1537\r\n\r\n"));
        assert_eq!(large.len(), large.text().len() + JOINED + 1);
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let message = Message::new(&Method::POST, "/", &host()).with_body(vec![b'x'; JOINED + 10].into());
        let all = message.after(0).concat();
        assert_eq!(all.len(), message.len());
        for sent in 0..=all.len() {
            assert_eq!(message.after(sent).concat(), all[sent..]);
        }
    }
}
