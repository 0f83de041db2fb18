//! What the upstream answers: a head, then chunks, pauses and gates as the test wants them.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// An answer: built step by step, sent in that order.
#[derive(Debug, Clone)]
pub struct Reply {
    head: Vec<u8>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// With Content-Length.
    Whole(Vec<u8>),
    /// Chunked.
    Stream { steps: Vec<Step>, end: bool },
    /// The test wrote every byte itself.
    Raw(Vec<Step>),
}

/// One thing that the upstream does while it answers.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes as they are.
    Bytes(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Closes the connection.
    Close,
    /// Closes it by a reset.
    Reset,
}

/// A gate that holds an answer until the test opens it. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets every answer pass, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Reply {
    /// A whole body under Content-Length.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\n");
        Self {
            head: head.into_bytes(),
            body: Body::Whole(body.into()),
        }
    }

    /// A JSON object under Content-Length.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, "application/json", body)
    }

    /// A chunked stream; add to it by [`Reply::chunk`], [`Reply::pause`], [`Reply::wait`], [`Reply::break_off`].
    #[must_use]
    pub fn stream(status: u16, content_type: &str) -> Self {
        let reply = Self::new(status, content_type, []);
        Self {
            body: Body::Stream {
                steps: Vec::new(),
                end: true,
            },
            ..reply
        }
    }

    /// Ollama's stream: one chunk per line of NDJSON, `pause` between them.
    #[must_use]
    pub fn ndjson(lines: &[&str], pause: Duration) -> Self {
        let stream = Self::stream(200, "application/x-ndjson");
        lines.iter().fold(stream, |stream, line| {
            stream.chunk(format!("{line}\n")).pause(pause)
        })
    }

    /// Exactly these steps, the head included: for answers that are not HTTP.
    #[must_use]
    pub fn raw(steps: Vec<Step>) -> Self {
        Self {
            head: Vec::new(),
            body: Body::Raw(steps),
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head
            .extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    /// One more chunk, written at once.
    #[must_use]
    pub fn chunk(self, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        let framed = [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
        self.step(Step::Bytes(framed))
    }

    /// Waits before what comes next.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Waits until `gate` is opened.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Closes the connection here, without the last chunk: an upstream that died in mid-stream.
    #[must_use]
    pub fn break_off(self) -> Self {
        let mut reply = self.step(Step::Close);
        if let Body::Stream { end, .. } = &mut reply.body {
            *end = false;
        }
        reply
    }

    fn step(mut self, step: Step) -> Self {
        match &mut self.body {
            Body::Stream { steps, .. } | Body::Raw(steps) => steps.push(step),
            Body::Whole(_) => panic!("a whole body has no steps: begin with Reply::stream"),
        }
        self
    }

    /// Everything to do, in order.
    pub(super) fn steps(&self) -> Vec<Step> {
        let bytes = |parts: &[&[u8]]| Step::Bytes(parts.concat());
        match &self.body {
            Body::Raw(steps) => steps.clone(),
            Body::Whole(body) => {
                let length = format!("Content-Length: {}\r\n\r\n", body.len());
                vec![bytes(&[&self.head, length.as_bytes(), body])]
            }
            Body::Stream { steps, end } => {
                let mut all = vec![bytes(&[&self.head, b"Transfer-Encoding: chunked\r\n\r\n"])];
                all.extend_from_slice(steps);
                if *end {
                    all.push(bytes(&[b"0\r\n\r\n"]));
                }
                all
            }
        }
    }
}
