//! Ollama as it is on a bad day, and a witness: it is well, slow, hangs, talks garbage or is not there, as it is told, and whatever
//! reaches it that must not is written down. It keeps nothing else, so that it can run for hours.
//!
//! Every prompt of the load says whether it may come here: `good <number>` or `evil`. The answer to a good one repeats its number, so
//! that a client knows it for its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Well,
    Slow,
    Hung,
    Garbage,
    Dead,
}

/// How many pieces a streamed answer has.
pub const PIECES: usize = 5;

/// What it counted, and saw that it must not see.
#[derive(Debug, Default)]
pub struct Witness {
    pub good: AtomicU64,
    pub left: AtomicU64,
    pub saw: Mutex<Vec<String>>,
}

impl Witness {
    fn accuse(&self, what: String) {
        let mut saw = self.saw.lock().unwrap();
        if saw.len() < 20 {
            saw.push(what);
        }
    }
}

/// Starts one; it listens as long as the runtime lives.
pub async fn start(health: watch::Receiver<Health>, witness: Arc<Witness>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(live(listener, address, health, witness));
    address
}

async fn live(
    listener: TcpListener,
    address: SocketAddr,
    mut health: watch::Receiver<Health>,
    witness: Arc<Witness>,
) {
    let mut listener = Some(listener);
    loop {
        if *health.borrow_and_update() == Health::Dead {
            listener = None;
            if health.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = listener.get_or_insert_with(|| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            socket.listen(1024).unwrap()
        });
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                let (mut health, witness) = (health.clone(), Arc::clone(&witness));
                tokio::spawn(async move {
                    let mut dying = health.clone();
                    tokio::select! {
                        () = serve(stream, &mut health, &witness) => {}
                        _ = dying.wait_for(|health| *health == Health::Dead) => {}
                    }
                });
            }
        }
    }
}

/// A request: its head as text, and its body.
struct Request {
    head: String,
    body: String,
}

async fn read(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<Request> {
    let mut room = [0; 8192];
    loop {
        if let Some(end) = ahead.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&ahead[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if ahead.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&ahead[end + 4..end + 4 + length]).into_owned();
                ahead.drain(..end + 4 + length);
                return Some(Request { head, body });
            }
        }
        match stream.read(&mut room).await {
            Ok(n) if n > 0 => ahead.extend_from_slice(&room[..n]),
            _ => return None,
        }
    }
}

async fn serve(mut stream: TcpStream, health: &mut watch::Receiver<Health>, witness: &Witness) {
    let _ = stream.set_nodelay(true);
    let mut ahead = Vec::new();
    while let Some(request) = read(&mut stream, &mut ahead).await {
        look(&request, witness);
        let now = *health.borrow();
        let alive = match now {
            Health::Dead => false,
            Health::Hung => {
                let mut byte = [0];
                tokio::select! {
                    _ = health.wait_for(|health| *health != Health::Hung) => {}
                    _ = stream.read(&mut byte) => {}
                }
                false
            }
            Health::Garbage => {
                garbage(&mut stream, witness.good.load(Ordering::Relaxed)).await;
                false
            }
            Health::Well | Health::Slow => {
                let pause = Duration::from_millis(if now == Health::Slow { 150 } else { 15 });
                answer(&mut stream, &request, pause, witness).await
            }
        };
        if !alive {
            return;
        }
    }
}

/// Whatever should have been refused or taken off is told.
fn look(request: &Request, witness: &Witness) {
    let line = request.head.lines().next().unwrap_or_default();
    let known = [
        "post /api/chat http/1.1",
        "get /api/version http/1.1",
        "get /api/tags http/1.1",
        "get /api/ps http/1.1",
    ];
    if !known.contains(&line) {
        witness.accuse(format!("{line:?} came through"));
    }
    for name in [
        "x-pre-shared-key",
        "authorization",
        "tpm-quote",
        "attestation-session",
        "signature",
        "transfer-encoding",
    ] {
        if request
            .head
            .lines()
            .any(|l| l.split(':').next().unwrap().starts_with(name))
        {
            witness.accuse(format!("{name} came through: {line}"));
        }
    }
    if request.body.contains("evil") {
        witness.accuse(format!("what was to be refused came through: {}", request.body));
    }
    if line.starts_with("post") {
        if number(&request.body).is_none() {
            witness.accuse(format!("a prompt that nobody sent: {}", request.body));
        }
        witness.good.fetch_add(1, Ordering::Relaxed);
    }
}

/// The number of a good prompt.
fn number(body: &str) -> Option<u64> {
    let (_, rest) = body.split_once("good ")?;
    rest.split('"').next()?.parse().ok()
}

async fn garbage(stream: &mut TcpStream, nth: u64) {
    let said: &[u8] = match nth % 5 {
        0 => b"\0\xffgarbage\r\n\r\n",
        1 => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        2 => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        3 => b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        _ => b"HTTP/1.1 999 \r\n\r\n",
    };
    let _ = stream.write_all(said).await;
    let _ = stream.shutdown().await;
}

async fn answer(stream: &mut TcpStream, request: &Request, pause: Duration, witness: &Witness) -> bool {
    if request.head.starts_with("get") {
        let body = if request.head.starts_with("get /api/version") {
            "{\"version\":\"0.17.1\"}"
        } else {
            "{\"models\":[{\"name\":\"smollm2:135m\",\"model\":\"smollm2:135m\"}]}"
        };
        return stream.write_all(plain(body).as_bytes()).await.is_ok();
    }
    let number = number(&request.body).unwrap_or(0);
    if request.body.contains("\"stream\":false") {
        sleep(pause).await;
        let body = format!(
            "{{\"message\":{{\"content\":\"echo {number}\"}},\"done\":true,\"prompt_eval_count\":1,\"eval_count\":1}}"
        );
        return stream.write_all(plain(&body).as_bytes()).await.is_ok();
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
    for nth in 0..PIECES {
        let last = nth + 1 == PIECES;
        let piece = format!("{{\"message\":{{\"content\":\"echo {number}\"}},\"done\":{last}}}\n");
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        alive = alive && stream.write_all(chunk.as_bytes()).await.is_ok();
        let mut byte = [0];
        tokio::select! {
            () = sleep(pause) => {}
            // A proxy whose client left, leaves.
            _ = stream.read(&mut byte) => alive = false,
        }
        if !alive {
            witness.left.fetch_add(1, Ordering::Relaxed);
            return false;
        }
    }
    stream.write_all(b"0\r\n\r\n").await.is_ok()
}

fn plain(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
