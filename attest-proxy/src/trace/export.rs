//! The task that sends spans to a collector.
//!
//! Owns: batches, and that a collector which is slow, away or wrong costs nothing but spans: the queue is bounded, what does not fit or
//! is not taken is counted and gone, and no request ever waits.
//! The collector is trusted with what is in spans (devices, models, routes), and with nothing else. Plain HTTP: it is meant to
//! be beside us.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::mpsc::Receiver,
    time::{sleep, timeout},
};

use super::otlp::{self, Span};
use crate::config::Collector;

/// Spans of one export.
const BATCH: usize = 256;
/// How long a batch is waited for.
const LINGER: Duration = Duration::from_secs(1);
/// How long an export may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is read.
const MAX_ANSWER: usize = 64 << 10;

/// What became of spans.
#[derive(Debug, Default)]
pub struct Sent {
    /// Taken by the collector.
    pub taken: AtomicU64,
    /// Not.
    pub dropped: AtomicU64,
}

pub(super) async fn run(collector: Collector, fleet: String, mut spans: Receiver<Span>, sent: Arc<Sent>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut failing = false;
    loop {
        if spans.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        sleep(LINGER).await;
        while batch.len() < BATCH {
            match spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_) => break,
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = otlp::body(&fleet, &batch);
        batch.clear();
        let result = timeout(PATIENCE, post(&collector, body)).await;
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        match error {
            None => {
                sent.taken.fetch_add(count, Ordering::Relaxed);
                failing = false;
            }
            Some(why) => {
                sent.dropped.fetch_add(count, Ordering::Relaxed);
                if !failing {
                    tracing::warn!(target: "traces", why, "the collector takes no spans");
                }
                failing = true;
            }
        }
    }
}

async fn post(collector: &Collector, body: String) -> Result<(), String> {
    let stream = TcpStream::connect(&collector.address)
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driving = tokio::spawn(async move { drop(connection.await) });
    let request = Request::post(collector.path.as_str())
        .header(header::HOST, collector.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::USER_AGENT,
            concat!("attest-proxy/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string());
    let status = match response {
        Ok(response) => {
            let status = response.status();
            // Read to its end, so that the collector is not cut off while it speaks.
            let _ = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            status
        }
        Err(error) => {
            driving.abort();
            return Err(error);
        }
    };
    driving.abort();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}
