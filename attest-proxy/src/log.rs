//! The operator's log: one line per decision, as text or as JSON, on stderr.
//!
//! Owns: what is in a line. The device, the refusal's code, the whole verdict in sentences (`why`) and as data (`failed`, a JSON
//! array), the first digits of the PSK's digest; and the alert for evidence that is older than what was seen.
//! Refuses: to hold a PSK, a prompt, a token, a query or a header. Other crates log warnings at most, because what they
//! say at finer levels is not ours to vouch for. A stranger's path is escaped and cut.

use std::time::Duration;

use domain::{DeviceId, PskDigest};
use http::request::Parts;
use protocol::Refusal;
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    gate::Who,
    verdict::{Comparison, Verdict},
};

/// How much of a method is logged, in bytes; a method is ASCII.
const MAX_METHOD: usize = 16;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Verbosity {
    /// Failures of the proxy itself.
    Error,
    /// And refusals.
    Warn,
    /// And admitted requests.
    #[default]
    Info,
}

/// Starts logging. A second call changes nothing.
pub fn init(format: Format, verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity::Error => Level::ERROR,
        Verbosity::Warn => Level::WARN,
        Verbosity::Info => Level::INFO,
    };
    let ours = ["decision", "alert", "registry", "upstream", "server"].map(|target| (target, level));
    let filter = Targets::new()
        .with_default(level.min(Level::WARN))
        .with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match format {
        Format::Text => registry.with(lines.with_ansi(false)).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// One decision.
pub(crate) struct Line<'a> {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) who: Who,
    pub(crate) why: &'a str,
    pub(crate) verdict: Option<&'a Verdict>,
}

impl Line<'_> {
    /// Writes the line.
    pub(crate) fn write(&self, parts: &Parts, took: Duration) {
        let (psk, device) = match &self.who {
            Who::Nobody => (None, None),
            Who::Key(psk) => (Some(psk), None),
            Who::Unusable(psk, device) => (Some(psk), Some(device)),
            Who::Device(psk, device) => (Some(psk), Some(device.id())),
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let shown = device.map(tracing::field::display);
        let method = method(parts);
        match self.refusal {
            None if !tracing::enabled!(target: "decision", Level::INFO) => {}
            None => tracing::info!(
                target: "decision",
                outcome = "admitted",
                device = shown,
                psk = psk.map(PskDigest::short),
                method,
                path = path(parts),
                micros,
            ),
            Some(refusal) => tracing::warn!(
                target: "decision",
                outcome = "refused",
                code = refusal.code(),
                status = refusal.status(),
                device = shown,
                psk = psk.map(PskDigest::short),
                method,
                path = path(parts),
                why = self.why,
                failed = self.verdict.map(Verdict::to_json),
                micros,
            ),
        }
        if let (Some(stale), Some(device)) = (self.verdict.and_then(|verdict| verdict.stale), device) {
            alert(device, stale);
        }
    }
}

/// For an operator to look into: genuine evidence of a registered TPM, older than what that TPM has shown before.
fn alert(device: &DeviceId, Comparison { last, now }: Comparison) {
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
fn method(parts: &Parts) -> &str {
    let text = parts.method.as_str();
    text.get(..MAX_METHOD).unwrap_or(text)
}

fn path(parts: &Parts) -> String {
    parts
        .uri
        .path()
        .chars()
        .take(128)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_method_and_path_are_escaped_and_cut() {
        let (parts, ()) = http::Request::builder()
            .method("X".repeat(5000).as_str())
            .uri(format!("/{}", "\u{e9}".repeat(500)))
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(method(&parts), "X".repeat(MAX_METHOD));
        let path = path(&parts);
        assert!(path.is_ascii() && path.len() < 1000, "{path}");
    }
}
