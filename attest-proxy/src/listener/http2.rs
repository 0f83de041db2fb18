//! One connection of HTTP/2.
//!
//! Owns: the bounds that hyper is given, and the end of the connection: idle, it is told to go (GOAWAY) and closed; old, or
//! at the program's end, it is told, and its streams end by themselves.
//! Refuses: extended CONNECT. What floods (frames that cost us and move nothing, header blocks without an end) is ended
//! by the watch over the frames, below hyper.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::header;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    Stream,
    pace::{Event, Pace},
    streams::Streams,
};
use crate::{
    metrics::Cut,
    service::Proxy,
    wire::{Conn, Framed, Overdue},
};

/// What a client may send of one body, and of all bodies of a connection, before we have read it.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What of an answer is kept for a client that has not opened its window.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client reset before they were answered (CVE-2023-44487), and that we reset for its errors.
const RESETS: usize = 20;
/// What a head may have on the wire beyond its bound before the connection is ended; up to there, it is answered 431.
const BLOCK_MORE: usize = 4 << 10;
/// For how many clients a trusted peer speaks: a proxy that puts all of them on one connection sends their resets too, and
/// must not lose everybody's requests for it.
const CROWD: u8 = 20;
/// How long a connection that was told to go may take to do so, when nothing runs on it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a connection to its end. `read`: what was read of it already.
pub(super) async fn serve<S: Stream>(
    stream: S,
    read: Bytes,
    conn: &Arc<Conn>,
    pace: Pace,
    proxy: &Arc<Proxy>,
) {
    // What hyper is told at the beginning holds for this connection to its end.
    let tuned = proxy.tuned.load_full();
    let limits = &tuned.limits;
    let conn = conn.multiplexed();
    let mut pace = pace.of(Arc::clone(&conn));
    let streams = Streams::new(conn.opened(), limits.write_stall, Arc::clone(&proxy.metrics));
    let trusted = tuned.peers.trusts(conn.peer().address());
    let crowd = if trusted { CROWD } else { 1 };
    let resets = RESETS.saturating_mul(usize::from(crowd));
    let io = Framed::new(
        stream,
        read,
        Arc::clone(&conn),
        limits.header_bytes.saturating_add(BLOCK_MORE),
        u32::from(crowd),
    );
    let opening = streams.clone();
    let service = service_fn(|request| {
        let (proxy, conn, streams) = (Arc::clone(proxy), Arc::clone(&conn), opening.clone());
        let flow = streams.open();
        async move {
            let mut response = proxy.answer(request, &conn).await;
            // What a refusal says of HTTP/1's connection has no place here.
            response.headers_mut().remove(header::CONNECTION);
            Ok::<_, std::convert::Infallible>(response.map(|body| streams.watch(body, flow)))
        }
    });
    let mut served = pin!(
        http2::Builder::new(streams)
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(resets)
            .max_local_error_reset_streams(resets)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(io), service)
    );
    if pace.finishing() {
        served.as_mut().graceful_shutdown();
    }
    loop {
        let over = poll_fn(|cx| {
            loop {
                // Errors are the client's.
                if served.as_mut().poll(cx).is_ready() {
                    if conn.violation().is_some() {
                        proxy.metrics.cut(Cut::Flood);
                    }
                    return Poll::Ready(true);
                }
                // One that was told to go is looked at when nothing runs on it: a client that is gone never says that it heard.
                let aside = pace.finishing();
                match pace.poll(cx, &proxy.tuned.load().limits, aside) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Event::Overdue(overdue)) => {
                        proxy.metrics.cut(overdue.into());
                        return Poll::Ready(overdue != Overdue::Idle);
                    }
                    Poll::Ready(Event::Finish) => served.as_mut().graceful_shutdown(),
                    Poll::Ready(Event::Quiet) => return Poll::Ready(false),
                }
            }
        });
        if over.await {
            return;
        }
        served.as_mut().graceful_shutdown();
        if timeout(FAREWELL, served.as_mut()).await.is_ok() || conn.quiet_since().is_some() {
            return;
        }
        // What the client asked before it heard is answered.
    }
}
