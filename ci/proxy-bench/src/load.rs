//! The load: so many connections, each with one request in flight, for so long.
//!
//! Owns: one thread, one poll, no library in between, so that it costs less than what it measures. Requests are bytes that were made
//! before; the time of each is kept. Every answer must be the backend's.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{backend::ANSWER, message};

/// What a connection sends.
#[derive(Clone)]
pub(crate) enum Requests {
    /// The same again and again.
    Same(Vec<u8>),
    /// Each once. A turn ends when one connection has none left.
    Once(std::sync::Arc<[Vec<u8>]>),
}

impl Requests {
    fn get(&self, nth: usize) -> Option<&[u8]> {
        match self {
            Self::Same(bytes) => Some(bytes),
            Self::Once(all) => all.get(nth).map(Vec::as_slice),
        }
    }
}

/// What a turn came to.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Answers.
    pub(crate) answers: usize,
    /// The time that they took.
    pub(crate) seconds: f64,
    /// Processor time of the proxy meanwhile, in nanoseconds.
    pub(crate) cpu: u64,
    /// Of each answer, in nanoseconds, sorted.
    pub(crate) times: Vec<u64>,
}

impl Turn {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.answers) / self.seconds
    }

    /// Processor time of one answer, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        count(usize::try_from(self.cpu).unwrap()) / count(self.answers) / 1000.0
    }

    /// In microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.times.len() * percent / 100).min(self.times.len() - 1);
        count(usize::try_from(self.times[at]).unwrap()) / 1000.0
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

struct Connection {
    stream: TcpStream,
    requests: Requests,
    nth: usize,
    ahead: Vec<u8>,
    sent: Instant,
}

/// Sends for `warm` without counting, then for `time`. `cpu` tells the proxy's processor time so far.
pub(crate) fn run(
    name: &str,
    address: SocketAddr,
    lanes: Vec<Requests>,
    (warm, time): (Duration, Duration),
    cpu: impl Fn() -> u64,
) -> Turn {
    let mut poll = Poll::new().unwrap();
    let mut connections: Vec<Connection> = lanes
        .into_iter()
        .enumerate()
        .map(|(at, requests)| {
            let stream = std::net::TcpStream::connect(address).expect("the proxy listens");
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(at), Interest::READABLE)
                .unwrap();
            Connection {
                stream,
                requests,
                nth: 0,
                ahead: Vec::with_capacity(4 << 10),
                sent: Instant::now(),
            }
        })
        .collect();
    for connection in &mut connections {
        assert!(connection.send());
    }
    let mut turn = Turn::default();
    let mut events = Events::with_capacity(256);
    let mut begun = Instant::now();
    let mut before = 0;
    let mut counting = false;
    'turn: loop {
        crate::backend::wait(&mut poll, &mut events, Some(Duration::from_secs(10)));
        assert!(!events.is_empty(), "{name} says nothing");
        for event in &events {
            let connection = &mut connections[event.token().0];
            if connection.receive(name) {
                let now = Instant::now();
                if counting {
                    turn.answers += 1;
                    let took = now.duration_since(connection.sent).as_nanos();
                    turn.times.push(u64::try_from(took).unwrap());
                }
                if !connection.send() {
                    assert!(counting, "{name}: too few requests were prepared");
                    break 'turn;
                }
            }
        }
        let running = begun.elapsed();
        if counting && running >= time {
            break;
        }
        if !counting && running >= warm {
            (counting, before, begun) = (true, cpu(), Instant::now());
        }
    }
    turn.seconds = begun.elapsed().as_secs_f64();
    turn.cpu = cpu() - before;
    turn.times.sort_unstable();
    turn
}

impl Connection {
    /// Sends the next request; false when there is none.
    fn send(&mut self) -> bool {
        let Some(bytes) = self.requests.get(self.nth) else {
            return false;
        };
        self.nth += 1;
        self.sent = Instant::now();
        // A request of some kilobytes finds room in a socket whose last one was answered.
        self.stream.write_all(bytes).expect("the proxy reads");
        true
    }

    /// Whether the answer is all there.
    fn receive(&mut self, name: &str) -> bool {
        let mut room = [0; 16 << 10];
        loop {
            let n = match self.stream.read(&mut room) {
                Ok(0) => panic!("{name} closed a connection after {} requests", self.nth),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(e) => panic!("{name}: {e}"),
            };
            self.ahead.extend_from_slice(&room[..n]);
            if let Some(whole) = message::whole(&self.ahead) {
                let (head, body) = self.ahead[..whole.len].split_at(whole.head);
                assert!(
                    head.starts_with(b"HTTP/1.1 200") && (body == ANSWER.as_bytes() || is_chunked(body)),
                    "{name} answered: {}",
                    String::from_utf8_lossy(&self.ahead)
                );
                self.ahead.clear();
                return true;
            }
            if n < room.len() {
                return false;
            }
        }
    }
}

fn is_chunked(body: &[u8]) -> bool {
    memchr::memmem::find(body, ANSWER.as_bytes()).is_some()
}
