//! One connection of HTTP/1.0 or HTTP/1.1.
//!
//! Owns: the turns between waiting and serving. While nothing comes, a connection is its socket, its marks and its timer;
//! hyper, with its buffers, is there from the first byte of a request until the connection has been quiet for a while.
//! An attacker controls every byte and when it comes.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    Stream,
    pace::{Event, Pace},
};
use crate::{
    metrics::Cut,
    service::Proxy,
    wire::{Conn, Guarded, Overdue},
};

/// How HTTP/2 begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the last bytes of a connection may take that is closed while it is quiet.
const FAREWELL: Duration = Duration::from_secs(1);

/// How waiting ended.
pub(super) enum Woken<S> {
    /// The client is gone, or was waited for long enough.
    Over,
    /// Bytes of HTTP/1.
    Bytes(Guarded<S>),
    /// HTTP/2's preface: its 24 bytes, and nothing of what follows.
    Preface(Guarded<S>),
}

/// Waits for a request.
pub(super) async fn wait<S: Stream>(
    mut io: Guarded<S>,
    pace: &mut Pace,
    proxy: &Proxy,
    http2: bool,
) -> Woken<S> {
    loop {
        let ahead = io.ahead();
        if !ahead.is_empty() {
            if !http2 || !PREFACE.starts_with(ahead) {
                return Woken::Bytes(io);
            }
            if ahead.len() == PREFACE.len() {
                return Woken::Preface(io);
            }
        }
        let woken = poll_fn(|cx| {
            if let Poll::Ready(read) = io.poll_wake(cx) {
                return Poll::Ready(read.is_ok());
            }
            pace.poll(cx, &proxy.tuned.load().limits, false).map(|event| {
                cut(proxy, event);
                false
            })
        });
        if !woken.await {
            let _ = timeout(FAREWELL, io.shutdown()).await;
            return Woken::Over;
        }
    }
}

/// Serves requests until the connection is quiet (then it comes back) or over.
pub(super) async fn serve<S: Stream>(
    io: Guarded<S>,
    conn: &Arc<Conn>,
    pace: &mut Pace,
    proxy: &Arc<Proxy>,
) -> Option<Guarded<S>> {
    let tuned = proxy.tuned.load_full();
    let limits = &tuned.limits;
    let service = service_fn(|request| {
        let (proxy, conn) = (Arc::clone(proxy), Arc::clone(conn));
        // In a box of its own, which is there for no longer than the request.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, &conn).await) })
    });
    let mut served = http1::Builder::new()
        .max_headers(limits.header_count)
        .max_header_size(limits.header_bytes)
        // A head must fit; bodies pass through in pieces.
        .max_buf_size(limits.header_bytes.max(64 << 10))
        .serve_connection(TokioIo::new(io), service);
    if pace.finishing() {
        Pin::new(&mut served).graceful_shutdown();
    }
    let mut stalled = false;
    let quiet = poll_fn(|cx| {
        loop {
            // Errors are the client's: it left, or its bytes are no HTTP, which hyper has answered.
            if let Poll::Ready(ended) = pin!(&mut served).poll(cx) {
                if ended.is_err_and(|error| error.is_parse()) {
                    proxy.metrics.cut(Cut::Malformed);
                }
                return Poll::Ready(false);
            }
            let aside = !pace.finishing();
            match pace.poll(cx, &proxy.tuned.load().limits, aside) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(event @ Event::Overdue(_)) => {
                    cut(proxy, event);
                    stalled = event == Event::Overdue(Overdue::Stall);
                    return Poll::Ready(false);
                }
                Poll::Ready(Event::Finish) => Pin::new(&mut served).graceful_shutdown(),
                Poll::Ready(Event::Quiet) => return Poll::Ready(true),
            }
        }
    });
    if !quiet.await {
        if stalled {
            served.into_parts().io.inner().stream().abandon();
        }
        return None;
    }
    // Nothing is lost: every answer was taken, and what was read and not used yet comes back.
    let parts = served.into_parts();
    let mut io = parts.io.into_inner();
    io.give_back(&parts.read_buf);
    Some(io)
}

/// Counts what ended a connection.
fn cut(proxy: &Proxy, event: Event) {
    if let Event::Overdue(overdue) = event {
        proxy.metrics.cut(overdue.into());
    }
}
