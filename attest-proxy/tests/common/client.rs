//! A client that sends exactly the bytes it is told to, and reads answers literally.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the whole body came.
    pub complete: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The refusal's code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("none").to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// One request on a connection of its own.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(String, String)],
    body: &str,
) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.send(&request(method, target, fields, body)).await;
    connection.answer(method).await.expect("an answer")
}

/// The bytes of a request.
pub fn request(method: &str, target: &str, fields: &[(String, String)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: proxy\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A connection to the proxy.
pub struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// From another address of loopback.
    pub async fn from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The proxy may have closed already: what it said before is still to be read.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends, if the proxy still takes anything.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// No more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads some more; false at the end.
    pub async fn more(&mut self) -> bool {
        let mut room = [0; 4096];
        match timeout(PATIENCE, self.stream.read(&mut room))
            .await
            .expect("bytes in time")
        {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.ahead.extend_from_slice(&room[..n]);
                true
            }
        }
    }

    /// Whether the proxy closes, and says no more.
    pub async fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more().await
    }

    /// Everything until the proxy closes.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned()
    }

    /// Everything until it closes, `enough` has come, or it says nothing for so long; then what it says when no more is sent.
    /// A client that ends its side at once has left, and what it asked for is cancelled: that would hide what was let in.
    pub async fn rest_after(&mut self, silence: Duration, enough: impl Fn(&str) -> bool) -> String {
        loop {
            if enough(&String::from_utf8_lossy(&self.ahead)) {
                break;
            }
            match timeout(silence, self.more()).await {
                Ok(true) => {}
                Ok(false) => return self.rest().await,
                Err(_) => break,
            }
        }
        self.finish().await;
        self.rest().await
    }

    /// What is said, and whether the proxy has closed then. The first word may take `first`, each one after it `silence`.
    pub async fn watch(&mut self, first: Duration, silence: Duration) -> (String, bool) {
        let mut patience = first;
        let closed = loop {
            match timeout(patience, self.more()).await {
                Ok(true) => patience = silence,
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        (
            String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned(),
            closed,
        )
    }

    /// Reads one line, its end taken off.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line = self.ahead.drain(..at + 2).take(at).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < n {
            if !self.more().await {
                return None;
            }
        }
        Some(self.ahead.drain(..n).collect())
    }

    /// Reads an answer's head.
    pub async fn head(&mut self) -> Option<Answer> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Answer {
            status,
            headers,
            body: Vec::new(),
            complete: false,
        })
    }

    /// Reads one chunk of a chunked body; `None` when the connection broke, empty at the end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let data = self.exactly(size).await?;
        self.exactly(2).await?;
        Some(data)
    }

    /// Reads a whole answer; `None` when none came.
    pub async fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut answer = self.head().await?;
        while answer.status == 100 {
            answer = self.head().await?;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                match self.chunk().await {
                    Some(data) if data.is_empty() => answer.complete = true,
                    Some(data) => {
                        answer.body.extend(data);
                        continue;
                    }
                    None => {}
                }
                break;
            }
        } else if let Some(length) = answer.header("content-length").filter(|_| method != "HEAD") {
            if let Some(body) = self.exactly(length.parse().unwrap()).await {
                answer.body = body;
                answer.complete = true;
            }
        } else {
            answer.complete = true;
        }
        Some(answer)
    }
}
