//! What a process holds, as the kernel counts it.

use std::path::Path;

/// One reading of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: u64,
}

impl Held {
    /// Reads it. `None`: the process is not there, or is one that ended.
    pub fn by(pid: u32) -> Option<Self> {
        let folder = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        Some(Self {
            resident: number("VmRSS:")?,
            descriptors: std::fs::read_dir(folder.join("fd")).ok()?.count(),
            threads: number("Threads:")?,
        })
    }
}
