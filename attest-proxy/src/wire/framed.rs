//! A client's bytes of HTTP/2 with their frames counted and their writes timed.
//!
//! Owns: [`Framed`], which shows every byte that was read to the watch over the frames, and tells [`Conn`] where the bytes
//! are. Unlike in HTTP/1, a flood is no request that could be answered: reading fails, and the connection ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{At, Conn},
    frames::Frames,
};

/// A stream whose frames are counted and whose writes are timed.
#[derive(Debug)]
pub struct Framed<S> {
    stream: S,
    frames: Frames,
    conn: Arc<Conn>,
    /// What was read before.
    ahead: Bytes,
}

impl<S> Framed<S> {
    /// Watches `stream` on behalf of `conn`; `ahead` was read of it already. A head has at most `header_bytes`.
    pub const fn new(stream: S, ahead: Bytes, conn: Arc<Conn>, header_bytes: usize) -> Self {
        Self {
            stream,
            frames: Frames::new(header_bytes),
            conn,
            ahead,
        }
    }

    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let seen = self.frames.feed(bytes, self.conn.elapsed());
        self.conn
            .enter(if self.frames.in_head() { At::Head } else { At::Idle });
        seen.map_err(|violation| {
            self.conn.violates(violation);
            io::Error::new(io::ErrorKind::InvalidData, violation)
        })
    }

    fn wrote(&mut self, result: &Poll<io::Result<usize>>) {
        self.conn.writes(result.is_pending());
        if result.is_ready() {
            self.frames.wrote();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.violation().is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let here = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..here).unwrap_or_default());
            this.ahead.advance(here);
        }
        Poll::Ready(this.look(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(&result);
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
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
