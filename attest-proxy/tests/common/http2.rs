//! A client of HTTP/2 that sends exactly the frames it is told to, and reads frames literally.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer, of which this is the body.
    Answer(String),
    /// The stream was reset, for this reason.
    Reset(u32),
    /// The connection was ended, if it was said for this reason.
    Gone(Option<u32>),
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block: every field a literal, nothing indexed, nothing compressed (RFC 7541 6.2.2).
pub fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let mut rest = text.len();
            if rest < 127 {
                out.push(u8::try_from(rest).unwrap());
            } else {
                out.push(127);
                rest -= 127;
                while rest >= 128 {
                    out.push(u8::try_from(rest % 128 + 128).unwrap());
                    rest /= 128;
                }
                out.push(u8::try_from(rest).unwrap());
            }
            out.extend(text.as_bytes());
        }
    }
    out
}

/// Fields, from pairs.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

/// What a connection lies on.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
}

impl Connection {
    /// Connects and says hello, with these settings.
    pub async fn open(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, settings).await
    }

    /// Says hello on a stream, with these settings.
    pub async fn over(stream: impl Stream + 'static, settings: &[u8]) -> Self {
        let mut connection = Self {
            stream: Box::new(stream),
            ahead: Vec::new(),
        };
        connection.send(PREFACE).await;
        connection.send(&frame(SETTINGS, 0, 0, settings)).await;
        connection
    }

    /// Sends, if the proxy still takes anything.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(&[a, b, c, kind, flags, s1, s2, s3, s4, ref rest @ ..]) = self.ahead.get(..) {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = Frame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes([s1, s2, s3, s4]),
                        payload: payload.to_vec(),
                    };
                    self.ahead.drain(..9 + length);
                    return Some(frame);
                }
            }
            let mut room = [0; 16 << 10];
            let read = timeout(PATIENCE, self.stream.read(&mut room));
            match read.await.expect("frames in time") {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.ahead.extend_from_slice(&room[..n]),
            }
        }
    }

    /// Reads until `stream` has ended, one way or another.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut body = Vec::new();
        while let Some(frame) = self.next().await {
            let code = |at: usize| {
                let code = frame.payload.get(at..at + 4)?;
                Some(u32::from_be_bytes(code.try_into().unwrap()))
            };
            match frame.kind {
                GOAWAY if code(4) != Some(0) => return Outcome::Gone(code(4)),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code(0).unwrap()),
                DATA if frame.stream == stream => body.extend(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0
            {
                return Outcome::Answer(String::from_utf8(body).unwrap());
            }
        }
        Outcome::Gone(None)
    }

    /// Whether the proxy closes; what it says before is thrown away.
    pub async fn closes(&mut self) -> bool {
        while self.next().await.is_some() {}
        true
    }
}
