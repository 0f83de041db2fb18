//! Connections to the upstream, kept while they are idle.
//!
//! Owns: which connection a request goes on. The one used last comes first, so that the others can age and be closed.
//! The lock is held to push or pop, never across an await.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};

use super::UpstreamError;
use crate::config::Limits;

/// How long an idle connection is kept. Shorter than what servers commonly keep, so that we close first.
const KEEP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pool {
    address: Box<str>,
    connect: Duration,
    max_idle: usize,
    idle: Mutex<Vec<(Link, Instant)>>,
}

/// A connection. Dropped, it is closed, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pool {
    pub(super) fn new(address: &str, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            address: address.into(),
            connect: limits.connect_timeout,
            max_idle: limits.upstream_idle,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Sends on an idle connection, or on a new one. A request of which nothing was written is tried on the next one.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Link), UpstreamError> {
        while let Some(mut link) = self.take() {
            // Ready at once, unless its last answer's end is still being read off, or the upstream has closed it.
            if link.sender.ready().await.is_err() {
                continue;
            }
            match link.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, link)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(UpstreamError::Failed(error.into_error())),
                },
            }
        }
        let mut link = self.open().await?;
        let response = link
            .sender
            .send_request(request)
            .await
            .map_err(UpstreamError::Failed)?;
        Ok((response, link))
    }

    /// Takes back a connection whose answer was read to its end.
    pub(super) fn put(&self, link: Link) {
        if link.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < self.max_idle {
            idle.push((link, Instant::now()));
        }
    }

    pub(super) async fn probe(&self) -> Result<(), UpstreamError> {
        if self
            .lock()
            .last()
            .is_some_and(|(link, _)| !link.sender.is_closed())
        {
            return Ok(());
        }
        self.dial().await.map(drop)
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

    async fn dial(&self) -> Result<TcpStream, UpstreamError> {
        let stream = timeout(self.connect, TcpStream::connect(&*self.address))
            .await
            .map_err(|_| UpstreamError::ConnectTimeout(self.connect))?
            .map_err(UpstreamError::Connect)?;
        stream.set_nodelay(true).map_err(UpstreamError::Connect)?;
        Ok(stream)
    }

    async fn open(&self) -> Result<Link, UpstreamError> {
        let io = TokioIo::new(self.dial().await?);
        let (sender, connection) = http1::handshake(io).await.map_err(UpstreamError::Failed)?;
        // Errors of the connection come out of the request that is on it.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Link { sender, task })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Link, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
