//! `provisioner`: from a manifest to devices that can prove themselves.
//!
//! Owns: nothing but the order of the start: silence tpm2-tss, forbid core dumps (secrets pass through this memory), read
//! the command line, run, and turn the outcome into an exit code. The way through the house is
//! `cli -> settings -> observe -> plan (pure) -> engine over ports -> adapters`, with `report` as the one that prints.

mod adapters;
mod boot;
mod certificates;
mod cli;
mod commands;
mod ek_roots;
mod engine;
mod escrow;
mod failure;
mod journal;
mod observe;
mod pcr_file;
mod pins;
mod plan;
mod ports;
mod report;
mod sealing;
mod secrets;
mod settings;
mod tokens;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::{commands::Answer, failure::Failure};

fn main() -> ExitCode {
    // Without it, tpm2-tss would put its own lines between ours; nothing else depends on it.
    let _noisier = tpm::quiet::restart_quietly();
    forbid_core_dumps();
    let cli = cli::Cli::parse();
    log(cli.output.verbose);
    let mut reporter = report::reporter(&cli.output);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::Runtime);
    let done = runtime.and_then(|runtime| runtime.block_on(commands::run(cli.command, &mut *reporter)));
    match done {
        Ok(Answer::Done) => ExitCode::SUCCESS,
        Ok(Answer::Broken) => ExitCode::FAILURE,
        Ok(Answer::Refused) => ExitCode::from(failure::REFUSED),
        Err(failure) => {
            reporter.failed(&failure);
            ExitCode::from(failure.exit())
        }
    }
}

/// A core dump would hold keys. A system that refuses even this is no reason to stop.
fn forbid_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _still_allowed = setrlimit(Resource::Core, none);
    let _still_allowed = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// What the libraries have to say, for those who ask for it: an error that matters reaches the user as ours.
fn log(verbose: bool) {
    if verbose {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            // It would say so on stderr, and panic when that is what is gone.
            .log_internal_errors(false)
            .with_ansi(std::io::stderr().is_terminal())
            .without_time()
            .init();
    }
}
