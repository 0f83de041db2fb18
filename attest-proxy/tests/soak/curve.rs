//! The curve of what a process holds, and the rule that says whether it is flat.
//!
//! Owns: the rule. Of the readings in calm times (no fault, and the last one got over) the first fifth of the run is warm-up
//! and counts for nothing. What is left is cut in three; the first third is *early*, the last is *late*. The run is flat where
//! late memory, by its median and by its lowest reading, is at most a tenth or 2 MiB above the early one, whichever is
//! more; where the median of descriptors grew by no more than 8 and that of threads by no more than 4; and where no
//! reading of all, in faults too, was over the ceiling. The lowest reading is what a burst of load cannot raise and a leak must.

use std::time::Duration;

use crate::common::process::Held;

/// What resident memory may never exceed under this load, in KiB.
pub const CEILING: u64 = 48 << 10;
const SLACK: u64 = 2 << 10;

/// A reading.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the load began.
    pub at: Duration,
    /// Whether no fault was in play.
    pub calm: bool,
    pub held: Held,
}

/// A third of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub median: Held,
    /// The lowest resident memory, in KiB.
    pub floor: u64,
    pub samples: usize,
}

/// What the rule says.
#[derive(Debug, Clone)]
pub struct Judged {
    pub early: Window,
    pub late: Window,
    /// The highest resident memory of all readings, in KiB.
    pub peak: u64,
    /// Why the curve is not flat; nothing: it is.
    pub grew: Vec<String>,
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = values.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

impl Window {
    fn of(samples: &[Sample]) -> Option<Self> {
        let held = || samples.iter().map(|sample| sample.held);
        Some(Self {
            median: Held {
                resident: median(held().map(|h| h.resident))?,
                descriptors: median(held().map(|h| h.descriptors))?,
                threads: median(held().map(|h| h.threads))?,
            },
            floor: held().map(|h| h.resident).min()?,
            samples: samples.len(),
        })
    }
}

/// Judges a run. `None`: too few readings to judge by.
pub fn judge(samples: &[Sample]) -> Option<Judged> {
    let end = samples.last()?.at;
    let counted: Vec<Sample> = samples
        .iter()
        .copied()
        .filter(|sample| sample.calm && sample.at >= end / 5)
        .collect();
    let third = counted.len() / 3;
    if third < 4 {
        return None;
    }
    let early = Window::of(&counted[..third])?;
    let late = Window::of(&counted[counted.len() - third..])?;
    let peak = samples.iter().map(|sample| sample.held.resident).max()?;
    let mut grew = Vec::new();
    let room = |kib: u64| kib + (kib / 10).max(SLACK);
    for (what, before, after) in [
        ("median", early.median.resident, late.median.resident),
        ("lowest", early.floor, late.floor),
    ] {
        if after > room(before) {
            grew.push(format!("{what} resident memory: {before} KiB, then {after} KiB"));
        }
    }
    let (before, after) = (early.median, late.median);
    if after.descriptors > before.descriptors + 8 {
        grew.push(format!(
            "descriptors: {}, then {}",
            before.descriptors, after.descriptors
        ));
    }
    if after.threads > before.threads + 4 {
        grew.push(format!("threads: {}, then {}", before.threads, after.threads));
    }
    if peak > CEILING {
        grew.push(format!("{peak} KiB resident, more than {CEILING}"));
    }
    Some(Judged {
        early,
        late,
        peak,
        grew,
    })
}

/// A run of so many readings, one a second; every fourth in a fault.
fn run(readings: u64, held: impl Fn(u64) -> Held) -> Vec<Sample> {
    (0..readings)
        .map(|nth| Sample {
            at: Duration::from_secs(nth),
            calm: nth % 4 != 3,
            held: held(nth),
        })
        .collect()
}

const fn held(resident: u64) -> Held {
    Held {
        resident,
        descriptors: 40,
        threads: 6,
    }
}

#[test]
fn a_curve_that_rises_is_found_and_one_that_swings_is_not() {
    let grew = |samples: &[Sample]| judge(samples).unwrap().grew;
    // Warm-up, swings, and bursts in faults.
    let swings = run(120, |n| {
        held(if n % 4 == 3 {
            45_000
        } else {
            20_000.min(10_000 + n * 1_000) + n * 7 % 900
        })
    });
    assert_eq!(grew(&swings), Vec::<String>::new());
    let leak = run(120, |n| held(20_000 + n * 100));
    assert_eq!(grew(&leak).len(), 2, "{:?}", grew(&leak));
    // A leak below bursts that hide it from the median.
    let hidden = run(120, |n| held(if n % 5 < 3 { 45_000 } else { 20_000 + n * 100 }));
    let found = grew(&hidden);
    assert!(found.len() == 1 && found[0].starts_with("lowest"), "{found:?}");
    let descriptors = run(120, |n| Held {
        descriptors: 40 + usize::try_from(n / 6).unwrap(),
        ..held(20_000)
    });
    assert!(grew(&descriptors)[0].starts_with("descriptors"));
    let threads = run(120, |n| Held {
        threads: 6 + n / 10,
        ..held(20_000)
    });
    assert!(grew(&threads)[0].starts_with("threads"));
    let burst = run(120, |n| held(if n == 63 { CEILING + 1 } else { 20_000 }));
    assert!(grew(&burst)[0].contains("more than"));
    assert!(judge(&run(9, |_| held(20_000))).is_none());
    assert!(judge(&[]).is_none());
}
