//! What a stranger may use of this machine.
//!
//! Owns: every bound, its default, and what a sensible range is.

use std::time::Duration;

use serde::Deserialize;

use super::units::{Size, duration};

/// Bounds on what clients and the upstream may take. Durations are wall-clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; more are answered 503 and closed.
    pub connections: usize,
    /// Open client connections of one address (IPv6: of one /64); more are answered 503. Peers that speak for others
    /// (`trusted-peers`) are not counted.
    pub connections_per_peer: usize,
    /// TLS handshakes at one time; more wait, within `handshake_timeout`.
    pub handshakes: usize,
    /// Answers that may run at one time on a server that has no `max-streams` of its own; more wait in the queue.
    pub streams: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being received or judged, the copy that goes upstream included; more are answered 503.
    pub body_memory: usize,
    /// Streams of one HTTP/2 connection at one time.
    pub http2_streams: u32,
    /// How long a PROXY header, and then a TLS handshake, may take.
    pub handshake_timeout: Duration,
    /// From a connection's first byte of a head to its last.
    pub header_timeout: Duration,
    /// From a request's head to the last byte of its body.
    pub body_timeout: Duration,
    /// How long a body may come slower than `body_rate`.
    pub body_grace: Duration,
    /// Bytes of a body per second, at least, on the average since its head.
    pub body_rate: usize,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How old a connection grows; then it takes no new request, and ends with the last answer.
    pub connection_age: Duration,
    /// How long a client may take no byte of an answer that waits for it.
    pub write_stall: Duration,
    /// How long connecting to the upstream may take.
    pub connect_timeout: Duration,
    /// From the last byte of a request to the upstream's first. Loading a model counts.
    pub first_byte_timeout: Duration,
    /// Between two chunks of an upstream's answer.
    pub chunk_timeout: Duration,
    /// Idle connections kept to the upstream.
    pub upstream_idle: usize,
    /// How long SIGTERM waits for streams to end.
    pub drain: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawLimits {
    connections: u32,
    connections_per_peer: u32,
    handshakes: u32,
    streams: u32,
    header_bytes: Size,
    header_count: u16,
    body_bytes: Size,
    body_memory: Size,
    http2_streams: u16,
    #[serde(deserialize_with = "duration")]
    handshake_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    header_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    body_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    body_grace: Duration,
    body_rate: Size,
    #[serde(deserialize_with = "duration")]
    idle_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    connection_age: Duration,
    #[serde(deserialize_with = "duration")]
    write_stall: Duration,
    #[serde(deserialize_with = "duration")]
    connect_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    first_byte_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    chunk_timeout: Duration,
    upstream_idle: u16,
    #[serde(deserialize_with = "duration")]
    drain: Duration,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: 256,
            handshakes: 256,
            streams: 1024,
            header_bytes: Size(16 << 10),
            header_count: 64,
            body_bytes: Size(8 << 20),
            body_memory: Size(256 << 20),
            http2_streams: 64,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            body_rate: Size(1 << 10),
            idle_timeout: Duration::from_secs(75),
            connection_age: Duration::from_secs(3600),
            write_stall: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(300),
            chunk_timeout: Duration::from_secs(120),
            upstream_idle: 64,
            drain: Duration::from_secs(30),
        }
    }
}

impl RawLimits {
    /// The valid form, or the sentence that says what is out of range.
    pub(super) fn check(self) -> Result<Limits, &'static str> {
        if self.connections == 0 || self.streams == 0 {
            return Err("`connections` and `streams` are at least 1");
        }
        if self.connections_per_peer == 0 || self.handshakes == 0 {
            return Err("`connections-per-peer` and `handshakes` are at least 1");
        }
        // hyper's own buffer has 8 KiB at least.
        if !((8 << 10)..=(1 << 20)).contains(&self.header_bytes.0) {
            return Err("`header-bytes` is 8KiB to 1MiB");
        }
        // 100 is what hyper keeps without a heap; our own headers need 9.
        if !(16..=100).contains(&self.header_count) {
            return Err("`header-count` is 16 to 100");
        }
        if !((4 << 10)..=(1 << 30)).contains(&self.body_bytes.0) {
            return Err("`body-bytes` is 4KiB to 1GiB");
        }
        // A body counts twice: as it came, and as it goes upstream.
        if self.body_memory.0 / 2 < self.body_bytes.0 {
            return Err("`body-memory` is at least twice `body-bytes`");
        }
        if !(1..=1000).contains(&self.http2_streams) {
            return Err("`http2-streams` is 1 to 1000");
        }
        Ok(Limits {
            connections: usize::try_from(self.connections).map_err(|_| "`connections` is too large")?,
            connections_per_peer: usize::try_from(self.connections_per_peer)
                .map_err(|_| "`connections-per-peer` is too large")?,
            handshakes: usize::try_from(self.handshakes).map_err(|_| "`handshakes` is too large")?,
            streams: usize::try_from(self.streams).map_err(|_| "`streams` is too large")?,
            header_bytes: self.header_bytes.0,
            header_count: self.header_count.into(),
            body_bytes: self.body_bytes.0,
            body_memory: self.body_memory.0,
            http2_streams: self.http2_streams.into(),
            handshake_timeout: self.handshake_timeout,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            body_grace: self.body_grace,
            body_rate: self.body_rate.0,
            idle_timeout: self.idle_timeout,
            connection_age: self.connection_age,
            write_stall: self.write_stall,
            connect_timeout: self.connect_timeout,
            first_byte_timeout: self.first_byte_timeout,
            chunk_timeout: self.chunk_timeout,
            upstream_idle: self.upstream_idle.into(),
            drain: self.drain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        assert!(RawLimits::default().check().is_ok());
    }

    #[test]
    fn out_of_range_is_named() {
        type Edit = fn(&mut RawLimits);
        let edits: [(&str, Edit); 9] = [
            ("connections", |l| l.connections = 0),
            ("streams", |l| l.streams = 0),
            ("connections-per-peer", |l| l.connections_per_peer = 0),
            ("handshakes", |l| l.handshakes = 0),
            ("header-bytes", |l| l.header_bytes = Size(100)),
            ("header-count", |l| l.header_count = 101),
            ("body-bytes", |l| l.body_bytes = Size(1)),
            ("body-memory", |l| l.body_memory = Size(8 << 20)),
            ("http2-streams", |l| l.http2_streams = 0),
        ];
        for (name, edit) in edits {
            let mut raw = RawLimits::default();
            edit(&mut raw);
            assert!(raw.check().unwrap_err().contains(name), "{name}");
        }
    }
}
