//! One model server: its connections, its places, what is held of its health, what it has.
//!
//! Owns: the state that choices are made by. Where nothing is wrong with a server, asking for its health takes no lock.
//! `running` changes under the gate's lock alone.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::{
    health::{Health, Standing},
    inventory::Inventory,
    pick::Candidate,
    pool::Pool,
    tls::{Secure, Trust},
};
use crate::config::{Limits, UpstreamServer};

#[derive(Debug)]
pub(super) struct Server {
    name: Box<str>,
    tls_name: Option<ServerName<'static>>,
    /// Its URL in the configuration, which several servers may share.
    of: Box<str>,
    host: HeaderValue,
    pub(super) pool: Pool,
    weight: AtomicUsize,
    places: AtomicUsize,
    running: AtomicUsize,
    health: Mutex<Health>,
    clean: AtomicBool,
    inventory: ArcSwap<Inventory>,
}

/// A server, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// `host:port`, or `address:port` where a name stands for several.
    pub name: String,
    /// Whether it is asked.
    pub standing: Standing,
    /// Answers that run on it.
    pub running: usize,
    /// How many may.
    pub places: usize,
    /// How many models it has; `None`: not known.
    pub installed: Option<usize>,
    /// How many are in its memory.
    pub loaded: usize,
}

impl Server {
    /// A server at `address`, that is not connected yet.
    pub(super) fn new(
        spec: &UpstreamServer,
        address: &str,
        trust: &Arc<Trust>,
        limits: &Limits,
    ) -> Arc<Self> {
        let secure = spec
            .tls_name
            .as_ref()
            .map(|name| Secure::new(name.clone(), trust));
        Arc::new(Self {
            name: address.into(),
            tls_name: spec.tls_name.clone(),
            of: spec.url.to_string().into(),
            // An authority that parsed is a header value; were it not, the upstream would refuse every request.
            host: HeaderValue::from_str(spec.url.authority()).unwrap_or(HeaderValue::from_static("upstream")),
            pool: Pool::new(address, secure, limits),
            weight: AtomicUsize::new(spec.weight.get()),
            places: AtomicUsize::new(spec.places.get()),
            running: AtomicUsize::new(0),
            health: Mutex::default(),
            clean: AtomicBool::new(true),
            inventory: ArcSwap::default(),
        })
    }

    /// Takes up another weight, other places and bounds. What runs beyond the places runs on.
    pub(super) fn tune(&self, spec: &UpstreamServer, limits: &Limits) {
        self.weight.store(spec.weight.get(), Ordering::Relaxed);
        self.places.store(spec.places.get(), Ordering::Relaxed);
        self.pool.tune(limits);
    }

    fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// `address:port`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `http://address:port`, or `https`.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls_name.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.name)
    }

    /// Whether it is one of those that `spec` stands for.
    pub(super) fn is_of(&self, spec: &UpstreamServer) -> bool {
        *self.of == *spec.url.to_string()
    }

    /// Whether it may stay where `spec` is: also reached in the same way, under the same name.
    pub(super) fn stands_for(&self, spec: &UpstreamServer) -> bool {
        self.is_of(spec)
            && self.tls_name == spec.tls_name
            && (spec.each_address || self.name() == spec.url.address())
    }

    /// What goes into the `Host` header.
    pub(super) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Takes a place; under the gate's lock.
    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back; under the gate's lock.
    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn has_room(&self) -> bool {
        self.running() < self.places()
    }

    /// Whether a request may go there now.
    pub(super) fn may(&self) -> bool {
        self.clean.load(Ordering::Relaxed) || self.health().may(Instant::now())
    }

    /// What a choice needs to know of it. `model` is in its one spelling.
    pub(super) fn candidate(&self, model: Option<&str>) -> Candidate {
        let inventory = self.inventory.load();
        Candidate {
            usable: self.may(),
            has: model.and_then(|model| Some(inventory.installed.as_ref()?.has(model))),
            // What is about no model finds every server as warm as any other.
            loaded: model.is_none_or(|model| inventory.loaded.has(model)),
            running: self.running(),
            places: self.places(),
            weight: self.weight.load(Ordering::Relaxed),
        }
    }

    /// A request goes there.
    pub(super) fn chosen(&self) {
        self.note(|health, _| health.chosen());
    }

    /// It answered a request.
    pub(super) fn answered(&self) {
        self.note(|health, _| health.answered());
    }

    /// An answer of it came whole.
    pub(super) fn finished(&self) {
        self.note(|health, _| health.finished());
    }

    /// An answer of it broke after it had begun.
    pub(super) fn broke(&self) {
        self.note_always(Health::broke);
    }

    /// A request failed on it.
    pub(super) fn failed(&self) {
        self.note_always(Health::failed);
    }

    /// A request that went there was given up.
    pub(super) fn given_up(&self) {
        self.note(Health::given_up);
    }

    /// It answered a probe.
    pub(super) fn probed(&self) {
        self.note(|health, _| health.probed());
    }

    /// It did not answer a probe.
    pub(super) fn missed(&self) {
        self.note_always(|health, _| health.missed());
    }

    /// Its lists were read.
    pub(super) fn stock(&self, inventory: Inventory) {
        self.inventory.store(Arc::new(inventory));
    }

    pub(super) fn status(&self) -> ServerStatus {
        let inventory = self.inventory.load();
        ServerStatus {
            name: self.name.to_string(),
            standing: self.health().standing(),
            running: self.running(),
            places: self.places(),
            installed: inventory.installed.as_ref().map(super::inventory::Models::len),
            loaded: inventory.loaded.len(),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Health, Instant)) {
        // Good news about a server of which there is no bad news.
        if !self.clean.load(Ordering::Relaxed) {
            self.note_always(change);
        }
    }

    fn note_always(&self, change: impl FnOnce(&mut Health, Instant)) {
        let (before, after) = {
            let mut health = self.health();
            let before = health.standing();
            change(&mut health, Instant::now());
            self.clean.store(health.is_clean(), Ordering::Relaxed);
            (before, health.standing())
        };
        if before == after {
            return;
        }
        let (server, was, now) = (self.name(), before.as_str(), after.as_str());
        if after == Standing::Well {
            tracing::info!(target: "upstream", server, was, now, "the server is well again");
        } else {
            tracing::warn!(target: "upstream", server, was, now, "the server's standing changed");
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
