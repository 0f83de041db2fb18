//! The operator's log: one line per request, when its answer is over, as text or as JSON, on stderr.
//!
//! Owns: what is in a line (docs/operating.md has the fields). The device, the refusal's code, the whole verdict in sentences (`why`) and as data (`failed`, a JSON
//! array), the first digits of the PSK's digest; and the alert for evidence that is older than what was seen. What the program itself has to say goes
//! through `tracing` to the same outlet, so that nobody waits for who reads, and no line is inside another.
//! Refuses: to hold a PSK, a prompt, a token, a query or a header. Other crates log warnings at most, because what they
//! say at finer levels is not ours to vouch for. A stranger's path is escaped and cut.

mod access;
mod outlet;

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use domain::{DeviceId, PskDigest};
use http::Method;
use tracing::Level;
use tracing_subscriber::{
    Registry, filter::Targets, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{
    account::Account,
    clock::{Clock, Moment},
    gate::Who,
    line::{Fields, key},
    verdict::Comparison,
};
use access::Tell;
use outlet::Outlet;

/// How much of a method is logged, in bytes; a method is ASCII.
const MAX_METHOD: usize = 16;

/// The log of the process, like `tracing`'s.
static LOG: OnceLock<Log> = OnceLock::new();

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verbosity {
    /// Failures of the proxy itself.
    Error,
    /// And refusals.
    Warn,
    /// And admitted requests.
    #[default]
    Info,
}

/// The log, once it was started.
pub struct Log {
    outlet: Outlet,
    format: Format,
    verbosity: AtomicU8,
    filter: Option<reload::Handle<Targets, Registry>>,
}

impl Log {
    /// Starts logging to `to`, by a thread of its own: nobody but that thread waits for `to`. A second call changes nothing.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(
        to: impl Write + Send + 'static,
        format: Format,
        verbosity: Verbosity,
    ) -> io::Result<&'static Self> {
        if let Some(log) = LOG.get() {
            return Ok(log);
        }
        let outlet = Outlet::start(to, move |out, lost| missing(out, format, lost))?;
        let (filter, handle) = reload::Layer::new(targets(verbosity));
        let lines = tracing_subscriber::fmt::layer().with_writer({
            let outlet = outlet.clone();
            move || outlet.clone()
        });
        let registry = tracing_subscriber::registry().with(filter);
        let started = match format {
            Format::Text => registry.with(lines.with_ansi(false)).try_init(),
            Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        Ok(LOG.get_or_init(|| Self {
            outlet,
            format,
            verbosity: AtomicU8::new(verbosity as u8),
            filter: started.ok().map(|()| handle),
        }))
    }

    /// Logs so much from now on.
    pub fn set(&self, verbosity: Verbosity) {
        self.verbosity.store(verbosity as u8, Ordering::Relaxed);
        if let Some(filter) = &self.filter {
            // It fails only when nothing logs any more.
            let _ = filter.reload(targets(verbosity));
        }
    }

    /// Says something that is no line of the log, in its place between them.
    pub fn say(&self, text: &str) {
        // An outlet takes it or counts it as lost.
        let _ = self.outlet.clone().write_all(format!("{text}\n").as_bytes());
    }

    /// Waits until what was logged is written, but not for ever: whoever reads may have stopped reading.
    pub fn flush(&self, patience: Duration) -> bool {
        self.outlet.flush(patience)
    }

    fn verbosity(&self) -> Verbosity {
        match self.verbosity.load(Ordering::Relaxed) {
            0 => Verbosity::Error,
            1 => Verbosity::Warn,
            _ => Verbosity::Info,
        }
    }
}

/// Lines that were dropped because whoever reads the log is too slow.
#[must_use]
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.outlet.lost())
}

/// Says that lines are missing.
fn missing(out: &mut Vec<u8>, format: Format, lost: u64) {
    let head = (Clock::System.moment(), access::Level::Warn, "log");
    access::write(out, format, head, &Missing(lost));
}

/// So many lines.
struct Missing(u64);

impl Tell for Missing {
    fn tell(&self, fields: &mut impl Fields) {
        fields.message("lines are missing here, because whoever reads the log was too slow");
        fields.number(key!("lost"), self.0);
    }
}

fn targets(verbosity: Verbosity) -> Targets {
    let level = match verbosity {
        Verbosity::Error => Level::ERROR,
        Verbosity::Warn => Level::WARN,
        Verbosity::Info => Level::INFO,
    };
    let ours = [
        "decision", "alert", "audit", "registry", "upstream", "server", "traces",
    ];
    Targets::new()
        .with_default(level.min(Level::WARN))
        .with_targets(ours.map(|target| (target, level)))
}

/// The line of a request, once its answer is over.
pub(crate) fn access(account: &Account, took: Duration, at: Moment) {
    if let Some(log) = LOG.get() {
        access::log(log, account, took, at);
    }
}

fn named(who: &Who) -> (Option<&PskDigest>, Option<&DeviceId>) {
    match who {
        Who::Nobody => (None, None),
        Who::Key(psk) => (Some(psk), None),
        Who::Unusable(psk, device) => (Some(psk), Some(device)),
        Who::Device(psk, device) => (Some(psk), Some(device.id())),
    }
}

/// Tells at once what cannot wait for the answer's end.
pub(crate) fn alert(account: &Account) {
    let stale = account.verdict.as_deref().and_then(|verdict| verdict.stale);
    if let (Some(stale), (_, Some(device))) = (stale, named(&account.who)) {
        evidence_stale(device, stale);
    }
}

/// For an operator to look into: genuine evidence of a registered TPM, older than what that TPM has shown before.
fn evidence_stale(device: &DeviceId, Comparison { last, now }: Comparison) {
    tracing::error!(
        target: "alert",
        alert = "evidence-stale",
        %device,
        last_reset_count = last.reset_count,
        last_restart_count = last.restart_count,
        last_clock = last.clock,
        reset_count = now.reset_count,
        restart_count = now.restart_count,
        clock = now.clock,
        "the TPM's counters do not follow the last ones: quotes came in another order, or the TPM was rolled back",
    );
}

/// A stranger's method is any token, as long as a head may be.
pub(crate) fn method(method: &Method) -> Method {
    match method.as_str().get(..MAX_METHOD) {
        Some(head) if head.len() < method.as_str().len() => {
            Method::from_bytes(head.as_bytes()).unwrap_or_default()
        }
        _ => method.clone(),
    }
}

/// A stranger's path, escaped and cut.
pub(crate) fn path(path: &str) -> String {
    path.chars().take(128).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_method_and_path_are_escaped_and_cut() {
        let long = Method::from_bytes("X".repeat(5000).as_bytes()).unwrap();
        assert_eq!(method(&long).as_str(), "X".repeat(MAX_METHOD));
        assert_eq!(method(&Method::POST), Method::POST);
        let path = path(&format!("/{}", "\u{e9}".repeat(500)));
        assert!(path.is_ascii() && path.len() < 1000, "{path}");
    }

    #[test]
    fn the_line_that_tells_of_a_gap_can_be_read() {
        let mut out = Vec::new();
        missing(&mut out, Format::Json, 7);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&line["level"], &line["target"], &line["lost"]),
            (&"WARN".into(), &"log".into(), &7.into())
        );
        out.clear();
        missing(&mut out, Format::Text, 7);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("  WARN log: lines are missing here"), "{text}");
        assert!(text.ends_with(" lost=7\n"), "{text}");
    }
}
