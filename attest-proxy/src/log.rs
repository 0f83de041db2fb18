//! The operator's log: one line per request, when its answer is over, as text or as JSON, on stderr.
//!
//! Owns: what is in a line (docs/operating.md has the fields). The device, the refusal's code, the whole verdict in sentences (`why`) and as data (`failed`, a JSON
//! array), the first digits of the PSK's digest; and the alert for evidence that is older than what was seen.
//! Refuses: to hold a PSK, a prompt, a token, a query or a header. Other crates log warnings at most, because what they
//! say at finer levels is not ours to vouch for. A stranger's path is escaped and cut.

use std::time::Duration;

use domain::{DeviceId, PskDigest};
use http::Method;
use tracing::Level;
use tracing_subscriber::{
    Registry, filter::Targets, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{
    account::Account,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
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

/// Changes what is logged while the program runs.
pub struct Leveller(Option<reload::Handle<Targets, Registry>>);

impl Leveller {
    /// Logs so much from now on.
    pub fn set(&self, verbosity: Verbosity) {
        if let Some(handle) = &self.0 {
            // It fails only when nothing logs any more.
            let _ = handle.reload(targets(verbosity));
        }
    }
}

/// Starts logging. A second call changes nothing.
pub fn init(format: Format, verbosity: Verbosity) -> Leveller {
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => registry.with(lines.with_ansi(false)).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Leveller(started.ok().map(|()| handle))
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
pub(crate) fn access(account: &Account, took: Duration) {
    let refused = account.refusal.is_some();
    if !refused && !tracing::enabled!(target: "decision", Level::INFO) {
        return;
    }
    let (psk, device) = named(&account.who);
    let request = account.request();
    let (device, psk) = (device.map(tracing::field::display), psk.map(PskDigest::short));
    let (method, path) = (
        account.method.as_str(),
        account.path.as_deref().unwrap_or_default(),
    );
    let (route, proof) = (account.route.name(), account.proof.name());
    let model = account.model.as_deref();
    let trace = account.trace();
    let peer = account.peer.map(tracing::field::display);
    let micros = account.decided.map(micros_of);
    let first_micros = account.first.map(micros_of);
    let total_micros = micros_of(took);
    let (bytes, complete) = (account.bytes, account.complete);
    match account.refusal {
        None => tracing::info!(
            target: "decision",
            outcome = if account.decided.is_some() { "admitted" } else { "abandoned" },
            request,
            status = account.decided.map(|_| account.status),
            device,
            psk,
            method,
            path,
            route,
            model,
            proof,
            peer,
            trace,
            broken = account.decided.and_then(|_| account.end_code()),
            bytes,
            complete,
            prompt_tokens = account.tokens.map(|(prompt, _)| prompt),
            output_tokens = account.tokens.map(|(_, output)| output),
            micros,
            first_micros,
            total_micros,
        ),
        Some(refusal) => tracing::warn!(
            target: "decision",
            outcome = "refused",
            code = refusal.code(),
            request,
            status = refusal.status(),
            device,
            psk,
            method,
            path,
            route,
            model,
            proof,
            peer,
            trace,
            why = account.why,
            failed = account.verdict.as_deref().map(Verdict::to_json),
            bytes,
            complete,
            micros,
            total_micros,
        ),
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

fn micros_of(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
}
