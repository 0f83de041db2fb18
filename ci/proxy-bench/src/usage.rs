//! What a program takes: processor time, memory.
//!
//! Owns: the reading of `/proc` for a program and all that it started (`taskset` becomes the program; nginx has a worker).

use std::{fs, path::Path};

/// Nanoseconds that `pid`, its threads and its children ran so far.
pub(crate) fn cpu(pid: u32) -> u64 {
    family(pid)
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten())
        .filter_map(|thread| first_number(&thread.ok()?.path().join("schedstat")))
        .sum()
}

/// Resident memory of `pid` and its children, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    family(pid)
        .iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Descriptors that `pid` holds.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn first_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path)
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at) {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        all.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_time_and_memory() {
        let me = std::process::id();
        let before = cpu(me);
        let mut x = 0_u64;
        while cpu(me) == before {
            x = x.wrapping_mul(7).wrapping_add(1);
        }
        assert!(resident(me) > 100, "{x}");
    }
}
