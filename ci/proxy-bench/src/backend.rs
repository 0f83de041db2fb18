//! The model server of a benchmark: no model, no library, one fixed answer.
//!
//! Owns: two listeners in threads of this process. One answers every request at once with the same object; the other one streams
//! lines of NDJSON with pauses, each line with the time at which it was written.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    thread,
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use rustix::time::{ClockId, clock_gettime};

use crate::message;

/// What a chat without streaming is answered.
pub(crate) const ANSWER: &str = r#"{"model":"smollm2:135m","created_at":"2026-11-22T19:00:00.000000000Z","message":{"role":"assistant","content":"The next train to Winterthur leaves from platform 7 at 14:32. Go down the stairs behind you, turn left after the bakery, and take the second escalator up. The journey takes twenty-three minutes; a restaurant car is at the front of the train."},"done_reason":"stop","done":true,"total_duration":812345678,"load_duration":1234567,"prompt_eval_count":214,"prompt_eval_duration":101234567,"eval_count":57,"eval_duration":701234567}"#;
const TAGS: &str =
    r#"{"models":[{"name":"smollm2:135m","model":"smollm2:135m","size":1,"digest":"00","details":{}}]}"#;

/// Lines of a streamed answer.
pub(crate) const LINES: usize = 100;
/// Before the first line, and between two.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// Starts the one that answers at once.
pub(crate) fn fixed() -> SocketAddr {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        registry
            .register(&mut listener, Token(0), Interest::READABLE)
            .unwrap();
        let mut connections: Vec<Option<Connection>> = Vec::new();
        let mut events = Events::with_capacity(256);
        loop {
            wait(&mut poll, &mut events, None);
            for event in &events {
                let Some(at) = event.token().0.checked_sub(1) else {
                    accept(&listener, &registry, &mut connections);
                    continue;
                };
                if connections[at].as_mut().is_some_and(|c| !c.serve()) {
                    connections[at] = None;
                }
            }
        }
    });
    address
}

/// Waits for events; a signal ends no measurement.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, most: Option<Duration>) {
    while let Err(error) = poll.poll(events, most) {
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    }
}

fn accept(listener: &TcpListener, registry: &mio::Registry, connections: &mut Vec<Option<Connection>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nodelay(true).unwrap();
        let at = connections
            .iter()
            .position(Option::is_none)
            .unwrap_or(connections.len());
        registry
            .register(&mut stream, Token(at + 1), Interest::READABLE)
            .unwrap();
        let connection = Some(Connection {
            stream,
            ahead: Vec::with_capacity(16 << 10),
        });
        if at == connections.len() {
            connections.push(connection);
        } else {
            connections[at] = connection;
        }
    }
}

struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    /// Answers what is there; false at the end.
    fn serve(&mut self) -> bool {
        let mut room = [0; 16 << 10];
        loop {
            let n = match self.stream.read(&mut room) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            self.ahead.extend_from_slice(&room[..n]);
            if let Some(whole) = message::whole(&self.ahead) {
                let (status, body) = answer(&self.ahead);
                self.ahead.drain(..whole.len);
                // An answer of half a kilobyte finds room in a socket whose last one was read.
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if self.stream.write_all(answer.as_bytes()).is_err() {
                    return false;
                }
            }
            // A read that did not fill the room has emptied the socket: asking again would cost a system call.
            if n < room.len() {
                return true;
            }
        }
    }
}

/// A chat's answer; and what ollamaMQ asks a server before it believes that it is an Ollama.
fn answer(request: &[u8]) -> (&'static str, &'static str) {
    if request.starts_with(b"POST ") {
        ("200 OK", ANSWER)
    } else if request.starts_with(b"GET /api/tags ") || request.starts_with(b"GET /api/ps ") {
        ("200 OK", TAGS)
    } else {
        ("404 Not Found", "{}")
    }
}

/// Starts the one that streams, a thread for each connection.
pub(crate) fn streaming() -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || drop(stream_out(stream)));
        }
    });
    address
}

fn stream_out(mut stream: StdStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut ahead = Vec::new();
    let mut room = [0; 16 << 10];
    loop {
        while message::whole(&ahead).is_none() {
            let n = stream.read(&mut room)?;
            if n == 0 {
                return Ok(());
            }
            ahead.extend_from_slice(&room[..n]);
        }
        ahead.clear();
        let received = monotonic();
        let mut next = Instant::now();
        for nth in 1..=LINES {
            next += PAUSE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let done = nth == LINES;
            let line = format!(
                "{{\"model\":\"smollm2:135m\",\"message\":{{\"role\":\"assistant\",\"content\":\" platform\"}},\"received\":{received},\"sent\":{},\"done\":{done}}}\n",
                monotonic()
            );
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
            let text = format!(
                "{}{:x}\r\n{line}\r\n{}",
                if nth == 1 { head } else { "" },
                line.len(),
                if done { "0\r\n\r\n" } else { "" }
            );
            stream.write_all(text.as_bytes())?;
        }
    }
}

/// Nanoseconds of the clock that all programs of a machine share.
pub(crate) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
