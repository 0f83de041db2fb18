//! Numbers for operators, in the Prometheus text format (version 0.0.4).
//!
//! Owns: the counters, and their names: one prefix, base units, `_total` for what only rises. No label is ever a device,
//! a model or a path: their number must not grow with the fleet.

mod cuts;
mod histogram;
mod process;
mod render;
mod text;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::UnixTime;
use evidence::Continuity;
use protocol::Refusal;

use cuts::Cuts;
pub use cuts::{AnswerCut, Cut};
pub use histogram::Histogram;

use crate::{
    account::RouteKind,
    audit::AuditState,
    expiry::Ends,
    upstream::{UpstreamGauges, WaitEnd},
};

/// Upper bounds of the decision histogram, in microseconds.
const DECISIONS: &[u64] = &[50, 100, 250, 500, 1_000, 5_000, 25_000, 250_000];
/// Of whole requests: from what is refused at once to what a large model takes.
const REQUESTS: &[u64] = &[
    500,
    1_000,
    5_000,
    25_000,
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];
/// Of waiting: for the first byte of an answer, in the queue.
const WAITS: &[u64] = &[
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
];

/// How long requests waited in the queue, by how that ended.
pub type Waits = [Histogram; WaitEnd::ALL.len()];

/// All counters of a process.
#[derive(Debug)]
pub struct Metrics {
    admitted: AtomicU64,
    abandoned: AtomicU64,
    refused: Vec<AtomicU64>,
    decisions: Histogram,
    requests: [Histogram; RouteKind::ALL.len()],
    first_bytes: Histogram,
    waits: Arc<Waits>,
    cuts: Cuts,
    response_bytes: AtomicU64,
    tokens: [AtomicU64; 2],
    quotes: [AtomicU64; 4],
    connections: AtomicU64,
    connections_total: AtomicU64,
    connections_refused: AtomicU64,
    sessions: AtomicU64,
    stale_quotes: AtomicU64,
    reloads: [AtomicU64; 2],
    reload_failed: AtomicBool,
    waits_for_restart: AtomicUsize,
    /// Seconds of the server's certificate and the client CA; 0: none.
    certificate_ends: [AtomicU64; 2],
}

/// What is measured when it is asked for.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// Devices that can be admitted.
    pub usable: usize,
    /// Devices that are registered and cannot be admitted.
    pub unusable: usize,
    /// Since the registry's last sign of life; none yet: `None`.
    pub registry_age: Option<Duration>,
    /// How old the registry may become.
    pub registry_max_age: Duration,
    /// Requests in flight to the upstream.
    pub in_flight: usize,
    /// The model servers and the queue in front of them.
    pub upstream: UpstreamGauges,
    /// Whether the process takes requests.
    pub ready: bool,
    /// How the audit log does, where there is one.
    pub audit: Option<AuditState>,
    /// Lines of the log that were dropped.
    pub log_lost: u64,
    /// Spans that a collector took, and spans that are lost, where traces are made.
    pub spans: Option<(u64, u64)>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            admitted: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            refused: Refusal::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            decisions: Histogram::new(DECISIONS),
            requests: std::array::from_fn(|_| Histogram::new(REQUESTS)),
            first_bytes: Histogram::new(WAITS),
            waits: Arc::new(std::array::from_fn(|_| Histogram::new(WAITS))),
            cuts: Cuts::default(),
            response_bytes: AtomicU64::new(0),
            tokens: std::array::from_fn(|_| AtomicU64::new(0)),
            quotes: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            stale_quotes: AtomicU64::new(0),
            reloads: std::array::from_fn(|_| AtomicU64::new(0)),
            reload_failed: AtomicBool::new(false),
            waits_for_restart: AtomicUsize::new(0),
            certificate_ends: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// A request was admitted.
    pub fn admitted(&self) {
        add(&self.admitted);
    }

    /// A request was refused.
    pub fn refused(&self, refusal: Refusal) {
        // The variants are numbered as the table lists them.
        let row = Refusal::ALL.iter().position(|r| *r == refusal);
        if let Some(counter) = row.and_then(|row| self.refused.get(row)) {
            add(counter);
        }
    }

    /// The client left before its request was decided.
    pub fn abandoned(&self) {
        add(&self.abandoned);
    }

    /// A decision took so long, the body's coming not counted.
    pub fn decided(&self, took: Duration) {
        self.decisions.observe(took);
    }

    /// A request is over: how long it took, when the first byte of its answer's body went out, what it was.
    pub fn finished(
        &self,
        route: RouteKind,
        took: Duration,
        first: Option<Duration>,
        bytes: u64,
        tokens: Option<(u64, u64)>,
    ) {
        let of_route = RouteKind::ALL.iter().position(|kind| *kind == route);
        if let Some(histogram) = of_route.and_then(|at| self.requests.get(at)) {
            histogram.observe(took);
        }
        if let (RouteKind::Inference, Some(first)) = (route, first) {
            self.first_bytes.observe(first);
        }
        self.response_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some((prompt, output)) = tokens {
            let [prompts, outputs] = &self.tokens;
            prompts.fetch_add(prompt, Ordering::Relaxed);
            outputs.fetch_add(output, Ordering::Relaxed);
        }
    }

    /// Where waiting in the queue is counted.
    #[must_use]
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    /// A connection, or one stream of it, was ended by us.
    pub fn cut(&self, why: Cut) {
        self.cuts.connection(why);
    }

    /// An admitted answer is over: whole, broken off for a reason, or left.
    pub fn answer_ended(&self, broken: Option<Refusal>, complete: bool) {
        if let Some(why) = AnswerCut::of(broken, complete) {
            self.cuts.answer(why);
        }
    }

    /// So many changed keys of the configuration wait for a restart.
    pub fn waits_for_restart(&self, keys: usize) {
        self.waits_for_restart.store(keys, Ordering::Relaxed);
    }

    /// When the certificates of TLS end.
    pub fn certificates(&self, ends: Ends) {
        for (kept, end) in self.certificate_ends.iter().zip([ends.server, ends.client_ca]) {
            kept.store(end.map_or(0, UnixTime::as_secs), Ordering::Relaxed);
        }
    }

    /// Configuration, keys and certificates were read again, or could not be.
    pub fn reloaded(&self, good: bool) {
        let [well, badly] = &self.reloads;
        add(if good { well } else { badly });
        self.reload_failed.store(!good, Ordering::Relaxed);
    }

    /// Whether the last reading of keys and certificates failed.
    #[must_use]
    pub fn last_reload_failed(&self) -> bool {
        self.reload_failed.load(Ordering::Relaxed)
    }

    /// A quote was accepted.
    pub fn quote(&self, continuity: Continuity) {
        let [first, continued, rebooted, resumed] = &self.quotes;
        add(match continuity {
            Continuity::First => first,
            Continuity::Continued => continued,
            Continuity::Rebooted => rebooted,
            Continuity::Resumed => resumed,
        });
    }

    /// A genuine quote was older than what its TPM had shown before.
    pub fn stale_quote(&self) {
        add(&self.stale_quotes);
    }

    /// A session was opened.
    pub fn session(&self) {
        add(&self.sessions);
    }

    /// A connection was accepted.
    pub fn connected(&self) {
        add(&self.connections);
        add(&self.connections_total);
    }

    /// A connection ended.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was turned away.
    pub fn turned_away(&self) {
        add(&self.connections_refused);
    }

    /// What came of requests, for `/top`: admitted, abandoned, and refusals by code, the most frequent first.
    #[must_use]
    pub fn outcomes(&self) -> (u64, u64, Vec<(String, u64)>) {
        let mut codes: Vec<(String, u64)> = Vec::new();
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            let count = count.load(Ordering::Relaxed);
            match codes.iter_mut().find(|(code, _)| code == refusal.code()) {
                // Two refusals share a code.
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => codes.push((refusal.code().to_owned(), count)),
            }
        }
        codes.retain(|(_, count)| *count > 0);
        codes.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.admitted), get(&self.abandoned), codes)
    }

    /// Admitted answers that ended before their end, by why, for `/top`.
    #[must_use]
    pub fn answers_cut(&self) -> Vec<(String, u64)> {
        self.cuts.answers()
    }

    /// Open client connections.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Everything, as Prometheus reads it.
    #[must_use]
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(4096);
        // Writing to a string does not fail.
        let _ = self.write(&mut out, gauges);
        out
    }
}
