//! `cargo xtask`: what the scripts of `ci/` cannot say in a few lines of shell.
//!
//! Owns: the architecture check, the demo's runner and the benchmarks' table. Refuses: to be shipped; no other crate may depend on it. No attacker here: it reads
//! this repository and talks to processes that it started on loopback.

mod arch;
mod bench;
mod demo;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and demo of this repository.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compares the crates with ARCHITECTURE.md and THREAT_MODEL.md.
    Arch,
    /// Measures; `ci/bench` calls this.
    Bench(bench::Options),
    /// Runs the whole line once; `ci/demo` installs and builds what it needs, then calls this.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let root = root();
    match Args::parse().task {
        Task::Arch => arch::run(&root),
        Task::Bench(options) => bench::run(&root, &options),
        Task::Demo(options) => demo::run(&root, &options),
    }
}

/// The repository's folder: this crate lies two levels below it.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
