//! A histogram of durations, as Prometheus has them.
//!
//! Owns: buckets that are counted without a lock. Two samples at once can be seen half by a reader: sum and count then differ by one for a
//! moment, which Prometheus minds as little as we do.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Durations by their upper bounds.
#[derive(Debug)]
pub struct Histogram {
    /// Microseconds, rising.
    bounds: &'static [u64],
    /// One more than bounds.
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

impl Histogram {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            micros: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        if let Some(counter) = self.counts.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes all series of it. `labels` is empty, or `name="value"` pairs.
    pub(super) fn write(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total: u64 = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total = total.saturating_add(count.load(Ordering::Relaxed));
            let bound = Duration::from_micros(*bound).as_secs_f64();
            writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}")?;
        }
        total = total.saturating_add(self.counts.last().map_or(0, |c| c.load(Ordering::Relaxed)));
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}")?;
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        writeln!(out, "{name}_sum{labels} {sum}\n{name}_count{labels} {total}")
    }
}
