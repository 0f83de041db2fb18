//! Connections to one server, kept while they are idle.
//!
//! Owns: which connection a request goes on, and the bounds on an answer's head. The connection used last comes first,
//! so that the others can age and be closed. The lock is held to push or pop, never across an await.
//! Tells apart what failed before anything was sent, on a kept connection before a byte came back (the server had
//! closed it, most likely), and in any other way: only the first two may be tried again.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};

use super::{
    UpstreamError,
    tls::{Secure, Under},
};
use crate::{config::Limits, wire::poll_write_pieces};

/// How long an idle connection is kept. Shorter than what servers commonly keep, so that we close first.
const KEEP: Duration = Duration::from_secs(30);
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// What is read of an answer at one time, at most.
const MAX_READ: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Pool {
    address: Box<str>,
    secure: Option<Secure>,
    /// How long connecting may take, and how many idle connections are kept.
    bounds: ArcSwap<(Duration, usize)>,
    idle: Mutex<Vec<(Link, Instant)>>,
}

/// A connection. Dropped, it is closed, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    task: AbortHandle,
    known: Arc<Known>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Known {
    /// Whether anything came since the last request was sent.
    heard: AtomicBool,
    /// By whose certificates it was believed, where it is TLS.
    under: Option<Under>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pool {
    pub(super) fn new(address: &str, secure: Option<Secure>, limits: &Limits) -> Self {
        Self {
            address: address.into(),
            secure,
            bounds: ArcSwap::from_pointee((limits.connect_timeout, limits.upstream_idle)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Takes up other bounds.
    pub(super) fn tune(&self, limits: &Limits) {
        self.bounds
            .store(Arc::new((limits.connect_timeout, limits.upstream_idle)));
    }

    /// Sends on an idle connection, or on a new one. A request of which nothing was written is tried on the next one.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Link), UpstreamError> {
        while let Some(mut link) = self.take() {
            // Ready at once, unless its last answer's end is still being read off, or the server has closed it.
            if link.sender.ready().await.is_err() {
                continue;
            }
            link.known.heard.store(false, Ordering::Relaxed);
            match link.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, link)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None if link.known.heard.load(Ordering::Relaxed) => {
                        return Err(UpstreamError::Failed(error.into_error()));
                    }
                    None => return Err(UpstreamError::Stale(error.into_error())),
                },
            }
        }
        Box::pin(self.send_anew(request)).await
    }

    /// Sends on a new connection.
    pub(super) async fn send_anew(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Link), UpstreamError> {
        let mut link = self.open().await?;
        let response = link.sender.send_request(request).await;
        Ok((response.map_err(UpstreamError::Failed)?, link))
    }

    /// Sends, and reads an answer of at most `limit` bytes to its end.
    pub(super) async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let (response, link) = self.send(request).await?;
        let status = response.status();
        let whole = Limited::new(response.into_body(), limit).collect().await;
        let whole = whole.map_err(|_| UpstreamError::Status(status.as_u16()))?;
        self.put(link);
        Ok((status, whole.to_bytes()))
    }

    /// Takes back a connection whose answer was read to its end.
    pub(super) fn put(&self, link: Link) {
        if link.sender.is_closed() || !self.is_believed(&link) {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < self.bounds.load().1 {
            idle.push((link, Instant::now()));
        }
    }

    /// Closes what is idle.
    pub(super) fn forget(&self) {
        let idle = std::mem::take(&mut *self.lock());
        drop(idle);
    }

    /// Whether a connection was made under what is believed now.
    fn is_believed(&self, link: &Link) -> bool {
        match (&link.known.under, &self.secure) {
            (Some(under), Some(secure)) => secure.is_current(under),
            _ => true,
        }
    }

    fn take(&self) -> Option<Link> {
        let mut idle = self.lock();
        let (link, since) = idle.pop()?;
        if since.elapsed() < KEEP {
            return Some(link);
        }
        // The one used last is too old: so are all below it.
        let old = std::mem::take(&mut *idle);
        drop(idle);
        drop(old);
        None
    }

    async fn open(&self) -> Result<Link, UpstreamError> {
        let patience = self.bounds.load().0;
        timeout(patience, self.connected())
            .await
            .map_err(|_| UpstreamError::ConnectTimeout(patience))?
    }

    async fn connected(&self) -> Result<Link, UpstreamError> {
        let stream = TcpStream::connect(&*self.address)
            .await
            .map_err(UpstreamError::Connect)?;
        stream.set_nodelay(true).map_err(UpstreamError::Connect)?;
        let Some(secure) = &self.secure else {
            return Link::new(stream, None).await;
        };
        let (stream, under) = secure.shake_hands(stream).await?;
        Link::new(stream, Some(under)).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Link, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    async fn new<S>(stream: S, under: Option<Under>) -> Result<Self, UpstreamError>
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
        // Errors of the connection come out of the request that is on it.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, task, known })
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
