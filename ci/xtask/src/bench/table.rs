//! What is printed and kept: set-up, table, and in words whether each demand is met.

use std::{
    error::Error,
    fmt::Write as _,
    io::{Write as _, stderr, stdout},
};

use super::{Appraisal, BenchError, Host, Keylime, Log, Measured};

/// The least part of the bare rate, for the schemes that devices use.
const RATIO: f64 = 0.90;
const RATIO_FOR: [&str; 2] = ["accepted-ecdsa-p256", "accepted-rsassa-2048"];
/// The longest time for the event log, in microseconds.
const LOG_US: f64 = 1000.0;

/// The whole text, and whether every demand is met.
pub(crate) fn evidence(host: &Host, measured: &Measured, beside: &[Keylime]) -> (String, bool) {
    let mut demands = Vec::new();
    let mut text = format!(
        "# Benchmarks\n\nWritten by `ci/bench evidence --keylime --write`.\n\n## Evidence\n\n{host}.\n\n\
         `whole` is one appraisal: both structures parsed, signature, signer, qualifying data, freshness, selection, PCR digest,\n\
         policy, verdict. `bare` is `ring`'s verification alone of the same signature with the same key. They took turns of\n\
         {} ms of processor time, {} each; rates are medians, the ratio is the median over neighbouring turns. The quotes are those of\n\
         `crates/evidence/vectors`.\n\n\
         | signature | bare/s | whole/s | whole ÷ bare | allocations, bare | allocations, whole |\n|---|---|---|---|---|---|\n",
        measured.turn_ms, measured.turns
    );
    for each in &measured.appraisals {
        row(&mut text, each);
        if RATIO_FOR.contains(&each.vector.as_str()) {
            let what = format!(
                "{}: {:.3} of the bare rate, at least {RATIO:.2} wanted",
                name(each),
                each.ratio
            );
            demands.push((what, each.ratio >= RATIO));
        }
        let own = each.whole_allocations.saturating_sub(each.bare_allocations);
        let what = format!("{}: {own} allocations beside ring's own, 0 wanted", name(each));
        demands.push((what, own == 0));
    }
    log(&mut text, &measured.log);
    let what = format!(
        "an event log of {:.0} kB: parsed and replayed in {:.0} µs, under {LOG_US:.0} µs wanted",
        kilobytes(&measured.log),
        measured.log.replayed_us
    );
    demands.push((what, measured.log.replayed_us < LOG_US));
    keylime(&mut text, beside);
    text.push_str("\nWhat must be reached:\n\n");
    for (what, met) in &demands {
        let verdict = if *met { "reached" } else { "NOT REACHED" };
        put(&mut text, format_args!("- {verdict}: {what}\n"));
    }
    (text, demands.iter().all(|(_, met)| *met))
}

fn row(text: &mut String, each: &Appraisal) {
    put(
        text,
        format_args!(
            "| {} | {:.0} | {:.0} | {:.3} | {} | {} |\n",
            name(each),
            each.bare_per_second,
            each.whole_per_second,
            each.ratio,
            each.bare_allocations,
            each.whole_allocations
        ),
    );
}

/// `ecdsa-p256 (ecdsa-sha256)`.
fn name(each: &Appraisal) -> String {
    let key = each.vector.strip_prefix("accepted-").unwrap_or(&each.vector);
    format!("{key} ({})", each.scheme)
}

fn log(text: &mut String, log: &Log) {
    put(
        text,
        format_args!(
            "\nAn event log of {:.0} kB, {} events in three banks: parsed in {:.0} µs, parsed and replayed to {} PCRs in {:.0} µs, and\n\
             with the data of each event compared with its digest in {:.0} µs.\n",
            kilobytes(log),
            log.events,
            log.parsed_us,
            log.pcrs,
            log.replayed_us,
            log.data_proven_us
        ),
    );
}

#[expect(clippy::cast_precision_loss, reason = "a log has far less than 2^52 bytes")]
fn kilobytes(log: &Log) -> f64 {
    log.bytes as f64 / 1000.0
}

fn keylime(text: &mut String, beside: &[Keylime]) {
    let Some(first) = beside.first() else {
        return;
    };
    put(
        text,
        format_args!(
            "\nKeylime {} in Python, `tpm_util.checkquote` alone, which checks signature, nonce and PCR digest of the same quotes and\n\
             knows no policy:\n\n| signature | Keylime/s | whole/s | whole ÷ Keylime |\n|---|---|---|---|\n",
            first.version
        ),
    );
    for each in beside {
        let Keylime {
            scheme,
            per_second: theirs,
            ours_per_second: ours,
            ..
        } = each;
        put(
            text,
            format_args!("| {scheme} | {theirs:.0} | {ours:.0} | {:.1} |\n", ours / theirs),
        );
    }
}

/// Appending to a `String` cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(what);
}

pub(crate) fn show(text: &str) {
    // A closed pipe is the reader's choice.
    let _closed = stdout().write_all(text.as_bytes());
}

pub(crate) fn complain(error: &BenchError) {
    let _closed = writeln!(stderr(), "error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _closed = writeln!(stderr(), "  because {error}");
        cause = error.source();
    }
}
