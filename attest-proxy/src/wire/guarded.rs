//! A client's connection with its framing watched and its time kept.
//!
//! Owns: [`Guarded`], which shows every byte that was read to the vet, and [`Conn`], what the rest of the program knows
//! of the connection: whether its framing is broken, and since when it waits for what.
//! A client that is refused while it still sends is listened to for a moment after the answer, so that it can read it.
//! Nothing is held back from hyper: a broken request becomes a refusal in the service, with an answer. One coarse
//! timer per connection looks at [`Conn`]; no timer is set per request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::vet::{Phase, Vet, Violation};
use crate::config::Limits;

/// A connection's state, shared between its bytes, its requests and its timer.
#[derive(Debug)]
pub struct Conn {
    opened: Instant,
    violation: OnceLock<Violation>,
    phase: AtomicU8,
    /// Milliseconds after `opened` at which the phase began.
    since: AtomicU64,
    /// Milliseconds after `opened`, plus one, since which the client takes nothing; 0: it does.
    stalled: AtomicU64,
    /// Milliseconds after `opened`, plus one, since which we read only to be heard out; 0: we do not.
    lingering: AtomicU64,
    /// Requests that are being answered.
    busy: AtomicU32,
}

/// A request that is being answered: the connection is not idle while this lives.
#[derive(Debug)]
pub struct Busy(Arc<Conn>);

impl Conn {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            violation: OnceLock::new(),
            phase: AtomicU8::new(0),
            since: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            lingering: AtomicU64::new(0),
            busy: AtomicU32::new(0),
        })
    }

    /// What was wrong with the framing, if anything.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// Marks the connection as busy until the guard is dropped.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Which deadline is over, if one is.
    #[must_use]
    pub fn overdue(&self, limits: &Limits) -> Option<&'static str> {
        let now = self.elapsed();
        let longer = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let stalled = self.stalled.load(Ordering::Relaxed);
        if stalled > 0 && longer(stalled.saturating_sub(1), limits.write_stall) {
            return Some("the client takes no bytes");
        }
        let lingering = self.lingering.load(Ordering::Relaxed);
        if lingering > 0 {
            return longer(lingering.saturating_sub(1), LINGER).then_some("the client goes on sending");
        }
        // While an answer is on its way, the client owes us nothing but to take it.
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let since = self.since.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            HEAD if longer(since, limits.header_timeout) => Some("the head did not come in time"),
            IDLE if longer(since, limits.idle_timeout) => Some("idle"),
            // A body has its own deadline, in the service that reads it.
            _ => None,
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: u8) {
        // The deadline counts from the phase's first byte, not from its last.
        if self.phase.swap(phase, Ordering::Relaxed) != phase {
            self.since.store(self.elapsed(), Ordering::Relaxed);
        }
    }

    fn writes(&self, pending: bool) {
        if !pending {
            if self.stalled.load(Ordering::Relaxed) != 0 {
                self.stalled.store(0, Ordering::Relaxed);
            }
        } else if self.stalled.load(Ordering::Relaxed) == 0 {
            self.stalled
                .store(self.elapsed().saturating_add(1), Ordering::Relaxed);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.since.store(self.0.elapsed(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a client that was refused in the middle of sending is listened to, and to how many bytes. Closed at once,
/// its system would throw away the answer that it has not read yet.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 32 << 20;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BODY: u8 = 2;

/// A stream whose reads are vetted and whose writes are timed.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    vet: Vet,
    conn: Arc<Conn>,
    shut: bool,
    thrown_away: usize,
}

impl<S> Guarded<S> {
    /// Watches `stream` on behalf of `conn`.
    pub fn new(stream: S, conn: Arc<Conn>) -> Self {
        Self {
            stream,
            vet: Vet::new(),
            conn,
            shut: false,
            thrown_away: 0,
        }
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.conn.violation.get().is_some() || bytes.is_empty() {
            return;
        }
        if let Err(violation) = self.vet.feed(bytes) {
            let _ = self.conn.violation.set(violation);
        }
        self.conn.enter(match self.vet.phase() {
            Phase::Idle => IDLE,
            Phase::Head => HEAD,
            Phase::Body => BODY,
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..) {
            this.look(new);
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.conn.writes(result.is_pending());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.conn.writes(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.conn.writes(result.is_pending());
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.shut = true;
            if this.vet.phase() == Phase::Idle && this.conn.violation().is_none() {
                return Poll::Ready(Ok(()));
            }
            this.conn
                .lingering
                .store(this.conn.elapsed().saturating_add(1), Ordering::Relaxed);
        }
        let mut room = [0; 8 << 10];
        while this.thrown_away < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    this.thrown_away = this.thrown_away.saturating_add(buf.filled().len());
                }
                // It has heard us out, or is gone.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
