//! A request's body, whole, within its bounds.
//!
//! Owns: how long, how slowly and how large a body may come, and what all of them together may take. A stranger never gets
//! here: the head was admitted before.
//! Refuses: trailers that name what only a head may say. All others are thrown away: nobody behind this sees any.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use protocol::Refusal;
use tokio::time::{Instant, timeout_at};

use crate::{
    config::Limits,
    head::{HeadError, check_trailers},
    memory::{Budget, Exhausted, Share},
};

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Longer than it may be.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// Not all of it came in time.
    #[error("the body did not come within {0:?}")]
    Late(Duration),
    /// It came too slowly.
    #[error("the body came slower than {0} bytes per second")]
    Slow(usize),
    /// The client broke off, or its chunks are malformed.
    #[error("the body broke off: {0}")]
    Broken(hyper::Error),
    /// A field after the body that none may be.
    #[error(transparent)]
    Trailers(#[from] HeadError),
    /// There is no room for it beside the others.
    #[error(transparent)]
    NoRoom(#[from] Exhausted),
}

impl ReceiveError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge(_) => Refusal::BodyTooLarge,
            Self::Late(_) | Self::Slow(_) | Self::Broken(_) | Self::Trailers(_) => Refusal::RequestMalformed,
            Self::NoRoom(_) => Refusal::Overloaded,
        }
    }
}

/// A body that is all there, and its share of the memory for bodies: hold it for as long as the body is.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    /// Whether it was waited for: what was known before may be so no longer.
    pub waited: bool,
    _share: Share,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// [`ReceiveError`]; the rest of the body is not read.
pub async fn receive(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    limits: &Limits,
    budget: &Budget,
) -> Result<Received, ReceiveError> {
    let mut share = budget.share();
    if body.is_end_stream() {
        return Ok(Received {
            bytes: Bytes::new(),
            waited: false,
            _share: share,
        });
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ReceiveError::TooLarge(limit));
    }
    let mut patience = Patience { limits, begun: None };
    let bytes = collect(body, limit, announced.unwrap_or(0), &mut patience, &mut share).await?;
    Ok(Received {
        bytes,
        waited: patience.begun.is_some(),
        _share: share,
    })
}

async fn collect(
    mut body: Incoming,
    limit: usize,
    announced: usize,
    patience: &mut Patience<'_>,
    share: &mut Share,
) -> Result<Bytes, ReceiveError> {
    let mut whole = BytesMut::new();
    loop {
        let Some(frame) = patience.wait(whole.len(), body.frame()).await? else {
            return Ok(whole.freeze());
        };
        let data = match frame.map_err(ReceiveError::Broken)?.into_data() {
            Ok(data) => data,
            Err(other) => {
                if let Some(trailers) = other.trailers_ref() {
                    check_trailers(trailers)?;
                }
                continue;
            }
        };
        if whole.len().saturating_add(data.len()) > limit {
            return Err(ReceiveError::TooLarge(limit));
        }
        // Twice: as it came, and as it goes upstream.
        share.take(data.len().saturating_mul(2))?;
        // The common case: all of it in one piece, which needs no copy.
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        // What was announced is reserved only as it comes true, at most twice over.
        whole.reserve(data.len().max(announced.min(whole.len())));
        whole.extend_from_slice(&data);
    }
}

/// For how long a body is waited for: longer, the more of it has come.
struct Patience<'a> {
    limits: &'a Limits,
    /// Since when. `None`: it was never waited for.
    begun: Option<Instant>,
}

impl Patience<'_> {
    /// Waits for the next piece after `received` bytes.
    async fn wait<T>(&mut self, received: usize, next: impl Future<Output = T>) -> Result<T, ReceiveError> {
        let mut next = pin!(next);
        // Most bodies came with their heads.
        if let Poll::Ready(here) = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
            return Ok(here);
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let (slow, late) = self.deadlines(begun, received);
        timeout_at(slow.min(late), next).await.map_err(|_| {
            if slow < late {
                ReceiveError::Slow(self.limits.body_rate)
            } else {
                ReceiveError::Late(self.limits.body_timeout)
            }
        })
    }

    fn deadlines(&self, begun: Instant, received: usize) -> (Instant, Instant) {
        let micros = received.saturating_mul(1_000_000) / self.limits.body_rate.max(1);
        let earned = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let late = begun.checked_add(self.limits.body_timeout).unwrap_or(begun);
        let slow = begun
            .checked_add(self.limits.body_grace.saturating_add(earned))
            .unwrap_or(late);
        (slow, late)
    }
}
