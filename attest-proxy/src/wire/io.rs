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

/// Up to how many bytes are written in one piece.
const PIECE: usize = 2 << 10;

/// Writes several pieces as one where they are small: copying a head and a short body costs less than handing the system
/// a list of two.
///
/// # Errors
/// The stream's.
fn poll_write_pieces<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let mut room = [0; PIECE];
    let mut len = 0_usize;
    for piece in pieces {
        let end = len.saturating_add(piece.len());
        match room.get_mut(len..end) {
            Some(room) => room.copy_from_slice(piece),
            None => return stream.poll_write_vectored(cx, pieces),
        }
        len = end;
    }
    stream.poll_write(cx, room.get(..len).unwrap_or_default())
}

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
        let result = poll_write_pieces(&mut this.stream, cx, bufs);
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn write(lens: &[usize]) -> (usize, Vec<u8>) {
        let all: Vec<Vec<u8>> = (b'a'..).zip(lens).map(|(b, len)| vec![b; *len]).collect();
        let pieces: Vec<_> = all.iter().map(|piece| io::IoSlice::new(piece)).collect();
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        match poll_write_pieces(&mut out, &mut cx, &pieces) {
            Poll::Ready(Ok(written)) => (written, out),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_pieces_are_one_and_large_ones_are_not_copied() {
        assert_eq!(write(&[3, 2]), (5, b"aaabb".to_vec()));
        assert_eq!(write(&[PIECE - 1, 1]).0, PIECE);
        for lens in [&[PIECE, 1][..], &[1, PIECE, 7], &[10 * PIECE]] {
            let (written, out) = write(lens);
            let expected: Vec<u8> = (b'a'..).zip(lens).flat_map(|(b, len)| vec![b; *len]).collect();
            assert_eq!((written, out), (expected.len(), expected));
        }
    }
}
