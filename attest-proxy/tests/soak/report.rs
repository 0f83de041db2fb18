//! What a soak came to: a table for people, and a file for programs.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;

use super::{
    curve::{Judged, Sample, Window},
    field::Field,
    server::Witness,
};
use crate::common::process::Held;

/// A run that is over.
pub struct Run<'a> {
    pub elapsed: Duration,
    pub suffered: u64,
    pub idle: Held,
    pub rest: Held,
    pub judged: &'a Judged,
    pub field: &'a Field,
    pub witness: &'a Witness,
    pub samples: &'a [Sample],
}

/// Prints the table, and writes the file that `SOAK_REPORT` names.
pub fn tell(run: &Run<'_>) {
    let seconds = run.elapsed.as_secs();
    println!("soak: {seconds} s, {} faults", run.suffered);
    println!(
        "{:<22} {:>12} {:>12} {:>8}",
        "", "memory KiB", "descriptors", "threads"
    );
    let row = |name: &str, held: Held| {
        println!(
            "{name:<22} {:>12} {:>12} {:>8}",
            held.resident, held.descriptors, held.threads
        );
    };
    row("idle, before", run.idle);
    row("early (median, calm)", run.judged.early.median);
    row("late (median, calm)", run.judged.late.median);
    row("at rest, after", run.rest);
    println!("{:<22} {:>12}", "early, lowest", run.judged.early.floor);
    println!("{:<22} {:>12}", "late, lowest", run.judged.late.floor);
    println!("{:<22} {:>12}", "highest of all", run.judged.peak);
    for (what, times) in run.field.counts() {
        println!("  {what:<30} {times:>10}");
    }
    println!(
        "  {:<30} {:>10}",
        "prompts that reached a server",
        run.witness.good.load(Ordering::Relaxed)
    );
    for found in run
        .field
        .found()
        .iter()
        .chain(run.witness.saw.lock().unwrap().iter())
        .chain(&run.judged.grew)
    {
        println!("  WRONG: {found}");
    }
    if let Ok(path) = std::env::var("SOAK_REPORT") {
        std::fs::write(path, json(run).to_string()).expect("SOAK_REPORT can be written");
    }
}

fn json(run: &Run<'_>) -> serde_json::Value {
    let held = |held: Held| json!({ "resident_kib": held.resident, "descriptors": held.descriptors, "threads": held.threads });
    let window = |window: Window| json!({ "median": held(window.median), "lowest_kib": window.floor, "samples": window.samples });
    let curve: Vec<_> = run
        .samples
        .iter()
        .map(|s| {
            json!([
                s.at.as_secs(),
                s.calm,
                s.held.resident,
                s.held.descriptors,
                s.held.threads
            ])
        })
        .collect();
    json!({
        "seconds": run.elapsed.as_secs(),
        "faults": run.suffered,
        "idle": held(run.idle),
        "early": window(run.judged.early),
        "late": window(run.judged.late),
        "rest": held(run.rest),
        "peak_kib": run.judged.peak,
        "counts": run.field.counts(),
        "reached": run.witness.good.load(Ordering::Relaxed),
        "wrong": run.field.found(),
        "saw": *run.witness.saw.lock().unwrap(),
        "grew": run.judged.grew,
        "curve": curve,
    })
}
