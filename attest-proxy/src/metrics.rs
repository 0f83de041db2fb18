//! Numbers for operators, in the Prometheus text format (version 0.0.4).
//!
//! Owns: the counters, and their names: one prefix, base units, `_total` for what only rises. No label is ever a device,
//! a model or a path: their number must not grow with the fleet.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use evidence::Continuity;
use protocol::Refusal;

/// Upper bounds of the decision histogram, in microseconds.
const BOUNDS: [u64; 8] = [50, 100, 250, 500, 1_000, 5_000, 25_000, 250_000];

/// All counters of a process.
#[derive(Debug)]
pub struct Metrics {
    admitted: AtomicU64,
    refused: Vec<AtomicU64>,
    decisions: [AtomicU64; BOUNDS.len() + 1],
    decision_micros: AtomicU64,
    quotes: [AtomicU64; 4],
    connections: AtomicU64,
    connections_total: AtomicU64,
    connections_refused: AtomicU64,
    sessions: AtomicU64,
    stale_quotes: AtomicU64,
}

/// What is measured when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Devices that can be admitted.
    pub usable: usize,
    /// Devices that are registered and cannot be admitted.
    pub unusable: usize,
    /// Since the registry's last sign of life; none yet: `None`.
    pub registry_age: Option<Duration>,
    /// Requests in flight to the upstream.
    pub in_flight: usize,
    /// Whether the process takes requests.
    pub ready: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            admitted: AtomicU64::new(0),
            refused: Refusal::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            decisions: std::array::from_fn(|_| AtomicU64::new(0)),
            decision_micros: AtomicU64::new(0),
            quotes: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            stale_quotes: AtomicU64::new(0),
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

    /// A decision took so long, the body's coming not counted.
    pub fn decided(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        if let Some(counter) = self.decisions.get(bucket) {
            add(counter);
        }
        self.decision_micros.fetch_add(micros, Ordering::Relaxed);
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

    /// Everything, as Prometheus reads it.
    #[must_use]
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(4096);
        // Writing to a string does not fail.
        let _ = self.write(&mut out, gauges);
        out
    }

    fn write(&self, out: &mut String, gauges: &Gauges) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        family(
            out,
            "requests_total",
            "counter",
            "Requests decided, by what came of them.",
        )?;
        writeln!(
            out,
            "attest_proxy_requests_total{{outcome=\"admitted\",code=\"\",status=\"\"}} {}",
            get(&self.admitted)
        )?;
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            // Two refusals share a code and differ in status.
            let (code, status) = (refusal.code(), refusal.status());
            writeln!(
                out,
                "attest_proxy_requests_total{{outcome=\"refused\",code=\"{code}\",status=\"{status}\"}} {}",
                get(count)
            )?;
        }
        self.write_histogram(out)?;
        family(
            out,
            "quotes_accepted_total",
            "counter",
            "Quotes accepted, by how they follow the last one.",
        )?;
        for (kind, count) in ["first", "continued", "rebooted", "resumed"]
            .iter()
            .zip(&self.quotes)
        {
            writeln!(
                out,
                "attest_proxy_quotes_accepted_total{{continuity=\"{kind}\"}} {}",
                get(count)
            )?;
        }
        single(
            out,
            "quotes_stale_total",
            "counter",
            "Genuine quotes whose counters do not follow the last accepted ones: look into each.",
            get(&self.stale_quotes),
        )?;
        single(
            out,
            "sessions_opened_total",
            "counter",
            "Sessions opened.",
            get(&self.sessions),
        )?;
        single(
            out,
            "connections",
            "gauge",
            "Open client connections.",
            get(&self.connections),
        )?;
        single(
            out,
            "connections_total",
            "counter",
            "Client connections accepted.",
            get(&self.connections_total),
        )?;
        single(
            out,
            "connections_refused_total",
            "counter",
            "Client connections turned away.",
            get(&self.connections_refused),
        )?;
        single(
            out,
            "upstream_requests_in_flight",
            "gauge",
            "Requests in flight to the upstream.",
            gauges.in_flight,
        )?;
        family(
            out,
            "registry_devices",
            "gauge",
            "Registered devices, by whether they can be admitted.",
        )?;
        writeln!(
            out,
            "attest_proxy_registry_devices{{usable=\"true\"}} {}",
            gauges.usable
        )?;
        writeln!(
            out,
            "attest_proxy_registry_devices{{usable=\"false\"}} {}",
            gauges.unusable
        )?;
        if let Some(age) = gauges.registry_age {
            let help = "Since the registry's last sign of life.";
            single(out, "registry_age_seconds", "gauge", help, age.as_secs_f64())?;
        }
        single(
            out,
            "ready",
            "gauge",
            "1 when the process takes requests.",
            u8::from(gauges.ready),
        )?;
        family(out, "build_info", "gauge", "Always 1.")?;
        writeln!(
            out,
            "attest_proxy_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn write_histogram(&self, out: &mut String) -> fmt::Result {
        let name = "attest_proxy_decision_seconds";
        family(
            out,
            "decision_seconds",
            "histogram",
            "Time to decide, without waiting for the client's body.",
        )?;
        let mut total: u64 = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.decisions) {
            total = total.saturating_add(count.load(Ordering::Relaxed));
            writeln!(
                out,
                "{name}_bucket{{le=\"{}\"}} {total}",
                Duration::from_micros(*bound).as_secs_f64()
            )?;
        }
        total = total.saturating_add(self.decisions.last().map_or(0, |c| c.load(Ordering::Relaxed)));
        let sum = Duration::from_micros(self.decision_micros.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {sum}\n{name}_count {total}"
        )
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(
        out,
        "# HELP attest_proxy_{name} {help}\n# TYPE attest_proxy_{name} {kind}"
    )
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: impl fmt::Display) -> fmt::Result {
    family(out, name, kind, help)?;
    writeln!(out, "attest_proxy_{name} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGES: Gauges = Gauges {
        usable: 3,
        unusable: 1,
        registry_age: Some(Duration::from_millis(1500)),
        in_flight: 2,
        ready: true,
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
        let text = metrics.render(&GAUGES);
        for line in [
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
