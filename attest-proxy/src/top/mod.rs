//! `/top` of the operators' listener, and `attest-proxy top`, which shows it.
//!
//! Owns: the JSON of `/top` (docs/operating.md). Devices are named in it: who reaches the operators' port may see them.
//! Bounded: the [`MOST`] busiest devices and the oldest streams.

pub mod board;
pub mod client;
pub mod screen;
mod table;

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::{operators::Readiness, service::Proxy};

/// How many devices and streams are told.
pub const MOST: usize = 200;

/// What `/top` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The fleet.
    pub fleet: String,
    /// This program's version.
    pub version: String,
    /// Whether it takes requests, and why not.
    pub ready: Readiness,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Whose client left before.
    pub abandoned: u64,
    /// Refusals by code, the most frequent first; none that never came.
    pub refused: Vec<(String, u64)>,
    /// Admitted answers that ended before their end, by why; none that never were.
    #[serde(default)]
    pub cut: Vec<(String, u64)>,
    /// Open client connections.
    pub connections: u64,
    /// Devices that can be admitted.
    pub usable: usize,
    /// Devices that cannot.
    pub unusable: usize,
    /// Seconds since the registry's last sign of life.
    pub registry_age: Option<f64>,
    /// The busiest devices.
    pub devices: Vec<DeviceRow>,
    /// What runs, the oldest first.
    pub streams: Vec<StreamRow>,
    /// Model servers.
    pub upstreams: Vec<UpstreamRow>,
    /// Requests that wait for a place on one.
    pub queued: usize,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its id.
    pub device: String,
    /// Its policy.
    pub policy: String,
    /// Requests admitted, refused, running.
    pub admitted: u64,
    /// See `admitted`.
    pub refused: u64,
    /// See `admitted`.
    pub running: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Seconds since 1970 of its last request's end.
    pub last: u64,
}

/// A request at an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its number.
    pub request: String,
    /// Whose.
    pub device: String,
    /// Which model.
    pub model: Option<String>,
    /// Its path.
    pub path: String,
    /// For how long.
    pub seconds: f64,
    /// Bytes of the answer so far.
    pub bytes: u64,
}

/// A model server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamRow {
    /// Its address.
    pub upstream: String,
    /// How it stands, in one word.
    pub state: String,
    /// Answers that run on it.
    pub in_flight: usize,
    /// How many may.
    pub places: usize,
    /// Models in its memory.
    pub loaded: usize,
}

/// Gathers it.
#[must_use]
pub fn gather(proxy: &Proxy, ready: Readiness) -> Top {
    let view = proxy.follow.last_view();
    let (usable, unusable) = view.count();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut devices: Vec<DeviceRow> = view
        .devices()
        .map(|device| {
            let stats = device.stats();
            DeviceRow {
                device: device.id().to_string(),
                policy: device.entry().record.policy.to_string(),
                admitted: load(&stats.admitted),
                refused: load(&stats.refused),
                running: load(&stats.running),
                bytes: load(&stats.bytes),
                prompt_tokens: load(&stats.prompt_tokens),
                output_tokens: load(&stats.output_tokens),
                last: load(&stats.last),
            }
        })
        .collect();
    devices.sort_by(|a, b| {
        let busy = |row: &DeviceRow| (row.running, row.last, row.admitted.saturating_add(row.refused));
        busy(b).cmp(&busy(a)).then_with(|| a.device.cmp(&b.device))
    });
    devices.truncate(MOST);
    let streams = proxy
        .told
        .board
        .streams()
        .into_iter()
        .take(MOST)
        .map(|stream| StreamRow {
            request: stream.request.to_string(),
            device: stream.device.id().to_string(),
            model: stream.model.as_deref().map(str::to_owned),
            path: stream.path.to_string(),
            seconds: stream.since.elapsed().as_secs_f64(),
            bytes: load(&stream.bytes),
        });
    let (admitted, abandoned, refused) = proxy.metrics.outcomes();
    let registry_age = match proxy.follow.standing() {
        crate::follow::Standing::Never => None,
        crate::follow::Standing::Fresh(age) | crate::follow::Standing::Stale(age) => Some(age.as_secs_f64()),
    };
    Top {
        at: proxy.clock.millis(),
        fleet: proxy.site.fleet.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        admitted,
        abandoned,
        refused,
        cut: proxy.metrics.answers_cut(),
        connections: proxy.metrics.open_connections(),
        usable,
        unusable,
        registry_age,
        devices,
        streams: streams.collect(),
        upstreams: proxy
            .upstream
            .servers()
            .into_iter()
            .map(|server| UpstreamRow {
                upstream: server.name,
                state: server.standing.as_str().to_owned(),
                in_flight: server.running,
                places: server.places,
                loaded: server.loaded,
            })
            .collect(),
        queued: proxy.upstream.queued().0,
        ready,
    }
}
