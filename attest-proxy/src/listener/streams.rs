//! The streams of one HTTP/2 connection, each with its own patience.
//!
//! Owns: the stall of a single stream. A client that opens no window for one answer keeps that answer, and the upstream's
//! work on it, for no longer than a client of HTTP/1 that takes no bytes; its other streams go on.
//! How it is known: hyper asks an answer for its next piece only when the last one has found room. A piece that was given
//! out, and no question after it, is a client that does not take.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    body::{Body as HttpBody, Frame, SizeHint},
    rt::Executor,
};
use tokio::time::{Sleep, sleep_until};

use crate::{
    metrics::{Cut, Metrics},
    respond::Body,
    upstream::StreamError,
};

/// Runs the streams of a connection.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    opened: Instant,
    patience: Duration,
    metrics: Arc<Metrics>,
    /// The flow of the stream that hyper opens at this moment: it calls the service, then this executor, and nothing
    /// in between.
    next: Arc<Mutex<Option<Arc<Flow>>>>,
}

/// Where an answer is on its way out.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Milliseconds after `opened`, plus one, at which a piece was given out that nobody asked beyond; 0: none.
    given: AtomicU64,
}

/// An answer whose flow is watched.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    flow: Arc<Flow>,
    opened: Instant,
}

impl Streams {
    pub(super) fn new(opened: Instant, patience: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            opened,
            patience,
            metrics,
            next: Arc::default(),
        }
    }

    /// A stream that is being opened.
    pub(super) fn open(&self) -> Arc<Flow> {
        let flow = Arc::new(Flow::default());
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&flow));
        flow
    }

    /// Its answer, of which hyper asks for nothing before the client has room for the first piece.
    pub(super) fn watch(&self, body: Body, flow: Arc<Flow>) -> Watched {
        flow.gives(self.opened);
        Watched {
            body,
            flow,
            opened: self.opened,
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let flow = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (opened, patience, metrics) = (self.opened, self.patience, Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            let mut timer: Option<Pin<Box<Sleep>>> = None;
            // Dropped before its end, a stream is reset.
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                while let Some(end) = flow
                    .as_deref()
                    .and_then(|flow| flow.patient_until(opened, patience))
                {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(end.into())));
                    if timer.deadline() != end.into() {
                        timer.as_mut().reset(end.into());
                    }
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if end <= Instant::now() {
                        metrics.cut(Cut::StreamStall);
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            })
            .await;
        });
    }
}

impl Flow {
    fn gives(&self, opened: Instant) {
        let millis = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.given.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    fn patient_until(&self, opened: Instant, patience: Duration) -> Option<Instant> {
        let given = self.given.load(Ordering::Relaxed).checked_sub(1)?;
        opened
            .checked_add(Duration::from_millis(given))?
            .checked_add(patience)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            this.flow.gives(this.opened);
        } else {
            this.flow.given.store(0, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
