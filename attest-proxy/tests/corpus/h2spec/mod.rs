//! The cases of h2spec (2.6), by its groups: generic, http2 (numbers of RFC 7540), hpack (RFC 7541).

use crate::common::{
    CHAT,
    forge::psk_text,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, block, fields, frame,
    },
};

/// What is done in turn.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// The answer on this stream is awaited.
    Answered(u32),
    /// Some DATA on this stream is awaited.
    Data(u32),
}

/// What the suite takes.
#[derive(Debug, Clone)]
pub enum Want {
    /// An answer on this stream.
    Answer(u32),
    /// The end of the connection, for one of these reasons, or without a word.
    Connection(Vec<u32>),
    /// The end of this stream for one of these reasons, or of the connection.
    Stream(u32, Vec<u32>),
    /// Nothing: what follows is acknowledged as ever.
    Ack,
    /// DATA of these lengths at first.
    Lengths(u32, Vec<usize>),
}

/// What the suite would call a failure, and why it stays.
pub const EXCEPT: &[(&str, &str)] = &[(
    "http2/8.1.2.1/3: a pseudo-field in trailers",
    "h2 throws it away, and we the trailers: nothing of it is ever seen. The request goes on, and is answered",
)];

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: &'static str,
    /// Payload of the client's first SETTINGS.
    pub settings: Vec<u8>,
    pub steps: Vec<Step>,
    pub want: Want,
}

mod exchanges;
mod frames;
mod generic;
mod settings;

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 0x20;
const WHOLE: u8 = END_HEADERS | END_STREAM;

type Fields = Vec<(String, String)>;

/// A request that is answered.
fn get() -> Fields {
    let mut all = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/api/version"),
        (":authority", "proxy"),
    ]);
    all.push(("x-pre-shared-key".into(), psk_text("plain")));
    all
}

fn post() -> Fields {
    let mut all = get();
    all[0].1 = "POST".into();
    all[2].1 = "/api/chat".into();
    all
}

fn and(mut all: Fields, name: &str, value: &str) -> Fields {
    all.push((name.to_owned(), value.to_owned()));
    all
}

fn without(all: Fields, name: &str) -> Fields {
    all.into_iter().filter(|(n, _)| n != name).collect()
}

fn first(name: &str, value: &str, all: Fields) -> Fields {
    [fields(&[(name, value)]), all].concat()
}

fn headers(flags: u8, stream: u32, all: &Fields) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(all))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn send(parts: &[Vec<u8>]) -> Vec<Step> {
    vec![Step::Send(parts.concat())]
}

/// A request that is answered before the rest is sent.
fn after_answer(parts: &[Vec<u8>]) -> Vec<Step> {
    vec![
        Step::Send(headers(WHOLE, 1, &get())),
        Step::Answered(1),
        Step::Send(parts.concat()),
    ]
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &'static str, steps: Vec<Step>, want: Want) {
        self.set(name, Vec::new(), steps, want);
    }

    fn set(&mut self, name: &'static str, settings: Vec<u8>, steps: Vec<Step>, want: Want) {
        self.0.push(Case {
            name,
            settings,
            steps,
            want,
        });
    }

    fn connection(&mut self, name: &'static str, parts: &[Vec<u8>], codes: &[u32]) {
        self.add(name, send(parts), Want::Connection(codes.into()));
    }

    /// Of the stream 1.
    fn stream(&mut self, name: &'static str, parts: &[Vec<u8>], codes: &[u32]) {
        self.add(name, send(parts), Want::Stream(1, codes.into()));
    }

    fn answer(&mut self, name: &'static str, parts: &[Vec<u8>]) {
        self.add(name, send(parts), Want::Answer(1));
    }

    fn ack(&mut self, name: &'static str, parts: &[Vec<u8>]) {
        self.add(name, send(parts), Want::Ack);
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Cases(Vec::new());
    generic::cases(&mut all);
    frames::frames(&mut all);
    frames::streams(&mut all);
    settings::definitions(&mut all);
    settings::settings_and_windows(&mut all);
    exchanges::exchanges(&mut all);
    exchanges::hpack(&mut all);
    all.0
}
