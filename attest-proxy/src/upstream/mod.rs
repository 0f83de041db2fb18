//! The way to Ollama: connections that are kept, requests that are ended when nobody waits for them any more.
//!
//! Owns: the pool of connections to one upstream, its deadlines, and the bound on requests in flight.
//! Refuses: to send anything twice once a byte of it may have gone out.
//! Dropping the answer, or the future that waits for it, closes the connection that it was on: the upstream sees that
//! the client has left, and stops. The upstream is trusted to be Ollama, not to be well.
//! Limits today: one upstream, no health checks; `connect` resolves names each time.

mod pool;
mod stream;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use protocol::Refusal;
use tokio::time::timeout;

pub use stream::{Stream, StreamError};

use crate::config::{Limits, UpstreamUrl};
use pool::Pool;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// As many requests are in flight as may be.
    #[error("{0} requests are in flight to the upstream, the limit")]
    Busy(usize),
    /// No connection.
    #[error("no connection to the upstream: {0}")]
    Connect(io::Error),
    /// None in time.
    #[error("no connection to the upstream within {0:?}")]
    ConnectTimeout(Duration),
    /// It broke off, or answered what is not HTTP.
    #[error("the upstream failed: {0}")]
    Failed(hyper::Error),
    /// It accepted the request and said nothing.
    #[error("no answer from the upstream within {0:?}")]
    Timeout(Duration),
    /// An answer that is none, `101` without an upgrade.
    #[error("the upstream answered with status {0}")]
    Status(u16),
}

impl UpstreamError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Busy(_) => Refusal::Overloaded,
            Self::Connect(_) | Self::ConnectTimeout(_) => Refusal::NoUpstream,
            Self::Failed(_) | Self::Status(_) => Refusal::UpstreamFailed,
            Self::Timeout(_) => Refusal::UpstreamTimeout,
        }
    }
}

/// One upstream.
#[derive(Debug)]
pub struct Upstream {
    pool: Arc<Pool>,
    host: HeaderValue,
    in_flight: Arc<AtomicUsize>,
    max_in_flight: usize,
    first_byte: Duration,
    chunk: Duration,
}

/// One of the requests in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// An upstream that is not connected yet.
    #[must_use]
    pub fn new(url: &UpstreamUrl, limits: &Limits) -> Self {
        Self {
            pool: Pool::new(url.address(), limits),
            // An authority that parsed is a header value; were it not, the upstream would refuse every request.
            host: HeaderValue::from_str(url.authority()).unwrap_or(HeaderValue::from_static("upstream")),
            in_flight: Arc::new(AtomicUsize::new(0)),
            max_in_flight: limits.streams,
            first_byte: limits.first_byte_timeout,
            chunk: limits.chunk_timeout,
        }
    }

    /// What goes into the `Host` header.
    #[must_use]
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a connection to it can be had now.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), UpstreamError> {
        self.pool.probe().await
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may have reached the upstream, unless there was no connection.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Stream>, UpstreamError> {
        let permit = self.admit()?;
        let (response, link) = timeout(self.first_byte, self.pool.send(request))
            .await
            .map_err(|_| UpstreamError::Timeout(self.first_byte))??;
        if response.status().is_informational() {
            return Err(UpstreamError::Status(response.status().as_u16()));
        }
        let (parts, body) = response.into_parts();
        let stream = Stream::new(
            body,
            link,
            Arc::clone(&self.pool),
            permit,
            self.chunk,
            &parts.headers,
        );
        Ok(Response::from_parts(parts, stream))
    }

    fn admit(&self) -> Result<InFlight, UpstreamError> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = InFlight(Arc::clone(&self.in_flight));
        if before < self.max_in_flight {
            Ok(permit)
        } else {
            Err(UpstreamError::Busy(self.max_in_flight))
        }
    }
}
