//! Thousands of random steps against models.
//!
//! The first is of who may be admitted: time that goes on, jumps ahead, is set back and goes wholly astray; devices that are
//! suspended, retired and given other policies; policies that are edited; keys that are rotated; counters
//! that other replicas saw; fleet roots that are replaced; and requests with keys, sessions and nonces of all ages.
//! The second is of quotes and what has been seen of a TPM, with two replicas on one real registry.
//!
//! One seed makes one run, always the same: no socket, no clock of the machine's, no second thread. A seed that fails is printed;
//! `SIMULATION_SEED=n` runs it alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

#[path = "common/forge.rs"]
mod forge;
#[path = "simulation/mod.rs"]
mod simulation;

use simulation::{Quotes, Sim};

const STEPS: usize = 3000;
const SEEDS: u64 = 6;

fn run(seed: u64) -> [usize; 4] {
    let mut sim = Sim::new(seed);
    for nth in 0..STEPS {
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.step()));
        assert!(step.is_ok(), "SIMULATION_SEED={seed} fails at step {nth}");
    }
    [sim.admitted, sim.refused, sim.signed, sim.again]
}

#[test]
fn nobody_is_admitted_whom_the_model_would_refuse_and_nobody_else_refused() {
    let alone = std::env::var("SIMULATION_SEED").ok();
    let seeds: Vec<u64> = match alone {
        Some(seed) => vec![seed.parse().expect("a number")],
        None => (1..=SEEDS).collect(),
    };
    for seed in seeds {
        let counts = run(seed);
        // A run in which all are refused, or all admitted, would show nothing.
        assert!(
            counts.iter().all(|n| *n > STEPS / 1000),
            "seed {seed}: {counts:?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(run(77), run(77));
}

fn quotes(seed: u64) -> std::collections::BTreeMap<&'static str, usize> {
    let mut quotes = Quotes::new(seed);
    for nth in 0..STEPS {
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| quotes.step()));
        assert!(
            step.is_ok(),
            "SIMULATION_SEED={seed} fails at step {nth} of the quotes"
        );
    }
    quotes.counts
}

#[test]
fn a_quote_is_accepted_once_by_one_replica_if_it_follows_all_that_was_seen() {
    let alone = std::env::var("SIMULATION_SEED").ok();
    let seeds: Vec<u64> = match alone {
        Some(seed) => vec![seed.parse().expect("a number")],
        None => (1..=SEEDS).collect(),
    };
    let mut all = std::collections::BTreeMap::new();
    for seed in seeds {
        for (name, times) in quotes(seed) {
            *all.entry(name).or_insert(0) += times;
        }
    }
    for name in ["accepted", "stale", "another state", "late", "unknown", "away"] {
        assert!(all.get(name).is_some_and(|times| *times > 5), "{name}: {all:?}");
    }
}
