//! The line of a request.
//!
//! Owns: its fields and their order, in both forms (docs/operating.md, "The log"). It is built here and not by `tracing`, whose way from
//! an event to JSON costs more than the request's own judging does; what it looks like is what `tracing` makes of it, and a test says so.

use std::time::Duration;

use super::{Format, Log, Verbosity, named};
use crate::{
    account::Account,
    clock::Moment,
    line::{self, Fields, Fraction, Json, Text, key},
    verdict::Verdict,
};

const TARGET: &str = "decision";

/// What `tracing` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warn,
}

impl Level {
    /// The least verbosity at which it is logged.
    const fn verbosity(self) -> Verbosity {
        match self {
            Self::Info => Verbosity::Info,
            Self::Warn => Verbosity::Warn,
        }
    }
}

/// Logs a request, once its answer is over.
pub(super) fn log(log: &Log, account: &Account, took: Duration, at: Moment) {
    let level = match account.refusal {
        None => Level::Info,
        Some(_) => Level::Warn,
    };
    if level.verbosity() <= log.verbosity() {
        line::build(
            |out| write(out, log.format, (at, level, TARGET), &Request { account, took }),
            |line| log.outlet.line(line),
        );
    }
}

/// What is in a line.
pub(super) trait Tell {
    /// Names it.
    fn tell(&self, fields: &mut impl Fields);
}

/// A request whose answer is over.
struct Request<'a> {
    account: &'a Account,
    took: Duration,
}

/// A whole line around its fields.
pub(super) fn write(
    out: &mut Vec<u8>,
    format: Format,
    (at, level, target): (Moment, Level, &str),
    what: &impl Tell,
) {
    match format {
        Format::Json => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            line::time(out, at, Fraction::Micros);
            out.push(b'"');
            let mut json = Json(out);
            json.word(key!("level"), if level == Level::Info { "INFO" } else { "WARN" });
            what.tell(&mut json);
            json.word(key!("target"), target);
            out.push(b'}');
        }
        Format::Text => {
            line::time(out, at, Fraction::Micros);
            out.extend_from_slice(if level == Level::Info {
                b"  INFO "
            } else {
                b"  WARN "
            });
            out.extend_from_slice(target.as_bytes());
            out.extend_from_slice(b": ");
            what.tell(&mut Text(out));
        }
    }
    out.push(b'\n');
}

impl Tell for Request<'_> {
    fn tell(&self, fields: &mut impl Fields) {
        let Self { account, took } = *self;
        let decided = account.decided;
        fields.word(
            key!("outcome"),
            match (account.refusal, decided) {
                (Some(_), _) => "refused",
                (None, Some(_)) => "admitted",
                (None, None) => "abandoned",
            },
        );
        if let Some(refusal) = account.refusal {
            fields.word(key!("code"), refusal.code());
        }
        fields.word(key!("request"), account.number().text().as_str());
        if account.refusal.is_some() || decided.is_some() {
            fields.number(key!("status"), account.status.into());
        }
        let (psk, device) = named(&account.who);
        if let Some(device) = device {
            fields.name(key!("device"), device.as_str());
        }
        if let Some(psk) = psk {
            fields.digest(key!("psk"), psk);
        }
        fields.text(key!("method"), account.method.as_str());
        fields.text(key!("path"), account.path.as_deref().unwrap_or_default());
        fields.word(key!("route"), account.route.name());
        if let Some(model) = &account.model {
            fields.text(key!("model"), model);
        }
        fields.word(key!("proof"), account.proof.name());
        if let Some(peer) = account.peer {
            fields.address(key!("peer"), peer);
        }
        if let Some(trace) = account.trace() {
            fields.word(key!("trace"), &trace);
        }
        if account.refusal.is_some() {
            fields.text(key!("why"), &account.why);
            if let Some(failed) = account.verdict.as_deref().map(Verdict::to_json) {
                fields.text(key!("failed"), &failed);
            }
        } else if let (Some(_), Some(code)) = (decided, account.end_code()) {
            fields.word(key!("broken"), code);
        }
        fields.number(key!("bytes"), account.bytes);
        fields.flag(key!("complete"), account.complete);
        if let (None, Some((prompt, output))) = (account.refusal, account.tokens) {
            fields.number(key!("prompt_tokens"), prompt);
            fields.number(key!("output_tokens"), output);
        }
        if let Some(decided) = decided {
            fields.number(key!("micros"), micros_of(decided));
        }
        if let (None, Some(first)) = (account.refusal, account.first) {
            fields.number(key!("first_micros"), micros_of(first));
        }
        fields.number(key!("total_micros"), micros_of(took));
    }
}

fn micros_of(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::IpAddr,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const WHY: &str = "a \"word\", a \\, a tab\t, \u{e9} and \u{1b}[31m";

    /// What `tracing` writes, without the time.
    fn by_tracing(format: Format) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let emit = || {
            tracing::warn!(
                target: "decision",
                outcome = "refused",
                status = 401_u16,
                device = Some(tracing::field::display("kiosk")),
                model = None::<&str>,
                why = WHY.to_owned(),
                peer = Some(tracing::field::display(peer)),
                complete = true,
                total_micros = Some(7_u64),
            );
        };
        match format {
            Format::Json => {
                tracing::subscriber::with_default(lines.json().flatten_event(true).finish(), emit);
            }
            Format::Text => tracing::subscriber::with_default(lines.with_ansi(false).finish(), emit),
        }
        let text = written.0.lock().unwrap().clone();
        without_time(&text)
    }

    fn without_time(line: &[u8]) -> String {
        let line = std::str::from_utf8(line).unwrap();
        let (before, time) = line.split_at(line.find("20").unwrap());
        let (time, rest) = time.split_at("2026-11-23T02:22:04.123456Z".len());
        assert!(time.ends_with('Z'), "{line}");
        format!("{before}{rest}")
    }

    struct Refusal;

    impl Tell for Refusal {
        fn tell(&self, fields: &mut impl Fields) {
            fields.word(key!("outcome"), "refused");
            fields.number(key!("status"), 401);
            fields.name(key!("device"), "kiosk");
            fields.text(key!("why"), WHY);
            fields.address(key!("peer"), "2001:db8::1".parse().unwrap());
            fields.flag(key!("complete"), true);
            fields.number(key!("total_micros"), 7);
        }
    }

    #[test]
    fn a_line_is_what_tracing_would_make_of_it() {
        for format in [Format::Json, Format::Text] {
            let mut out = Vec::new();
            let at = Moment::from_micros(1_791_028_800_123_456);
            write(&mut out, format, (at, Level::Warn, "decision"), &Refusal);
            assert_eq!(without_time(&out), by_tracing(format));
        }
    }
}
