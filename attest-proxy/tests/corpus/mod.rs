//! Requests as hostile and as odd as they come, as data: what is sent, what is answered, and whether the connection ends there.
//!
//! The classes are those of the published suites (PortSwigger's HTTP Request Smuggler permutations, defparam's smuggler, "Funky chunks",
//! http-garden's and h1spec's corners, RFC 9112's own "MUST" of message framing), written down anew for this proxy. Http11Probe, which
//! gives verdicts of its own, is in `probe`. In a template `{K}` is the line with a good key, `{P}` the
//! key, `{B}` a good body, `{L}` its length, `{X}` its length in hexadecimal; every other character is one byte (Latin-1).

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each test binary uses its own part"
)]

pub mod chunks;
pub mod conforming;
pub mod downgrade;
pub mod fields;
pub mod framing;
pub mod h2spec;
pub mod lines;
pub mod mutations;
pub mod probe;
pub mod targets;

use super::common::{CHAT, forge::psk_text};

/// What comes behind a case on the same connection: a request of its own, which must be answered as such or not at all.
pub const FOLLOWER: &str = "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}";

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// 400 (or no word at all), and the connection is closed: whatever follows is not read as a request.
    Closed,
    /// This status, and the connection is closed.
    ClosedWith(u16),
    /// This status; the connection stays in step, and the request behind it is answered by itself.
    InStep(u16),
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub end: End,
}

impl Case {
    pub fn new(name: impl Into<String>, template: &str, end: End) -> Self {
        Self {
            name: name.into(),
            bytes: fill(template),
            end,
        }
    }

    /// `POST /api/chat` with these field lines beside `Host` and the key, and what follows the head.
    pub fn post(fields: &str, body: &str, end: End) -> Self {
        let template = format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{{K}}{fields}\r\n\r\n{body}");
        Self::new(format!("POST, {fields:.60?}, {body:.30?}"), &template, end)
    }

    /// `GET /api/version` with these field lines beside `Host` and the key.
    pub fn get(fields: &str, end: End) -> Self {
        let template = format!("GET /api/version HTTP/1.1\r\nHost: a\r\n{{K}}{fields}\r\n\r\n");
        Self::new(format!("GET, {fields:.80?}"), &template, end)
    }

    /// A request line, `Host` and the key.
    pub fn line(line: &str, end: End) -> Self {
        Self::new(
            format!("{line:.80?}"),
            &format!("{line}\r\nHost: a\r\n{{K}}\r\n"),
            end,
        )
    }
}

/// Every malformed case.
pub fn malformed() -> Vec<Case> {
    [
        framing::cases(),
        lines::cases(),
        targets::cases(),
        fields::cases(),
        chunks::cases(),
    ]
    .concat()
}

/// A template's bytes.
pub fn fill(template: &str) -> Vec<u8> {
    template
        .replace("{K}", &format!("X-Pre-Shared-Key: {}\r\n", psk_text("plain")))
        .replace("{P}", &psk_text("plain"))
        .replace("{L}", &CHAT.len().to_string())
        .replace("{X}", &format!("{:x}", CHAT.len()))
        .replace("{B}", CHAT)
        .chars()
        .map(|c| u8::try_from(u32::from(c)).expect("a character of one byte"))
        .collect()
}
