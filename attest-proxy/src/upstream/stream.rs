//! An answer of the upstream, passed on chunk by chunk as it comes.
//!
//! Owns: what happens at its end. Read to its end, the connection goes back to the pool; dropped before, it is closed,
//! so that the upstream stops; broken, or its device revoked, the client gets an error object in the form of what it was reading (NDJSON or
//! SSE), because a status that was sent is never rewritten. Trailers are dropped.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use protocol::{ErrorShape, Refusal};
use tokio::time::{Sleep, sleep};

use super::{
    InFlight,
    pool::{Link, Pool},
};
use crate::follow::Lease;

/// An answer that broke where no error object can say so: the client's connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Broken(#[source] hyper::Error),
    /// No chunk came in time.
    #[error("no chunk from the upstream in time")]
    Stalled,
    /// The device that is answered may be used no longer.
    #[error("the device was suspended or retired meanwhile, or its key ended")]
    Revoked,
}

/// A body on its way from the upstream.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    link: Option<Link>,
    pool: Arc<Pool>,
    form: Form,
    gap: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    broken: Option<Refusal>,
    lease: Option<Lease>,
    permit: Option<InFlight>,
}

/// How an error in the middle of an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ndjson,
    Sse,
    /// It cannot be.
    None,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Self::None;
        }
        match headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
            Some(t) if t.starts_with(b"application/x-ndjson") => Self::Ndjson,
            Some(t) if t.starts_with(b"text/event-stream") => Self::Sse,
            _ => Self::None,
        }
    }

    /// What is written; it stands on a line of its own even when the upstream broke off inside one.
    fn error(self, refusal: Refusal) -> Option<Bytes> {
        match self {
            Self::Ndjson => Some(format!("\n{}\n", refusal.body(ErrorShape::Ollama)).into()),
            Self::Sse => Some(format!("\n\ndata: {}\n\n", refusal.body(ErrorShape::OpenAi)).into()),
            Self::None => None,
        }
    }
}

impl Stream {
    pub(super) fn new(
        body: Incoming,
        link: Link,
        pool: Arc<Pool>,
        permit: InFlight,
        gap: Duration,
        headers: &HeaderMap,
    ) -> Self {
        let form = Form::of(headers);
        Self {
            body,
            link: Some(link),
            pool,
            form,
            gap,
            last: Instant::now(),
            timer: None,
            ended: false,
            broken: None,
            lease: None,
            permit: Some(permit),
        }
    }

    /// Ends the answer when `lease` does, whether or not the upstream is saying anything.
    pub fn lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Why it broke off, if it did.
    #[must_use]
    pub const fn broken(&self) -> Option<Refusal> {
        self.broken
    }

    /// Ends the answer after a failure, with an error object where the form has one.
    fn fail(
        &mut self,
        refusal: Refusal,
        error: StreamError,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        self.ended = true;
        self.broken = Some(refusal);
        self.link = None;
        self.permit = None;
        tracing::warn!(target: "upstream", error = %error, "an answer broke in the middle");
        Poll::Ready(Some(match self.form.error(refusal) {
            Some(object) => Ok(Frame::data(object)),
            None => Err(error),
        }))
    }

    /// Whether the upstream has been silent for too long. The timer is set once per gap, not once per chunk.
    fn poll_gap(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.gap)));
            ready!(timer.as_mut().poll(cx));
            let silent = self.last.elapsed();
            if silent >= self.gap {
                return Poll::Ready(());
            }
            self.timer = Some(Box::pin(sleep(self.gap.saturating_sub(silent))));
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this
            .lease
            .as_mut()
            .is_some_and(|lease| lease.poll_over(cx).is_ready())
        {
            this.lease = None;
            return this.fail(Refusal::PskUnknown, StreamError::Revoked);
        }
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    if this.timer.is_some() {
                        this.last = Instant::now();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Ok(_trailers))) => {}
                Poll::Ready(Some(Err(error))) => {
                    return this.fail(Refusal::UpstreamFailed, StreamError::Broken(error));
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    if let Some(link) = this.link.take() {
                        this.pool.put(link);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(this.poll_gap(cx));
                    return this.fail(Refusal::UpstreamTimeout, StreamError::Stalled);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // An error object may still have to follow; only what cannot have one ends early.
        self.ended || (self.form == Form::None && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.form {
            Form::None => self.body.size_hint(),
            Form::Ndjson | Form::Sse => SizeHint::default(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        if self.body.is_end_stream()
            && let Some(link) = self.link.take()
        {
            self.pool.put(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&'static str, &'static str)]) -> Form {
        Form::of(
            &fields
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn the_form_follows_the_type() {
        assert_eq!(form(&[("content-type", "application/x-ndjson")]), Form::Ndjson);
        assert_eq!(
            form(&[("content-type", "text/event-stream; charset=utf-8")]),
            Form::Sse
        );
        assert_eq!(form(&[("content-type", "application/json")]), Form::None);
        assert_eq!(
            form(&[("content-type", "application/x-ndjson"), ("content-length", "3")]),
            Form::None
        );
        assert_eq!(form(&[]), Form::None);
    }

    #[test]
    fn an_error_object_is_in_that_form() {
        let text = |form: Form| {
            form.error(Refusal::UpstreamFailed)
                .map(|b| String::from_utf8(b.to_vec()).unwrap())
        };
        let line = text(Form::Ndjson).unwrap();
        let object: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!(object["code"], "upstream-failed");
        assert!(object["error"].is_string() && line.ends_with('\n'));
        let event = text(Form::Sse).unwrap();
        let data = event.trim().strip_prefix("data: ").unwrap();
        let object: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(object["error"]["code"], "upstream-failed");
        assert_eq!(text(Form::None), None);
    }
}
