//! A client's bytes with their framing watched and their writes timed.
//!
//! Owns: [`Wire`], which lies between the socket (or TLS) and hyper: what is read goes by way of the watch of the HTTP that
//! is spoken ([`Requests`](super::requests::Requests), [`FrameWatch`](super::framed::FrameWatch)), and every write tells
//! [`Conn`] whether the client takes it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;

/// What is read is looked at here, before hyper has it.
pub trait Watch: Unpin {
    /// Reads what hyper may have.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        conn: &Conn,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    /// Something was written.
    fn wrote(&mut self) {}

    /// Closes our direction.
    fn poll_shutdown<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        _conn: &Conn,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(stream).poll_shutdown(cx)
    }
}

/// A stream whose reads are watched and whose writes are timed.
#[derive(Debug)]
pub struct Wire<S, W> {
    pub(super) stream: S,
    pub(super) conn: Arc<Conn>,
    pub(super) watch: W,
}

impl<S, W: Watch> Wire<S, W> {
    fn wrote<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.conn.writes(result.is_pending());
        if result.is_ready() {
            self.watch.wrote();
        }
        result
    }
}

impl<S: AsyncRead + Unpin, W: Watch> AsyncRead for Wire<S, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch.poll_read(&mut this.stream, &this.conn, cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> AsyncWrite for Wire<S, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(result)
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
        this.watch.poll_shutdown(&mut this.stream, &this.conn, cx)
    }
}
