//! An answer of the upstream, passed on chunk by chunk as it comes.
//!
//! Owns: what happens at its end. Read to its end, the connection goes back to the pool; dropped before, it is closed,
//! so that the upstream stops; broken, or its device revoked, the client gets an error object in the form of what it was
//! reading ([`form`](super::form)), because a status that was sent is never rewritten. Trailers are dropped.
//! Whether it came whole, or its server broke it, is told to the server's health; what we end, and who leaves, is not.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use protocol::Refusal;

use super::{
    form::Form,
    gate::Permit,
    link::{Link, LinkError},
    observe::{End, Observe},
};
use crate::lease::Lease;

/// An answer that broke where no error object can say so: the client's connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Broken(#[source] LinkError),
    /// No chunk came in time.
    #[error("no chunk from the upstream in time")]
    Stalled,
    /// The device has used up what it may.
    #[error("the device used up what its policy lets it use")]
    UsedUp,
    /// The device that is answered may be used no longer.
    #[error("the device was suspended or retired meanwhile, or its key ended")]
    Revoked,
}

/// A body on its way from the upstream.
#[derive(Debug)]
pub struct Stream {
    /// The connection and the place; gone when the answer is over.
    held: Option<(Box<Link>, Permit)>,
    form: Form,
    gap: Duration,
    /// Since when the upstream has said nothing, if it is waited for.
    silent: Option<Instant>,
    ended: bool,
    broken: Option<Refusal>,
    /// An error that is told at the next poll.
    late: Option<StreamError>,
    lease: Option<Lease>,
    observer: Option<Box<dyn Observe>>,
}

impl Stream {
    pub(super) fn new(link: Box<Link>, permit: Permit, gap: Duration, form: Form) -> Self {
        Self {
            held: Some((link, permit)),
            form,
            gap,
            silent: None,
            ended: false,
            broken: None,
            late: None,
            lease: None,
            observer: None,
        }
    }

    /// Ends the answer when `lease` does, whether or not the upstream is saying anything.
    pub fn lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Shows `observer` what passes from now on.
    pub fn observe(&mut self, observer: Box<dyn Observe>) {
        self.observer = Some(observer);
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
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        self.ended = true;
        self.broken = Some(refusal);
        if let Some((_, permit)) = &self.held
            && matches!(error, StreamError::Broken(_) | StreamError::Stalled)
        {
            permit.server().broke();
        }
        self.held = None;
        self.tell(End::Broken);
        tracing::warn!(target: "upstream", error = %error, "an answer broke in the middle");
        let Some(object) = self.form.error(refusal) else {
            // hyper throws away what it has not sent when it hears of an error: the head goes first, so that the client is told
            // that its answer is cut, instead of nothing.
            self.late = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        Poll::Ready(Some(Ok(Frame::data(object))))
    }

    /// The upstream said all.
    fn finish(&mut self) {
        self.ended = true;
        if let Some((link, permit)) = self.held.take() {
            permit.server().finished();
            permit.server().pool.put(link);
        }
        self.tell(End::Whole);
    }

    /// Whether nothing more comes from the upstream.
    fn is_done(&self) -> bool {
        self.held.as_ref().is_none_or(|(link, _)| link.is_done())
    }

    fn tell(&mut self, end: End) {
        if let Some(mut observer) = self.observer.take() {
            observer.end(end);
        }
    }

    /// Whether the upstream has been silent for too long.
    fn poll_gap(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.silent.get_or_insert_with(Instant::now);
        match (&mut self.held, since.checked_add(self.gap)) {
            (Some((link, _)), Some(due)) => link.poll_until(due, cx),
            _ => Poll::Pending,
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
        if let Some(error) = this.late.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if this
            .lease
            .as_mut()
            .is_some_and(|lease| lease.poll_over(cx).is_ready())
        {
            this.lease = None;
            return this.fail(Refusal::PskUnknown, StreamError::Revoked, cx);
        }
        let polled = match &mut this.held {
            Some((link, _)) => link.poll_data(cx),
            None => Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(Ok(data))) => {
                if let Some(observer) = &mut this.observer
                    && let Err(refusal) = observer.chunk(&data)
                {
                    return this.fail(refusal, StreamError::UsedUp, cx);
                }
                this.form.passed(&data);
                this.silent = None;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                this.fail(Refusal::UpstreamFailed, StreamError::Broken(error), cx)
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(this.poll_gap(cx));
                this.fail(Refusal::UpstreamTimeout, StreamError::Stalled, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // An error object may still have to follow; only what cannot have one ends early.
        (self.ended && self.late.is_none()) || (!self.form.has_errors() && self.is_done())
    }

    fn size_hint(&self) -> SizeHint {
        if self.form.has_errors() {
            SizeHint::default()
        } else {
            let left = self.held.as_ref().map_or(Some(0), |(link, _)| link.left());
            left.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        if self.is_done() {
            if !self.ended {
                self.finish();
            }
        } else {
            self.held = None;
            self.tell(End::Left);
        }
    }
}
