//! A request's body, whole, within its bounds.
//!
//! Owns: how long and how large a body may be. A stranger never gets here: the head was admitted before.
//! Trailers are dropped (and refused by the framing's watch).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use protocol::Refusal;
use tokio::time::timeout;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Longer than it may be.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// Not all of it came in time.
    #[error("the body did not come within {0:?}")]
    Slow(Duration),
    /// The client broke off, or its chunks are malformed.
    #[error("the body broke off: {0}")]
    Broken(hyper::Error),
}

impl ReceiveError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge(_) => Refusal::BodyTooLarge,
            Self::Slow(_) | Self::Broken(_) => Refusal::RequestMalformed,
        }
    }
}

/// Reads a body of at most `limit` bytes, within `time`.
///
/// # Errors
/// [`ReceiveError`]; the rest of the body is not read.
pub async fn receive(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ReceiveError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ReceiveError::TooLarge(limit));
    }
    match timeout(time, collect(body, limit, announced.unwrap_or(0))).await {
        Ok(result) => result,
        Err(_) => Err(ReceiveError::Slow(time)),
    }
}

async fn collect(mut body: Incoming, limit: usize, announced: usize) -> Result<Bytes, ReceiveError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReceiveError::Broken)?.into_data() else {
            continue;
        };
        // The common case: all of it in one piece, which needs no copy.
        if whole.is_empty() && body.is_end_stream() {
            return if data.len() > limit {
                Err(ReceiveError::TooLarge(limit))
            } else {
                Ok(data)
            };
        }
        if whole.len().saturating_add(data.len()) > limit {
            return Err(ReceiveError::TooLarge(limit));
        }
        // What was announced is reserved only as it comes true, at most twice over.
        whole.reserve(data.len().max(announced.min(whole.len())));
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
