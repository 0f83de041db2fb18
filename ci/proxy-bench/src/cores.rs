//! Which core runs what.
//!
//! Owns: the pinning. Threads that are started later, and programs, inherit what their parent has.

use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the proxies.
pub(crate) const PROXY: usize = 0;
/// The core of backend and load.
pub(crate) const LOAD: usize = 1;

/// Pins this thread.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("two cores");
}

/// A program on the proxies' core, which does not outlive this one.
pub(crate) fn on_proxy_core(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list"]);
    command.arg(PROXY.to_string()).arg(program);
    command
}
