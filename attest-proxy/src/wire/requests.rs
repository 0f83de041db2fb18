//! The watch over a connection of HTTP/1.
//!
//! Owns: [`Guarded`], which hands hyper one request at a time. Every byte is shown to the vet before hyper has it; what
//! follows a request is read, and kept here unread, until that request was answered. So a request that is malformed takes
//! nothing from the one before it, and a client that leaves is noticed although it has sent more than was asked for.
//! A client that is refused while it still sends is listened to for a moment after the answer, so that it can read it.
//! A broken head is handed on all the same: it becomes a refusal in the service, with an answer. Where a body breaks, reading
//! fails, so that whoever waits for the rest of it answers at once.
//! Limits today: of a client that has sent [`HELD`] bytes beyond a request, it is not noticed that it leaves until there is
//! something to tell it.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{At, Conn},
    io::{Watch, Wire},
    vet::{Phase, Vet, Violation},
};

/// How many bytes a client that was refused may go on sending.
const LINGER_BYTES: usize = 32 << 20;
/// How many bytes a connection that waits is woken with: those of HTTP/2's preface, so that it is read and nothing of
/// what follows it.
const WAKE: usize = 24;
/// How many bytes are read ahead of what may be handed on.
const HELD: usize = 16 << 10;
/// How many of them at a time.
const READ: usize = 2 << 10;

/// A stream whose requests are vetted and whose writes are timed.
pub type Guarded<S> = Wire<S, Requests>;

/// Vets requests, and hands on one at a time.
#[derive(Debug)]
pub struct Requests {
    vet: Vet,
    /// What was read, and is looked at when it is handed on.
    held: BytesMut,
    shut: bool,
    thrown_away: usize,
}

/// What hyper is given of some bytes.
enum Hand {
    /// So many of them.
    On(usize),
    /// In place of them something that it answers 400 at once: of these, it would wait for more.
    Poison,
    /// Nothing, for the body of which these are is broken.
    Nothing(Violation),
}

impl<S> Guarded<S> {
    /// Watches `stream` on behalf of `conn`.
    pub fn new(stream: S, conn: Arc<Conn>) -> Self {
        let watch = Requests {
            vet: Vet::new(),
            held: BytesMut::new(),
            shut: false,
            thrown_away: 0,
        };
        Self { stream, conn, watch }
    }

    /// What was read before somebody wanted it.
    #[must_use]
    pub fn ahead(&self) -> &[u8] {
        &self.watch.held
    }

    /// Gives back bytes that were read from here and not used, to be read again first. Of a connection that is between two
    /// requests these are empty lines, which look the same when they are looked at again.
    pub fn give_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.watch.held = BytesMut::from(&*[bytes, &self.watch.held].concat());
        }
    }

    /// The stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, and what was read from it and not wanted.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.watch.held.freeze())
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Waits for a few bytes more, which are kept ahead. Whoever waits here costs next to no memory.
    ///
    /// # Errors
    /// The client is gone.
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut self.watch.held;
        let mut room = [0; WAKE];
        let room = room
            .get_mut(held.len().min(WAKE.saturating_sub(1))..)
            .unwrap_or_default();
        let mut buf = ReadBuf::new(room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        held.reserve(buf.filled().len());
        held.extend_from_slice(buf.filled());
        self.conn.enter(At::Head);
        Poll::Ready(Ok(()))
    }
}

impl Requests {
    /// Whether hyper may have the next byte: it belongs to the request that it has begun to read, or the last one was
    /// answered. What is broken is not held back.
    fn may_hand_on(&self, conn: &Conn) -> bool {
        self.vet.phase() != Phase::Idle || self.vet.ended() == conn.answered() || conn.violation().is_some()
    }

    /// Looks at bytes that are to be handed on.
    fn look(&mut self, bytes: &[u8], conn: &Conn) -> Hand {
        if conn.violation().is_some() {
            return Hand::On(bytes.len());
        }
        let in_body = self.vet.phase() == Phase::Body;
        let seen = self.vet.feed(bytes);
        conn.saw_heads(self.vet.heads());
        conn.enter(match self.vet.phase() {
            Phase::Idle => At::Idle,
            Phase::Head => At::Head,
            Phase::Body => At::Body,
        });
        match seen {
            Ok(taken) => Hand::On(taken),
            Err(violation) => {
                conn.violates(violation);
                match violation {
                    Violation::Method => Hand::Poison,
                    _ if in_body => Hand::Nothing(violation),
                    _ => Hand::On(bytes.len()),
                }
            }
        }
    }

    /// Reads what may not be handed on yet, to keep it, and to notice the end.
    fn poll_ahead<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        conn: &Conn,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); READ];
        while self.held.len() < HELD {
            let mut read = ReadBuf::uninit(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.held.extend_from_slice(read.filled());
                }
                // It has left. To hyper that is the end, whatever came before it.
                Poll::Ready(left) => return Poll::Ready(left),
                Poll::Pending => break,
            }
        }
        // Whoever holds nothing is woken by what comes.
        if !self.held.is_empty() {
            conn.when_answered(cx.waker());
        }
        Poll::Pending
    }
}

impl Watch for Requests {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        conn: &Conn,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.may_hand_on(conn) {
            return self.poll_ahead(stream, conn, cx);
        }
        let before = buf.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.look(new, conn) {
                Hand::On(taken) => {
                    self.held.extend_from_slice(new.get(taken..).unwrap_or_default());
                    buf.set_filled(before.saturating_add(taken));
                }
                Hand::Poison => {
                    buf.set_filled(before);
                    self.held = BytesMut::from(POISON);
                    return self.poll_read(stream, conn, cx, buf);
                }
                Hand::Nothing(why) => {
                    buf.set_filled(before);
                    return Poll::Ready(Err(broken(why)));
                }
            }
            return Poll::Ready(Ok(()));
        }
        let held = std::mem::take(&mut self.held);
        let here = held.get(..buf.remaining()).unwrap_or(&held);
        let taken = match self.look(here, conn) {
            Hand::On(taken) => {
                buf.put_slice(here.get(..taken).unwrap_or_default());
                taken
            }
            Hand::Poison => {
                self.held = BytesMut::from(POISON);
                return self.poll_read(stream, conn, cx, buf);
            }
            Hand::Nothing(why) => return Poll::Ready(Err(broken(why))),
        };
        self.held = held;
        self.held.advance(taken);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        conn: &Conn,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.shut = true;
            if self.vet.phase() == Phase::Idle && self.held.is_empty() && conn.violation().is_none() {
                return Poll::Ready(Ok(()));
            }
            conn.lingers();
        }
        let mut room = [0; 8 << 10];
        while self.thrown_away < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.thrown_away = self.thrown_away.saturating_add(buf.filled().len());
                }
                // It has heard us out, or is gone.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(why: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// No head has this byte in it; and hyper looks again at a head that it has looked at when it may be whole.
const POISON: &[u8] = b"\0\r\n\r\n";
