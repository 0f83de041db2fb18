//! A client's bytes of HTTP/1 with their framing watched and their writes timed.
//!
//! Owns: [`Guarded`], which shows every byte that was read to the vet, and tells [`Conn`] where the bytes are.
//! A client that is refused while it still sends is listened to for a moment after the answer, so that it can read it.
//! Nothing is held back from hyper: a broken request becomes a refusal in the service, with an answer.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{At, Conn},
    vet::{Phase, Vet},
};

/// How many bytes a client that was refused may go on sending.
const LINGER_BYTES: usize = 32 << 20;
/// How many bytes a connection that waits is woken with: those of HTTP/2's preface, so that it is read and nothing of
/// what follows it.
const WAKE: usize = 24;

/// A stream whose reads are vetted and whose writes are timed.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    vet: Vet,
    conn: Arc<Conn>,
    /// What was read and looked at before somebody wanted it.
    ahead: Bytes,
    shut: bool,
    thrown_away: usize,
}

impl<S> Guarded<S> {
    /// Watches `stream` on behalf of `conn`.
    pub const fn new(stream: S, conn: Arc<Conn>) -> Self {
        Self {
            stream,
            vet: Vet::new(),
            conn,
            ahead: Bytes::new(),
            shut: false,
            thrown_away: 0,
        }
    }

    /// What was read before somebody wanted it.
    #[must_use]
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Gives back bytes that were read from here, to be read again first.
    pub fn give_back(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.ahead = if self.ahead.is_empty() {
                bytes
            } else {
                [bytes, std::mem::take(&mut self.ahead)].concat().into()
            };
        }
    }

    /// The stream, and what was read from it and not wanted.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.ahead)
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.conn.violation().is_some() || bytes.is_empty() {
            return;
        }
        if let Err(violation) = self.vet.feed(bytes) {
            self.conn.violates(violation);
        }
        self.conn.enter(match self.vet.phase() {
            Phase::Idle => At::Idle,
            Phase::Head => At::Head,
            Phase::Body => At::Body,
        });
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Waits for a few bytes more, which are kept ahead. Whoever waits here costs next to no memory.
    ///
    /// # Errors
    /// The client is gone.
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; WAKE];
        let room = room
            .get_mut(self.ahead.len().min(WAKE.saturating_sub(1))..)
            .unwrap_or_default();
        let mut buf = ReadBuf::new(room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.look(buf.filled());
        let mut ahead = BytesMut::with_capacity(WAKE);
        ahead.extend_from_slice(&self.ahead);
        ahead.extend_from_slice(buf.filled());
        self.ahead = ahead.freeze();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let here = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..here).unwrap_or_default());
            this.ahead.advance(here);
            return Poll::Ready(Ok(()));
        }
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
            this.conn.lingers();
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
