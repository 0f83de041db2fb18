//! Who is told what came of requests, and the beginning of each account.
//!
//! Owns: the numbers of requests. Made once, when the server starts.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::request::Parts;

use super::{
    Account,
    kind::{ProofKind, RouteKind},
};
use crate::{audit::Audit, clock::Clock, gate::Who, log, metrics::Metrics, top::board::Board, trace::Tracer};

/// Who is told.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit log.
    pub audit: Option<Audit>,
    /// Traces.
    pub tracer: Option<Tracer>,
    /// What runs now.
    pub board: Board,
    pub(super) clock: Clock,
    /// Of this process: what numbers of requests begin with, so that those of two processes differ.
    instance: u32,
    requests: AtomicU64,
}

impl Telemetry {
    /// Tells metrics, and what else there is. `instance` is random.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        audit: Option<Audit>,
        tracer: Option<Tracer>,
        clock: Clock,
        instance: u32,
    ) -> Self {
        Self {
            metrics,
            audit,
            tracer,
            board: Board::default(),
            clock,
            instance,
            requests: AtomicU64::new(0),
        }
    }

    /// A request came.
    #[must_use]
    pub fn begin(self: &Arc<Self>, parts: &Parts, peer: Option<IpAddr>) -> Box<Account> {
        let place = self.audit.as_ref().and_then(Audit::reserve);
        let recording = self
            .tracer
            .as_ref()
            .and_then(|tracer| tracer.begin(&parts.headers));
        Box::new(Account {
            recording,
            running: None,
            stream: None,
            told: Arc::clone(self),
            instance: self.instance,
            number: self.requests.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            spent: Duration::ZERO,
            method: log::method(&parts.method),
            path: None,
            route: RouteKind::None,
            proof: ProofKind::None,
            model: None,
            peer,
            who: Who::Nobody,
            refusal: None,
            status: 0,
            why: String::new(),
            verdict: None,
            decided: None,
            place,
            end_place: None,
            audited: false,
            first: None,
            ended: None,
            bytes: 0,
            tokens: None,
            tally: None,
            complete: false,
            broken: None,
        })
    }

    /// Writes what is left to be written. Blocks.
    pub fn close(&self) {
        if let Some(audit) = &self.audit {
            audit.close();
        }
    }
}
