//! Answers: one place where a refusal becomes a response.
//!
//! Owns: the body type of every answer, and the headers of those that are ours.
//! Refuses: to let any inside detail out. A refusal's code, status and sentence are the contract's; nothing else of it
//! reaches the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use protocol::{ErrorShape, Refusal, headers, nonce::Nonce};

use crate::{
    account::Account,
    lease::Lease,
    meter::{Over, Quota},
    upstream::{Observe, Stream, StreamError},
    wire::Busy,
};

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    account: Option<Box<Account>>,
    _busy: Option<Busy>,
}

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    /// In a box of its own: answers are handed on by value several times.
    Stream(Box<Stream>),
}

impl Kind {
    /// Why it broke off, if it did.
    const fn broken(&self) -> Option<Refusal> {
        match self {
            Self::Full(_) => None,
            Self::Stream(stream) => stream.broken(),
        }
    }
}

impl Body {
    /// Bytes that are all there.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Full(Some(bytes)),
            account: None,
            _busy: None,
        }
    }

    /// What comes from the upstream.
    #[must_use]
    pub fn stream(stream: Stream) -> Self {
        Self {
            kind: Kind::Stream(Box::new(stream)),
            account: None,
            _busy: None,
        }
    }

    /// Ends what comes from the upstream when `lease` does.
    #[must_use]
    pub fn leased(mut self, lease: Lease) -> Self {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.lease(lease);
        }
        self
    }

    /// Shows `observer` what comes from the upstream.
    #[must_use]
    pub fn observed(mut self, observer: Box<dyn Observe>) -> Self {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.observe(observer);
        }
        self
    }

    /// Keeps the connection busy until the last byte of this was taken.
    #[must_use]
    pub fn busy(self, busy: Busy) -> Self {
        Self {
            _busy: Some(busy),
            ..self
        }
    }

    /// Tells `account` what becomes of this.
    #[must_use]
    pub fn accounted(mut self, mut account: Box<Account>) -> Self {
        if self.is_end_stream() {
            account.completed(false);
        }
        self.account = Some(account);
        self
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.kind {
            Kind::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Kind::Stream(stream) => Pin::new(&mut **stream).poll_frame(cx),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        let polled = this.poll_kind(cx);
        let Some(mut account) = this.account.take() else {
            return polled;
        };
        let sent = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref(),
            _ => None,
        };
        if let Some(data) = sent {
            account.sent(data);
        }
        match this.kind.broken() {
            Some(refusal) => account.broke(refusal),
            None if matches!(polled, Poll::Ready(None)) || this.is_end_stream() => {
                account.completed(sent.is_some());
            }
            None => {}
        }
        this.account = Some(account);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

/// The answer to a refused request. `challenge` is there where the refusal wants one and the device is known.
#[must_use]
pub fn refuse(
    refusal: Refusal,
    path: &str,
    challenge: Option<&Nonce>,
    over: Option<&Over>,
) -> Response<Body> {
    let shape = if path.starts_with("/v1/") {
        ErrorShape::OpenAi
    } else {
        ErrorShape::Ollama
    };
    let mut response = json(refusal.body(shape).into_bytes());
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let fields = response.headers_mut();
    if let Some(over) = over {
        fields.insert(header::RETRY_AFTER, over.retry_after.into());
        tell_quota(fields, over.quota);
    } else if let Some(seconds) = refusal.retry_after() {
        fields.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(nonce) = challenge
        && let Ok(value) = HeaderValue::from_str(&headers::bytes(nonce.as_bytes()))
    {
        fields.insert(headers::CHALLENGE, value);
    }
    if unauthorized {
        // RFC 9110 15.5.2 wants one; this is the scheme that stock clients have. Evidence has a field of its own.
        fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.closes_connection() {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says where a device stands with a limit (draft-ietf-httpapi-ratelimit-headers-06).
pub fn tell_quota(fields: &mut HeaderMap, quota: Quota) {
    for (name, value) in [
        ("ratelimit-limit", quota.limit),
        ("ratelimit-remaining", quota.remaining),
        ("ratelimit-reset", quota.reset),
    ] {
        fields.insert(HeaderName::from_static(name), value.into());
    }
}

/// An answer of our own, in JSON, that nobody may keep.
#[must_use]
pub fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(body.into()));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_row() {
        for refusal in Refusal::ALL.iter().copied() {
            let response = refuse(refusal, "/api/chat", None, None);
            assert_eq!(response.status().as_u16(), refusal.status());
            assert_eq!(
                response.headers().contains_key("retry-after"),
                refusal.retry_after().is_some()
            );
            assert_eq!(
                response.headers().contains_key("connection"),
                refusal.closes_connection()
            );
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                refusal.status() == 401
            );
            assert!(!response.headers().contains_key("attestation-challenge"));
            assert!(!response.body().is_end_stream());
        }
    }
}
