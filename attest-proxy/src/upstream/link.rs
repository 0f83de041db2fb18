//! One connection to a server, moved on by whoever waits for its answer.
//!
//! Owns: the exchange of one message for one answer, in HTTP/1.1, and whether another may follow. It has no task of its own: what
//! comes wakes the request that waits for it and nothing else, and what a client does not take stays with the server. An idle
//! connection wakes nobody: that it was closed, or that something came unasked, is found when it is used next, before anything is
//! sent, or when the pool looks at all of them.
//! This is not hyper's client: that one hands each message through a channel to a task that hands the answer back through
//! another, which cost more than all else that is done for a request. It also follows lengths that are to be refused here.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::{
    alarm::Alarm,
    answer::{self, Head, HeadError, Read},
    message::Message,
    rest::{Broken, Rest},
    tls::Under,
};

/// What is read at one time: at first, and at most, in bytes.
const ROOM: usize = 4 << 10;
const MAX_ROOM: usize = 128 << 10;

/// Why an answer did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    Late,
    /// It ended too early.
    #[error("it closed the connection in the middle")]
    Ended,
    /// What came is no answer.
    #[error(transparent)]
    Head(HeadError),
    /// What came is no body.
    #[error(transparent)]
    Body(#[from] Broken),
}

/// What a connection is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    /// What is sent.
    pub(super) message: &'a Message,
    /// Which fields of the answer's head are kept.
    pub(super) keep: &'a [HeaderName],
    /// Until when its head is waited for.
    pub(super) until: Option<Instant>,
}

/// A connection. Dropped, it is closed, whatever is in flight on it.
pub(super) struct Link {
    io: Box<dyn Io>,
    /// By whose certificates it was believed, where it is TLS.
    under: Option<Under>,
    /// What is being sent, and how much of it was taken. `None`: all was.
    sending: Option<(Message, usize)>,
    /// What came and was not used yet, and how much is read at a time.
    came: BytesMut,
    room: usize,
    /// Rings when nothing came for too long.
    alarm: Alarm,
    /// What is still to come of the answer's body.
    rest: Rest,
    /// Whether anything was taken, or came, since the last message.
    touched: bool,
    heard: bool,
    /// Whether the server wants another message on it.
    keeps: bool,
}

/// What a connection lies on.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Link {
    /// A connection on which nothing was said yet; in a box, for it is handed on often.
    pub(super) fn new<S>(stream: S, under: Option<Under>) -> Box<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::new(Self {
            io: Box::new(stream),
            under,
            sending: None,
            came: BytesMut::new(),
            room: ROOM,
            alarm: Alarm::default(),
            rest: Rest::Nothing,
            touched: false,
            heard: false,
            keeps: true,
        })
    }

    /// Sends a message, and waits for the head of its answer.
    pub(super) async fn ask(&mut self, order: Order<'_>) -> Result<Head, LinkError> {
        self.sending = Some((order.message.clone(), 0));
        (self.touched, self.heard) = (false, false);
        poll_fn(|cx| match (self.poll_head(order, cx), order.until) {
            (Poll::Pending, Some(until)) => self.alarm.poll(until, cx).map(|()| Err(LinkError::Late)),
            (polled, _) => polled,
        })
        .await
    }

    /// Whether nothing of the last message was taken: then it can be sent elsewhere.
    pub(super) const fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether anything came since the last message.
    pub(super) const fn has_heard(&self) -> bool {
        self.heard
    }

    /// By whose certificates it was believed, where it is TLS.
    pub(super) const fn under(&self) -> Option<&Under> {
        self.under.as_ref()
    }

    /// Whether all of the answer came.
    pub(super) const fn is_done(&self) -> bool {
        self.rest.is_nothing()
    }

    /// How much of the answer is still to come, where that is known, in bytes.
    pub(super) const fn left(&self) -> Option<u64> {
        self.rest.known()
    }

    /// Whether another message may be sent when there is one: all was said on both sides, and nothing more came.
    pub(super) fn rests(&mut self) -> bool {
        if !(self.keeps && self.is_done() && self.sending.is_none() && self.came.is_empty()) {
            return false;
        }
        // Idle connections have no memory of their own.
        (self.came, self.room) = (BytesMut::new(), ROOM);
        true
    }

    /// Whether a connection that rested can be used. Who used it before is not woken by it any more.
    pub(super) fn is_open(&mut self) -> bool {
        let mut byte = [0];
        let cx = &mut Context::from_waker(Waker::noop());
        // An end, an error, or what nobody asked for.
        Pin::new(&mut self.io)
            .poll_read(cx, &mut ReadBuf::new(&mut byte))
            .is_pending()
    }

    /// The next bytes of the answer's body; `None` after the last.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, LinkError>>> {
        loop {
            match self.rest.take(&mut self.came) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) if self.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(broken) => return Poll::Ready(Some(Err(broken.into()))),
            }
            // Who is answered already may not have been heard to the end. If he does not want to be, the answer counts.
            if let Poll::Ready(Err(_)) = self.poll_send(cx) {
                (self.sending, self.keeps) = (None, false);
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.rest.ends_closed() => self.rest = Rest::Nothing,
                Ok(0) => return Poll::Ready(Some(Err(LinkError::Ended))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Waits until `due`.
    pub(super) fn poll_until(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(due, cx)
    }

    /// The next bytes of the answer's body.
    pub(super) async fn data(&mut self) -> Option<Result<Bytes, LinkError>> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    fn poll_head(&mut self, order: Order<'_>, cx: &mut Context<'_>) -> Poll<Result<Head, LinkError>> {
        let sent = self.poll_send(cx);
        let mut informed = 0_usize;
        loop {
            let read = if self.came.is_empty() {
                Read::Part
            } else {
                answer::read(&self.came, order.keep).map_err(LinkError::Head)?
            };
            match read {
                Read::Head(head, len) => {
                    self.came.advance(len);
                    self.rest = if order.message.asks_head() {
                        Rest::Nothing
                    } else {
                        Rest::of(head.length)
                    };
                    self.keeps = head.keeps && matches!(sent, Poll::Ready(Ok(())));
                    return Poll::Ready(Ok(head));
                }
                Read::Interim(len) => {
                    self.came.advance(len);
                    informed = informed.saturating_add(len);
                    if informed > answer::MAX_HEAD {
                        return Poll::Ready(Err(LinkError::Head(HeadError::Long)));
                    }
                    continue;
                }
                Read::Part => {}
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Ended)),
                Poll::Ready(Ok(_)) => self.heard = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    return match sent {
                        // Who takes no more may have said why; if he has not by now, that is all there is.
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                        _ => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Sends what is still to be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((message, sent)) = &mut self.sending {
            if *sent < message.len() {
                let [head, body] = message.after(*sent);
                let io = Pin::new(&mut self.io);
                let taken = if body.is_empty() {
                    ready!(io.poll_write(cx, head))?
                } else {
                    let pieces = [io::IoSlice::new(head), io::IoSlice::new(body)];
                    ready!(io.poll_write_vectored(cx, &pieces))?
                };
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                *sent = sent.saturating_add(taken);
                self.touched = true;
            } else {
                // TLS may have kept something back.
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.sending = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.came.reserve(self.room);
        let read = ready!(pin!(self.io.read_buf(&mut self.came)).poll(cx));
        // Who says much is heard in larger pieces; who says little again, in small ones: a piece that its client does not take
        // holds on to all of the room that it was read into.
        match read {
            Ok(len) if len >= self.room => self.room = self.room.saturating_mul(2).min(MAX_ROOM),
            Ok(len) if len < self.room / 4 => self.room = (self.room / 2).max(ROOM),
            _ => {}
        }
        Poll::Ready(read)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("under", &self.under)
            .field("rest", &self.rest)
            .field("keeps", &self.keeps)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
