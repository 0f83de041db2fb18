//! The Prometheus text format: families, their help and type, samples.
//!
//! Owns: the prefix of every name. Values of labels are our own words, so that none needs escaping.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

pub(super) const PREFIX: &str = "attest_proxy_";

/// Writes families one after the other.
pub(super) struct Text<'a>(pub(super) &'a mut String);

impl Text<'_> {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(
            self.0,
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
        )
    }

    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) -> fmt::Result {
        if labels.is_empty() {
            writeln!(self.0, "{PREFIX}{name} {value}")
        } else {
            writeln!(self.0, "{PREFIX}{name}{{{labels}}} {value}")
        }
    }

    pub(super) fn single(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        value: impl fmt::Display,
    ) -> fmt::Result {
        self.family(name, kind, help)?;
        self.sample(name, "", value)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: &AtomicU64) -> fmt::Result {
        self.single(name, "counter", help, value.load(Ordering::Relaxed))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) -> fmt::Result {
        self.single(name, "gauge", help, value)
    }
}
