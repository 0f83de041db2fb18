//! Where something was measured: without this a figure says nothing.

use std::{fmt, fs, path::Path, process::Command};

/// Processor, cores, system, compiler, and the crate that checks the signatures.
pub(crate) struct Host {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    ring: String,
}

impl Host {
    /// What can be found out; `unknown` for the rest.
    pub(crate) fn read(root: &Path) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name"));
        let name = name
            .and_then(|rest| rest.split_once(':'))
            .map(|(_, name)| name.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let rustc = Command::new("rustc").arg("--version").output().ok();
        let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok());
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
        let ring = lock.split_once("name = \"ring\"\nversion = \"");
        let ring = ring
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(version, _)| version);
        let known = |text: Option<&str>| text.map_or("unknown", str::trim).to_owned();
        Self {
            cpu: known(name),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: known(Some(&kernel)),
            rustc: known(rustc.as_deref()),
            ring: known(ring),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            kernel,
            rustc,
            ring,
        } = self;
        write!(
            f,
            "{cpu}, {cores} cores of which one is used, Linux {kernel}; {rustc}, profile `bench` (as `release`: fat LTO, \
             1 codegen unit); ring {ring}"
        )
    }
}
