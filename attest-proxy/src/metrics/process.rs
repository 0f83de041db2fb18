//! What this process takes of its machine, under the names that every Prometheus client library has for it.
//!
//! Owns: reading `/proc/self`. What cannot be read is left out; nothing here is controlled by a stranger but the amount.

use std::fmt::{self, Write as _};

/// Appends the `process_*` families.
pub(super) fn write(out: &mut String) -> fmt::Result {
    let mut one = |name: &str, kind: &str, help: &str, value: Option<f64>| match value {
        Some(value) => writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"),
        None => Ok(()),
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets; whatever is in it, the last bracket ends it.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let (ticks, page) = (
        rustix::param::clock_ticks_per_second() as f64,
        rustix::param::page_size() as f64,
    );
    let cpu = number(11)
        .zip(number(12))
        .map(|(user, system)| (user + system) / ticks);
    one(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of this process.",
        cpu,
    )?;
    one(
        "process_resident_memory_bytes",
        "gauge",
        "Memory of this process that is in RAM.",
        number(21).map(|pages| pages * page),
    )?;
    one(
        "process_virtual_memory_bytes",
        "gauge",
        "Address space of this process.",
        number(20),
    )?;
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    one(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        open.and_then(|n| u32::try_from(n).ok()).map(f64::from),
    )?;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    one(
        "process_max_fds",
        "gauge",
        "File descriptors that may be open.",
        most.map(|n| n as f64),
    )?;
    let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("btime "));
        line.and_then(|digits| digits.trim().parse::<f64>().ok())
    });
    one(
        "process_start_time_seconds",
        "gauge",
        "When this process started, in seconds since 1970.",
        boot.zip(number(19)).map(|(boot, started)| boot + started / ticks),
    )
}
