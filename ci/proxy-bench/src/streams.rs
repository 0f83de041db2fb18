//! What a proxy adds to a stream: to the first line, and between two lines.
//!
//! Owns: the measuring by the time that stands in each line. All programs of a machine share one clock, so how long the backend itself
//! took is in no figure.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
};

use memchr::memmem;
use serde::Serialize;

use crate::{
    backend::{LINES, monotonic},
    message,
};

/// Streams at once.
const AT_ONCE: usize = 8;

/// In microseconds, 99th percentiles.
#[derive(Debug, Serialize)]
pub(crate) struct Streams {
    /// The request's way to the backend and the first line's way back.
    pub(crate) first_us: f64,
    /// By how much two lines came further apart than they were sent.
    pub(crate) gap_us: f64,
}

/// Some streams at once, each `times` times.
pub(crate) fn measure(address: SocketAddr, request: &[u8], times: usize) -> Streams {
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let request = request.to_vec();
            thread::spawn(move || one(address, &request, times))
        })
        .collect();
    let (mut first, mut gaps) = (Vec::new(), Vec::new());
    for thread in threads {
        let (f, g) = thread.join().unwrap();
        first.extend(f);
        gaps.extend(g);
    }
    Streams {
        first_us: p99(&mut first),
        gap_us: p99(&mut gaps),
    }
}

fn one(address: SocketAddr, request: &[u8], times: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut first, mut gaps) = (Vec::new(), Vec::new());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for nth in 0..=times {
        let asked = monotonic();
        stream.write_all(request).unwrap();
        let lines = lines(&mut stream);
        assert_eq!(lines.len(), LINES, "lines came together or not at all");
        // The first stream opens the connection to the backend: that is not what a chat waits for.
        if nth == 0 {
            continue;
        }
        first.push(micros(lines[0].received, asked) + micros(lines[0].arrived, lines[0].sent));
        for pair in lines.windows(2) {
            gaps.push(micros(pair[1].arrived, pair[0].arrived) - micros(pair[1].sent, pair[0].sent));
        }
    }
    (first, gaps)
}

struct Line {
    received: u64,
    sent: u64,
    arrived: u64,
}

fn lines(stream: &mut TcpStream) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut all, mut seen) = (Vec::new(), 0);
    let mut room = [0; 16 << 10];
    loop {
        let n = stream.read(&mut room).unwrap();
        let arrived = monotonic();
        assert!(n > 0, "the stream broke off");
        all.extend_from_slice(&room[..n]);
        while let Some(end) = memmem::find(&all[seen..], b"}\n") {
            let line = &all[seen..seen + end];
            lines.push(Line {
                received: number(line, b"\"received\":"),
                sent: number(line, b"\"sent\":"),
                arrived,
            });
            seen += end + 2;
        }
        if message::whole(&all).is_some() {
            return lines;
        }
    }
}

fn number(line: &[u8], name: &[u8]) -> u64 {
    let at = memmem::find(line, name).expect("the backend's line") + name.len();
    line[at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "differences of seconds in nanoseconds are far below 2^52"
)]
fn micros(later: u64, earlier: u64) -> f64 {
    later.saturating_sub(earlier) as f64 / 1000.0
}

fn p99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 99 / 100]
}
