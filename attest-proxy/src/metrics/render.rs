//! All metrics as text.
//!
//! Owns: names, help and labels of every family. Nothing in here counts.

use std::{fmt, sync::atomic::Ordering};

use protocol::Refusal;

use super::{
    Gauges, Metrics,
    histogram::Histogram,
    process,
    text::{PREFIX, Text},
};
use crate::{
    account::RouteKind,
    audit::AuditState,
    upstream::{Standing, WaitEnd},
};

impl Metrics {
    pub(super) fn write(&self, out: &mut String, gauges: &Gauges) -> fmt::Result {
        self.write_requests(out)?;
        self.write_evidence(&mut Text(out))?;
        self.write_connections(&mut Text(out), gauges)?;
        self.cuts.write(&mut Text(out))?;
        write_registry(&mut Text(out), gauges)?;
        if let Some(audit) = &gauges.audit {
            write_audit(&mut Text(out), audit)?;
        }
        let help = "Lines of the log that were dropped because whoever reads it is too slow.";
        Text(out).single("log_lost_total", "counter", help, gauges.log_lost)?;
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
        let waits: Vec<_> = WaitEnd::ALL
            .iter()
            .zip(&*self.waits)
            .map(|(end, histogram)| (format!("end=\"{}\"", end.as_str()), histogram))
            .collect();
        histogram(
            "queue_wait_seconds",
            "Time that requests waited for an upstream with room, by what they waited for in the end.",
            &waits,
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
    use std::time::Duration;

    use evidence::Continuity;

    use super::*;
    use crate::{
        metrics::{Cut, Gauges},
        upstream::UpstreamGauges,
    };

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
        log_lost: 9,
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
        metrics.waits()[0].observe(Duration::from_millis(3));
        metrics.waits()[1].observe(Duration::from_secs(30));
        metrics.cut(Cut::WriteStall);
        metrics.answer_ended(Some(Refusal::PskUnknown), false);
        metrics.answer_ended(None, false);
        metrics.answer_ended(None, true);
        let text = metrics.render(&GAUGES);
        for line in [
            "attest_proxy_requests_total{outcome=\"abandoned\",code=\"\",status=\"\"} 1",
            "attest_proxy_request_duration_seconds_bucket{route=\"inference\",le=\"0.5\"} 0",
            "attest_proxy_request_duration_seconds_bucket{route=\"inference\",le=\"1\"} 1",
            "attest_proxy_request_duration_seconds_sum{route=\"inference\"} 0.7",
            "attest_proxy_request_duration_seconds_count{route=\"read\"} 0",
            "attest_proxy_time_to_first_byte_seconds_bucket{le=\"0.05\"} 1",
            "attest_proxy_queue_wait_seconds_count{end=\"served\"} 1",
            "attest_proxy_queue_wait_seconds_bucket{end=\"refused\",le=\"10\"} 0",
            "attest_proxy_queue_wait_seconds_bucket{end=\"refused\",le=\"30\"} 1",
            "attest_proxy_queue_wait_seconds_count{end=\"left\"} 0",
            "attest_proxy_connections_cut_total{reason=\"write-stall\"} 1",
            "attest_proxy_connections_cut_total{reason=\"idle\"} 0",
            "attest_proxy_answers_cut_total{reason=\"revoked\"} 1",
            "attest_proxy_answers_cut_total{reason=\"client-left\"} 1",
            "attest_proxy_answers_cut_total{reason=\"upstream-failed\"} 0",
            "attest_proxy_upstream_servers{standing=\"well\"} 4",
            "attest_proxy_upstream_servers{standing=\"gone\"} 1",
            "attest_proxy_upstream_queue_requests 6",
            "attest_proxy_upstream_queue_bytes 7",
            "attest_proxy_upstream_retries_total 8",
            "attest_proxy_response_bytes_total 9",
            "attest_proxy_tokens_total{kind=\"output\"} 6",
            "attest_proxy_audit_sequence 3",
            "attest_proxy_audit_failing 1",
            "attest_proxy_log_lost_total 9",
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
