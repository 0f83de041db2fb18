//! The watch over a connection of HTTP/2.
//!
//! Owns: [`Framed`], which shows every byte that was read to the watch over the frames, and tells [`Conn`] where the bytes
//! are. Unlike in HTTP/1, a flood is no request that could be answered: reading fails, and the connection ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    conn::{At, Conn},
    frames::Frames,
    io::{Watch, Wire},
};

/// A stream whose frames are counted and whose writes are timed.
pub type Framed<S> = Wire<S, FrameWatch>;

/// Counts frames.
#[derive(Debug)]
pub struct FrameWatch {
    frames: Frames,
    /// What was read before.
    ahead: Bytes,
}

impl<S> Framed<S> {
    /// Watches `stream` on behalf of `conn`; `ahead` was read of it already. A head has at most `header_bytes`; the other end
    /// speaks for `crowd` clients.
    pub const fn new(stream: S, ahead: Bytes, conn: Arc<Conn>, header_bytes: usize, crowd: u32) -> Self {
        let watch = FrameWatch {
            frames: Frames::new(header_bytes, crowd),
            ahead,
        };
        Self { stream, conn, watch }
    }
}

impl FrameWatch {
    fn look(&mut self, bytes: &[u8], conn: &Conn) -> io::Result<()> {
        let seen = self.frames.feed(bytes, conn.elapsed());
        conn.enter(if self.frames.in_head() { At::Head } else { At::Idle });
        seen.map_err(|violation| {
            conn.violates(violation);
            io::Error::new(io::ErrorKind::InvalidData, violation)
        })
    }
}

impl Watch for FrameWatch {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        conn: &Conn,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if conn.violation().is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(stream).poll_read(cx, buf))?;
        } else {
            let here = self.ahead.len().min(buf.remaining());
            buf.put_slice(self.ahead.get(..here).unwrap_or_default());
            self.ahead.advance(here);
        }
        Poll::Ready(self.look(buf.filled().get(before..).unwrap_or_default(), conn))
    }

    fn wrote(&mut self) {
        self.frames.wrote();
    }
}
