//! Numbers for operators, in the Prometheus text format (version 0.0.4).
//!
//! Owns: the counters, and their names: one prefix, base units, `_total` for what only rises. No label is ever a device,
//! a model or a path: their number must not grow with the fleet.

mod histogram;
mod process;
mod text;

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use domain::UnixTime;
use evidence::Continuity;
use protocol::Refusal;

pub use histogram::Histogram;
use text::{PREFIX, Text};

use crate::{
    account::RouteKind,
    audit::AuditState,
    expiry::Ends,
    upstream::{Standing, UpstreamGauges},
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

/// All counters of a process.
#[derive(Debug)]
pub struct Metrics {
    admitted: AtomicU64,
    abandoned: AtomicU64,
    refused: Vec<AtomicU64>,
    decisions: Histogram,
    requests: [Histogram; RouteKind::ALL.len()],
    first_bytes: Histogram,
    queue_waits: Histogram,
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
            queue_waits: Histogram::new(WAITS),
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

    /// A request waited so long for an upstream that had room for it.
    pub fn queued(&self, waited: Duration) {
        self.queue_waits.observe(waited);
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

    fn write(&self, out: &mut String, gauges: &Gauges) -> fmt::Result {
        self.write_requests(out)?;
        self.write_evidence(&mut Text(out))?;
        self.write_connections(&mut Text(out), gauges)?;
        write_registry(&mut Text(out), gauges)?;
        if let Some(audit) = &gauges.audit {
            write_audit(&mut Text(out), audit)?;
        }
        if let Some((taken, dropped)) = gauges.spans {
            let mut text = Text(out);
            text.family("trace_spans_total", "counter", "Spans, by what became of them.")?;
            text.sample("trace_spans_total", "result=\"sent\"", taken)?;
            text.sample("trace_spans_total", "result=\"dropped\"", dropped)?;
        }
        let mut text = Text(out);
        text.family(
            "reloads_total",
            "counter",
            "Readings of configuration, keys and certificates while running.",
        )?;
        for (result, count) in ["ok", "failed"].iter().zip(&self.reloads) {
            let labels = format!("result=\"{result}\"");
            text.sample("reloads_total", &labels, count.load(Ordering::Relaxed))?;
        }
        text.gauge(
            "config_last_reload_successful",
            "0 when the last reading of configuration, keys and certificates failed, and those of before stay.",
            u8::from(!self.last_reload_failed()),
        )?;
        text.gauge(
            "config_keys_waiting_for_restart",
            "Keys of the configuration that were changed since the start and are not taken up by SIGHUP.",
            self.waits_for_restart.load(Ordering::Relaxed),
        )?;
        let name = "tls_certificate_expiry_timestamp_seconds";
        let help = "When the first certificate in the file ends, in seconds since 1970.";
        let ends = ["server", "client_ca"].iter().zip(&self.certificate_ends);
        let ends: Vec<_> = ends
            .map(|(which, end)| (which, end.load(Ordering::Relaxed)))
            .collect();
        if ends.iter().any(|(_, end)| *end > 0) {
            text.family(name, "gauge", help)?;
        }
        for (which, end) in ends.into_iter().filter(|(_, end)| *end > 0) {
            text.sample(name, &format!("certificate=\"{which}\""), end)?;
        }
        text.gauge(
            "ready",
            "1 when the process takes requests.",
            u8::from(gauges.ready),
        )?;
        text.family("build_info", "gauge", "Always 1.")?;
        text.sample(
            "build_info",
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            1,
        )?;
        process::write(out)
    }

    fn write_requests(&self, out: &mut String) -> fmt::Result {
        let name = "requests_total";
        let mut text = Text(out);
        text.family(name, "counter", "Requests decided, by what came of them.")?;
        for (outcome, count) in [("admitted", &self.admitted), ("abandoned", &self.abandoned)] {
            let labels = format!("outcome=\"{outcome}\",code=\"\",status=\"\"");
            text.sample(name, &labels, count.load(Ordering::Relaxed))?;
        }
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            // Two refusals share a code and differ in status.
            let (code, status) = (refusal.code(), refusal.status());
            let labels = format!("outcome=\"refused\",code=\"{code}\",status=\"{status}\"");
            text.sample(name, &labels, count.load(Ordering::Relaxed))?;
        }
        let mut histogram = |name: &str, help: &str, series: &[(String, &Histogram)]| {
            Text(out).family(name, "histogram", help)?;
            let whole = format!("{PREFIX}{name}");
            series
                .iter()
                .try_for_each(|(labels, histogram)| histogram.write(out, &whole, labels))
        };
        histogram(
            "decision_seconds",
            "Time to decide, without waiting for the client's body.",
            &[(String::new(), &self.decisions)],
        )?;
        let routes: Vec<_> = RouteKind::ALL
            .iter()
            .zip(&self.requests)
            .map(|(route, histogram)| (format!("route=\"{}\"", route.name()), histogram))
            .collect();
        histogram(
            "request_duration_seconds",
            "From a request's head to the end of its answer.",
            &routes,
        )?;
        histogram(
            "time_to_first_byte_seconds",
            "From a request's head to the first byte of a model's answer: the time to the first token where it streams.",
            &[(String::new(), &self.first_bytes)],
        )?;
        histogram(
            "queue_wait_seconds",
            "Time that admitted requests waited for an upstream with room.",
            &[(String::new(), &self.queue_waits)],
        )?;
        let mut text = Text(out);
        text.counter(
            "response_bytes_total",
            "Bytes of answers' bodies to clients.",
            &self.response_bytes,
        )?;
        text.family(
            "tokens_total",
            "counter",
            "Tokens that models counted in finished answers.",
        )?;
        for (kind, count) in ["prompt", "output"].iter().zip(&self.tokens) {
            text.sample(
                "tokens_total",
                &format!("kind=\"{kind}\""),
                count.load(Ordering::Relaxed),
            )?;
        }
        Ok(())
    }

    fn write_evidence(&self, text: &mut Text<'_>) -> fmt::Result {
        let name = "quotes_accepted_total";
        text.family(
            name,
            "counter",
            "Quotes accepted, by how they follow the last one.",
        )?;
        for (kind, count) in ["first", "continued", "rebooted", "resumed"]
            .iter()
            .zip(&self.quotes)
        {
            let labels = format!("continuity=\"{kind}\"");
            text.sample(name, &labels, count.load(Ordering::Relaxed))?;
        }
        text.counter(
            "quotes_stale_total",
            "Genuine quotes whose counters do not follow the last accepted ones: look into each.",
            &self.stale_quotes,
        )?;
        text.counter("sessions_opened_total", "Sessions opened.", &self.sessions)
    }

    fn write_connections(&self, text: &mut Text<'_>, gauges: &Gauges) -> fmt::Result {
        text.gauge(
            "connections",
            "Open client connections.",
            self.connections.load(Ordering::Relaxed),
        )?;
        text.counter(
            "connections_total",
            "Client connections accepted.",
            &self.connections_total,
        )?;
        text.counter(
            "connections_refused_total",
            "Client connections turned away.",
            &self.connections_refused,
        )?;
        text.gauge(
            "upstream_requests_in_flight",
            "Requests in flight to the upstream.",
            gauges.in_flight,
        )?;
        let upstream = &gauges.upstream;
        let name = "upstream_servers";
        text.family(name, "gauge", "Model servers, by how they stand.")?;
        for (standing, count) in Standing::ALL.iter().zip(upstream.standing) {
            text.sample(name, &format!("standing=\"{}\"", standing.as_str()), count)?;
        }
        text.gauge(
            "upstream_queue_requests",
            "Requests that wait for a place on a server.",
            upstream.queued,
        )?;
        text.gauge(
            "upstream_queue_bytes",
            "Bytes of the bodies of requests that wait.",
            upstream.queued_bytes,
        )?;
        text.single(
            "upstream_retries_total",
            "counter",
            "Requests that were sent a second time.",
            upstream.retries,
        )
    }
}

fn write_registry(text: &mut Text<'_>, gauges: &Gauges) -> fmt::Result {
    let name = "registry_devices";
    text.family(
        name,
        "gauge",
        "Registered devices, by whether they can be admitted.",
    )?;
    text.sample(name, "usable=\"true\"", gauges.usable)?;
    text.sample(name, "usable=\"false\"", gauges.unusable)?;
    if let Some(age) = gauges.registry_age {
        text.gauge(
            "registry_age_seconds",
            "Since the registry's last sign of life.",
            age.as_secs_f64(),
        )?;
    }
    text.gauge(
        "registry_max_age_seconds",
        "The age from which on every request is refused.",
        gauges.registry_max_age.as_secs_f64(),
    )
}

fn write_audit(text: &mut Text<'_>, audit: &AuditState) -> fmt::Result {
    let help = "Lines of the audit log written by this process.";
    text.single("audit_lines_total", "counter", help, audit.lines)?;
    let help = "Lines of the audit log that could not be written.";
    text.single("audit_lost_total", "counter", help, audit.lost)?;
    let help = "The number of the audit log's last line: it never falls, unless lines were cut off.";
    text.gauge("audit_sequence", help, audit.sequence)?;
    text.gauge("audit_file_bytes", "Size of the audit log's file.", audit.bytes)?;
    text.gauge(
        "audit_queue_lines",
        "Lines that wait to be written.",
        audit.queued,
    )?;
    let help = "1 while the audit log cannot be written.";
    text.gauge("audit_failing", help, u8::from(audit.failing))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGES: Gauges = Gauges {
        usable: 3,
        unusable: 1,
        registry_age: Some(Duration::from_millis(1500)),
        registry_max_age: Duration::from_secs(30),
        in_flight: 2,
        upstream: UpstreamGauges {
            standing: [4, 3, 2, 1],
            queued: 6,
            queued_bytes: 7,
            retries: 8,
        },
        ready: true,
        audit: Some(AuditState {
            lines: 1,
            lost: 2,
            sequence: 3,
            bytes: 4,
            queued: 5,
            failing: true,
        }),
        spans: Some((7, 8)),
    };

    #[test]
    fn counts_appear_under_their_names() {
        let metrics = Metrics::default();
        metrics.admitted();
        metrics.refused(Refusal::PskUnknown);
        metrics.refused(Refusal::PathUnknown);
        metrics.quote(Continuity::Rebooted);
        metrics.decided(Duration::from_micros(60));
        metrics.decided(Duration::from_secs(9));
        metrics.abandoned();
        metrics.finished(
            RouteKind::Inference,
            Duration::from_millis(700),
            Some(Duration::from_millis(40)),
            9,
            Some((5, 6)),
        );
        metrics.queued(Duration::from_millis(3));
        let text = metrics.render(&GAUGES);
        for line in [
            "attest_proxy_requests_total{outcome=\"abandoned\",code=\"\",status=\"\"} 1",
            "attest_proxy_request_duration_seconds_bucket{route=\"inference\",le=\"0.5\"} 0",
            "attest_proxy_request_duration_seconds_bucket{route=\"inference\",le=\"1\"} 1",
            "attest_proxy_request_duration_seconds_sum{route=\"inference\"} 0.7",
            "attest_proxy_request_duration_seconds_count{route=\"read\"} 0",
            "attest_proxy_time_to_first_byte_seconds_bucket{le=\"0.05\"} 1",
            "attest_proxy_queue_wait_seconds_count 1",
            "attest_proxy_upstream_servers{standing=\"well\"} 4",
            "attest_proxy_upstream_servers{standing=\"gone\"} 1",
            "attest_proxy_upstream_queue_requests 6",
            "attest_proxy_upstream_queue_bytes 7",
            "attest_proxy_upstream_retries_total 8",
            "attest_proxy_response_bytes_total 9",
            "attest_proxy_tokens_total{kind=\"output\"} 6",
            "attest_proxy_audit_sequence 3",
            "attest_proxy_audit_failing 1",
            "attest_proxy_requests_total{outcome=\"admitted\",code=\"\",status=\"\"} 1",
            "attest_proxy_requests_total{outcome=\"refused\",code=\"psk-unknown\",status=\"401\"} 1",
            "attest_proxy_requests_total{outcome=\"refused\",code=\"path-denied\",status=\"404\"} 1",
            "attest_proxy_requests_total{outcome=\"refused\",code=\"path-denied\",status=\"403\"} 0",
            "attest_proxy_quotes_accepted_total{continuity=\"rebooted\"} 1",
            "attest_proxy_decision_seconds_bucket{le=\"0.0001\"} 1",
            "attest_proxy_decision_seconds_bucket{le=\"+Inf\"} 2",
            "attest_proxy_decision_seconds_count 2",
            "attest_proxy_registry_devices{usable=\"false\"} 1",
            "attest_proxy_registry_age_seconds 1.5",
            "attest_proxy_ready 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_sample_has_help_and_type() {
        let text = Metrics::default().render(&GAUGES);
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| name.strip_suffix(s))
                .unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(text.contains(&format!("# HELP {name} ")), "{line}");
        }
    }
}
