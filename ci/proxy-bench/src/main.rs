//! `proxy-bench`: attest-proxy and the proxies that people would put in its place, in one run, on one core.
//!
//! Owns: the set-up (backend, load, registry, credentials, the peers' configurations) and the measuring. Prints one JSON object;
//! `cargo xtask bench proxy` makes the table of it and knows what must be reached.
//! Refuses: to measure a proxy whose answers are not what the backend sent. No attacker here; all on loopback.
//! The machine needs two cores: the proxies are on the first, backend and load share the second.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measurement whose assumptions do not hold should stop where they broke"
)]

mod backend;
mod bare;
mod cores;
mod credentials;
#[path = "../../../attest-proxy/tests/common/forge.rs"]
mod forge;
mod hold;
mod load;
mod memory;
mod message;
mod ours;
mod peers;
mod rounds;
mod streams;
mod tools;
mod usage;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// Measures proxies beside each other.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures and prints one JSON object.
    Run(Options),
    /// Starts one of them behind a backend and keeps it up until it is killed: for a profiler, and a load of its own.
    Hold(Options),
    /// The bare hyper proxy, one of those that are measured.
    Bare {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// The backend.
        #[arg(long)]
        upstream: SocketAddr,
        /// A file with one key per line.
        #[arg(long)]
        keys: PathBuf,
    },
}

/// What is measured, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The `attest-proxy` to measure.
    #[arg(long)]
    ours: PathBuf,
    /// Where the peers that Debian does not have are, or are installed to.
    #[arg(long)]
    tools: PathBuf,
    /// Fewer and shorter rounds: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Only these: nginx, nginx-log, haproxy, envoy, ollamamq, bare, psk, session, quotes, everything, streams, memory.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|n| n == name)
    }
}

fn main() {
    match Args::parse().task {
        Task::Run(options) => {
            let measured = rounds::run(&options);
            println!("{}", serde_json::to_string(&measured).unwrap());
        }
        Task::Hold(options) => hold::run(&options),
        Task::Bare {
            listen,
            upstream,
            keys,
        } => bare::serve(listen, upstream, &keys),
    }
}
