//! Reading requests off the wire, literally.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A request as it reached the upstream.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// The method as sent.
    pub method: String,
    /// The request target as sent, query included.
    pub target: String,
    /// The head as sent, from the method to the empty line, inclusive.
    pub head: Vec<u8>,
    /// Header names as sent, with their values, in order, repeated ones repeated.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body without its chunk framing.
    pub body: Vec<u8>,
    /// The body as sent: with chunk sizes and trailers.
    pub raw_body: Vec<u8>,
    /// Whether the whole body came.
    pub body_complete: bool,
}

impl Received {
    /// The values of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Everything that came: for a search over all of it.
    #[must_use]
    pub fn everything(&self) -> Vec<u8> {
        [&self.head[..], &self.raw_body, &self.body].concat()
    }

    fn parse(head: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or("").split(' ');
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| {
                (
                    name.to_owned(),
                    value.trim_matches([' ', '\t']).as_bytes().to_vec(),
                )
            })
            .collect();
        Self {
            method: first.next().unwrap_or("").to_owned(),
            target: first.next().unwrap_or("").to_owned(),
            head,
            headers,
            ..Self::default()
        }
    }
}

/// A portion of a body.
pub(super) struct Portion<'a> {
    pub(super) raw: &'a [u8],
    pub(super) decoded: &'a [u8],
}

/// A connection's incoming side with what was read ahead.
pub(super) struct Wire<R> {
    read: R,
    ahead: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Wire<R> {
    pub(super) const fn new(read: R) -> Self {
        Self {
            read,
            ahead: Vec::new(),
        }
    }

    /// The next head; `None` when the client closed.
    pub(super) async fn head(&mut self) -> Option<Received> {
        let end = self.find(b"\r\n\r\n").await?;
        let head = self.ahead.drain(..end).collect();
        Some(Received::parse(head))
    }

    /// Reads the body that `head` announces and hands it on as it comes; whether all of it came.
    pub(super) async fn body(&mut self, head: &Received, mut sink: impl FnMut(Portion<'_>)) -> bool {
        if head
            .header("transfer-encoding")
            .iter()
            .any(|value| value.to_ascii_lowercase().contains("chunked"))
        {
            return self.chunks(&mut sink).await.is_some();
        }
        let length = head
            .header("content-length")
            .first()
            .and_then(|value| value.parse::<usize>().ok());
        self.plain(length.unwrap_or(0), &mut sink).await.is_some()
    }

    /// Returns when the client has closed its side. What it sends meanwhile is kept.
    pub(super) async fn gone(&mut self) {
        while self.more().await.is_some() {}
    }

    async fn plain(&mut self, mut left: usize, sink: &mut impl FnMut(Portion<'_>)) -> Option<()> {
        while left > 0 {
            if self.ahead.is_empty() {
                self.more().await?;
            }
            let take = left.min(self.ahead.len());
            let part: Vec<u8> = self.ahead.drain(..take).collect();
            sink(Portion {
                raw: &part,
                decoded: &part,
            });
            left -= take;
        }
        Some(())
    }

    async fn chunks(&mut self, sink: &mut impl FnMut(Portion<'_>)) -> Option<()> {
        loop {
            let end = self.find(b"\r\n").await?;
            let line: Vec<u8> = self.ahead.drain(..end).collect();
            sink(Portion {
                raw: &line,
                decoded: &[],
            });
            let text = String::from_utf8_lossy(&line).into_owned();
            let size = usize::from_str_radix(text.trim().split(';').next()?, 16).ok()?;
            if size == 0 {
                break;
            }
            self.plain(size, sink).await?;
            let end = self.find(b"\r\n").await?;
            let line: Vec<u8> = self.ahead.drain(..end).collect();
            sink(Portion {
                raw: &line,
                decoded: &[],
            });
        }
        // Trailers, up to the empty line.
        loop {
            let end = self.find(b"\r\n").await?;
            let line: Vec<u8> = self.ahead.drain(..end).collect();
            sink(Portion {
                raw: &line,
                decoded: &[],
            });
            if line == b"\r\n" {
                return Some(());
            }
        }
    }

    /// Reads until `needle` is there; where it ends.
    async fn find(&mut self, needle: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self
                .ahead
                .windows(needle.len())
                .position(|window| window == needle)
            {
                return Some(at + needle.len());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut room = [0; 16 * 1024];
        match self.read.read(&mut room).await {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                self.ahead.extend_from_slice(&room[..count]);
                Some(())
            }
        }
    }
}
