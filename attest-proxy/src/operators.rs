//! The operators' listener: `/healthz`, `/readyz`, `/metrics`, `/top`, on a port of its own.
//!
//! Owns: what "ready" means: the registry was read and is proven alive, the upstream takes connections, and we are not
//! ending, and the audit log takes lines. Anyone who reaches this port may read it: nothing here is secret; devices are named in `/top` alone.

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

use crate::{audit::Audit, follow::Standing, metrics::Gauges, service::Proxy, top, trace::Tracer};

/// Probes and scrapers at one time; more wait.
const CONNECTIONS: usize = 64;

/// Whether the process takes requests, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// The registry: `ok`, or what is wrong.
    pub registry: String,
    /// The upstream: `ok`, or what is wrong.
    pub upstream: String,
    /// The audit log: `ok`, `off`, or what is wrong.
    pub audit: String,
    /// The fleet's keys and the certificate: which key, and whether the last reading of them failed.
    pub keys: String,
    /// Whether the process is ending.
    pub draining: bool,
    /// Everything for which it is not ready.
    pub reasons: Vec<String>,
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
        "/top" => {
            let top = top::gather(proxy, readiness(proxy, draining).await);
            let body = serde_json::to_string(&top).unwrap_or_default();
            text(StatusCode::OK, "application/json", body)
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain",
            "/healthz, /readyz, /metrics, /top\n".into(),
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
    // A proxy that goes on without its audit log says so in its metrics; one that refuses is of no use.
    let audit = match &proxy.told.audit {
        None => Ok("off"),
        Some(audit) => audit.check().map(|()| "ok"),
    };
    let mut reasons = Vec::new();
    if draining {
        reasons.push("the process is ending".to_owned());
    }
    if let Err(why) = &registry {
        reasons.push(format!("registry: {why}"));
    }
    if let Err(why) = &upstream {
        reasons.push(format!("upstream: {why}"));
    }
    if let Err(why) = &audit
        && proxy.told.audit.as_ref().is_some_and(Audit::refuses)
    {
        reasons.push(format!("audit: {why}"));
    }
    let keys = format!("key {}", proxy.keys.load().0.current().id());
    Readiness {
        ready: reasons.is_empty(),
        registry: registry.err().unwrap_or_else(|| {
            if proxy.follow.is_from_disk() {
                "ok, from the snapshot on disk: the registry was not reached yet".to_owned()
            } else {
                "ok".to_owned()
            }
        }),
        upstream: upstream.err().unwrap_or_else(|| "ok".to_owned()),
        audit: audit.map_or_else(|why| why, str::to_owned),
        keys: match proxy.metrics.last_reload_failed() {
            true => format!(
                "{keys}; the last reading of configuration, keys and certificates failed, those of before stay"
            ),
            false => keys,
        },
        draining,
        reasons,
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
        registry_max_age: proxy.follow.max_age(),
        in_flight: proxy.upstream.in_flight(),
        upstream: proxy.upstream.gauges(),
        ready,
        audit: proxy.told.audit.as_ref().map(Audit::state),
        log_lost: crate::log::lost(),
        spans: proxy.told.tracer.as_ref().map(Tracer::sent),
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
