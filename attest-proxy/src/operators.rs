//! The operators' listener: `/healthz`, `/readyz`, `/metrics`, on a port of its own.
//!
//! Owns: what "ready" means: the registry was read and is proven alive, the upstream takes connections, and we are not
//! ending. Anyone who reaches this port may read it: nothing here is secret, and no device is named.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::sleep,
};

use crate::{follow::Standing, metrics::Gauges, service::Proxy};

/// Probes and scrapers at one time; more wait.
const CONNECTIONS: usize = 64;

/// Whether the process takes requests, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// The registry: `ok`, or what is wrong.
    pub registry: String,
    /// The upstream: `ok`, or what is wrong.
    pub upstream: String,
    /// Whether the process is ending.
    pub draining: bool,
}

/// Serves operators until the program ends.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (proxy, stop) = (Arc::clone(&proxy), stop.clone());
                tokio::spawn(async move {
                    connection(stream, &proxy, &stop).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, proxy: &Arc<Proxy>, stop: &watch::Receiver<bool>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let draining = *stop.borrow();
        Ok::<_, Infallible>(answer(&request, proxy, draining).await)
    });
    // A probe that breaks off is nobody's concern.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: &Request<Incoming>, proxy: &Proxy, draining: bool) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => {
            let readiness = readiness(proxy, draining).await;
            let status = if readiness.ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            let body = serde_json::to_string(&readiness).unwrap_or_default();
            text(status, "application/json", body)
        }
        "/metrics" => {
            let gauges = gauges(proxy, readiness(proxy, draining).await.ready);
            text(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                proxy.metrics.render(&gauges),
            )
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain",
            "/healthz, /readyz, /metrics\n".into(),
        ),
    }
}

/// Asks everything that a request would need.
pub async fn readiness(proxy: &Proxy, draining: bool) -> Readiness {
    let registry = match proxy.follow.standing() {
        Standing::Fresh(_) => Ok(()),
        Standing::Never => Err("it was not reached yet".to_owned()),
        Standing::Stale(age) => Err(format!("no sign of life for {} s", age.as_secs())),
    };
    let upstream = proxy.upstream.probe().await.map_err(|e| e.to_string());
    let say = |result: &Result<(), String>| result.as_ref().err().cloned().unwrap_or_else(|| "ok".to_owned());
    Readiness {
        ready: registry.is_ok() && upstream.is_ok() && !draining,
        registry: say(&registry),
        upstream: say(&upstream),
        draining,
    }
}

fn gauges(proxy: &Proxy, ready: bool) -> Gauges {
    let (usable, unusable) = proxy.follow.last_view().count();
    let registry_age = match proxy.follow.standing() {
        Standing::Never => None,
        Standing::Fresh(age) | Standing::Stale(age) => Some(age),
    };
    Gauges {
        usable,
        unusable,
        registry_age,
        in_flight: proxy.upstream.in_flight(),
        ready,
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
