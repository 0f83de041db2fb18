//! A scripted HTTP/1.1 server: records every byte of every request that reached it, answers what the test says.
//!
//! Owns: a listener on loopback and its thread. It reads requests as literally as it can (no library stands between the
//! wire and the record), so that a test can assert what a proxy let through: head verbatim, header names in their own
//! case, repeated fields, body as sent and as decoded.
//! Limits: HTTP/1.1 with keep-alive, Content-Length and chunked; no TLS, no trailers in answers.

mod reply;
mod request;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
};

pub use reply::{Gate, Reply, Step};
pub use request::Received;
use request::Wire;

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

/// A running upstream; it ends with its value.
pub struct Upstream {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    received: Vec<Received>,
    connections: usize,
    abandoned: usize,
}

impl Upstream {
    /// Starts a server that answers each request by `script`, on its own thread: usable from async and plain tests.
    ///
    /// # Panics
    /// No port on loopback.
    pub fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let address = listener.local_addr().expect("the listener's address");
        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&log);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(&listener, &shared, Arc::new(script)) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            log,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Starts a server that answers everything with one JSON object.
    #[must_use]
    pub fn json(body: &'static str) -> Self {
        Self::start(move |_| Reply::json(200, body))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request whose head reached it, in order, with as much of the body as has come.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.log).received.clone()
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.log).connections
    }

    /// How many answers were cut off because the client went away: what a Stop button must cause.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        lock(&self.log).abandoned
    }

    /// Waits until `condition` holds, for at most ten seconds.
    ///
    /// # Panics
    /// It never does.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < deadline, "upstream: waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: &TcpListener, log: &Arc<Mutex<Log>>, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        lock(log).connections += 1;
        let _ = stream.set_nodelay(true);
        let (log, script) = (Arc::clone(log), Arc::clone(&script));
        tokio::spawn(async move { serve(stream, &log, &script).await });
    }
}

/// One connection: request after request, until either side closes.
async fn serve(stream: TcpStream, log: &Mutex<Log>, script: &Arc<Script>) {
    let (read, mut write) = stream.into_split();
    let mut wire = Wire::new(read);
    while let Some(head) = wire.head().await {
        let nth = {
            let mut log = lock(log);
            log.received.push(head.clone());
            log.received.len() - 1
        };
        let complete = wire.body(&head, |received| {
            let mut log = lock(log);
            let entry = &mut log.received[nth];
            entry.raw_body.extend_from_slice(received.raw);
            entry.body.extend_from_slice(received.decoded);
        });
        let complete = complete.await;
        lock(log).received[nth].body_complete = complete;
        if !complete {
            return;
        }
        let request = lock(log).received[nth].clone();
        let reply = script(&request);
        if !answer(&reply, &mut wire, &mut write, log).await {
            return;
        }
    }
}

/// Sends a reply; `false` when the connection is over. While it pauses it watches whether the client went away.
async fn answer(
    reply: &Reply,
    wire: &mut Wire<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    log: &Mutex<Log>,
) -> bool {
    for step in reply.steps() {
        let sent = match step {
            Step::Bytes(bytes) => write.write_all(&bytes).await.is_ok(),
            Step::Pause(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => true,
                    () = wire.gone() => false,
                }
            }
            Step::Wait(gate) => {
                tokio::select! {
                    () = gate.passed() => true,
                    () = wire.gone() => false,
                }
            }
            Step::Close => return false,
            Step::Reset => {
                let _ = write.as_ref().set_zero_linger();
                return false;
            }
        };
        if !sent {
            lock(log).abandoned += 1;
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
