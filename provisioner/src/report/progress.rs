//! How far something long is: a bar for a person, a line now and then for a program, each with rate and time left.
//!
//! Owns: the clock and the arithmetic that `volume` leaves to its callers. Told from all workers at once.

use std::{
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use volume::Progress;

/// Between two lines.
const TICK: Duration = Duration::from_millis(500);

/// A bar on the terminal, gone when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        let template = "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing);
        Self(bar)
    }
}

impl Progress for Bar {
    fn advanced(&self, done: u64, total: u64) -> ControlFlow<()> {
        if self.0.length() != Some(total) {
            self.0.set_length(total);
        }
        self.0.set_position(done);
        ControlFlow::Continue(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Lines of JSON: at most two a second, and the last.
pub(super) struct Ticks<F: Fn(&Value)> {
    doing: &'static str,
    begun: Instant,
    told: Mutex<Option<Instant>>,
    tell: F,
}

impl<F: Fn(&Value)> Ticks<F> {
    pub(super) fn new(doing: &'static str, tell: F) -> Self {
        Self {
            doing,
            begun: Instant::now(),
            told: Mutex::new(None),
            tell,
        }
    }
}

impl<F: Fn(&Value) + Sync> Progress for Ticks<F> {
    fn advanced(&self, done: u64, total: u64) -> ControlFlow<()> {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| now.duration_since(told) >= TICK);
        if due || done >= total {
            *told = Some(now);
            let rate = rate(done, now.duration_since(self.begun));
            (self.tell)(&json!({
                "event": "progress",
                "doing": self.doing,
                "bytes": done,
                "of": total,
                "bytes-per-second": rate,
                "seconds-left": rate.and_then(|rate| total.saturating_sub(done).checked_div(rate)),
            }));
        }
        ControlFlow::Continue(())
    }
}

/// Bytes in a second; nothing to be said in the first moment.
fn rate(done: u64, since: Duration) -> Option<u64> {
    let millis = u64::try_from(since.as_millis()).ok()?;
    done.saturating_mul(1000).checked_div(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_hears_the_first_and_the_last_and_little_between() {
        let lines = Mutex::new(Vec::new());
        let ticks = Ticks::new("writing", |line: &Value| lines.lock().unwrap().push(line.clone()));
        for done in 1..=1000 {
            assert!(ticks.advanced(done, 1000).is_continue());
        }
        let lines = lines.lock().unwrap();
        assert!(lines.len() >= 2 && lines.len() < 20, "{}", lines.len());
        assert_eq!(lines.last().unwrap()["bytes"], 1000);
        assert_eq!(lines[0]["event"], "progress");
    }

    #[test]
    fn rates_are_bytes_in_a_second() {
        assert_eq!(rate(500, Duration::from_millis(250)), Some(2000));
        assert_eq!(rate(500, Duration::ZERO), None);
    }
}
