//! One connection to a server, moved on by whoever waits for its answer.
//!
//! Owns: hyper's side of it, and the bounds on an answer's head. It has no task of its own: what comes wakes the request that
//! waits for it and nothing else, and what a client does not take stays with the server. While a connection is idle nobody
//! looks at it: that it was closed, or that something came unasked, is found when it is used next, before anything is sent.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Frame, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{UpstreamError, tls::Under};
use crate::wire::poll_write_pieces;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// What is read of an answer at one time, at most.
const MAX_READ: usize = 128 << 10;

/// A connection. Dropped, it is closed, whatever is in flight on it.
pub(super) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    known: Arc<Known>,
}

/// hyper's connection. `None`: it is over.
struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

/// What is known of a connection.
#[derive(Debug)]
struct Known {
    /// Whether anything came since the last request was sent.
    heard: AtomicBool,
    /// By whose certificates it was believed, where it is TLS.
    under: Option<Under>,
}

impl Driver {
    /// Does what can be done now.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && driver.as_mut().poll(cx).is_ready()
        {
            // Errors come out of the request that is on it.
            self.0 = None;
        }
    }

    /// Waits for `what`, which nothing but this brings about: so nothing else has to wake for it.
    async fn until<F: Future>(&mut self, what: F) -> F::Output {
        let mut what = pin!(what);
        poll_fn(|cx| {
            self.advance(cx);
            what.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }
}

impl Link {
    /// A connection on which nothing was said yet.
    pub(super) async fn new<S>(stream: S, under: Option<Under>) -> Result<Self, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let known = Arc::new(Known {
            heard: AtomicBool::new(false),
            under,
        });
        let io = TokioIo::new(Ear {
            stream,
            known: Arc::clone(&known),
        });
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_READ)
            .handshake(io)
            .await
            .map_err(UpstreamError::Failed)?;
        Ok(Self {
            sender,
            driver: Driver(Some(Box::pin(connection))),
            known,
        })
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        self.known.heard.store(false, Ordering::Relaxed);
        let answer = self.sender.try_send_request(request);
        self.driver.until(answer).await
    }

    /// The next piece of the answer that is on it.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let silent = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(silent) {
            return Poll::Ready(frame);
        }
        self.driver.advance(cx);
        Pin::new(body).poll_frame(silent)
    }

    /// The next bytes of the answer that is on it.
    pub(super) async fn chunk(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match poll_fn(|cx| self.poll_frame(body, cx)).await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Looks at a connection that was idle; whether it can be used. Who used it before is not woken by it any more.
    pub(super) fn wakes_up(&mut self) -> bool {
        self.driver.advance(&mut Context::from_waker(Waker::noop()));
        !self.is_over() && self.sender.is_ready()
    }

    /// Whether it was closed.
    pub(super) fn is_over(&self) -> bool {
        self.driver.0.is_none() || self.sender.is_closed()
    }

    /// Whether anything came since the last request was sent.
    pub(super) fn has_heard(&self) -> bool {
        self.known.heard.load(Ordering::Relaxed)
    }

    /// By whose certificates it was believed, where it is TLS.
    pub(super) fn under(&self) -> Option<&Under> {
        self.known.under.as_ref()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// A connection that remembers whether anything came.
#[derive(Debug)]
struct Ear<S> {
    stream: S,
    known: Arc<Known>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Ear<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before && !this.known.heard.load(Ordering::Relaxed) {
            this.known.heard.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ear<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_pieces(&mut self.get_mut().stream, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
