//! edge-client: asks a language model behind `attest-proxy` as a device that proves what it is.
//!
//! Owns: the order at start (silence tpm2-tss, forbid core dumps, then look at arguments) and the exit code.
//! 0 done, 1 failed, 2 wrong use or configuration, 3 refused, by the proxy or by this client's own rules.

mod answer;
mod attachments;
mod attest;
mod call;
mod cli;
mod clock;
mod closing;
mod commands;
mod device;
mod error;
mod expected;
mod hardening;
mod keystore;
mod origin;
mod pin;
mod proxy;
mod refused;
mod report;
mod session;
mod settings;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Should it fail, stderr is noisier and nothing else.
    let _ = tpm::quiet::restart_quietly();
    if let Err(error) = hardening::forbid_core_dumps() {
        return report::failure(&error.into(), false);
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = cli::Cli::parse();
    let json = arguments.json;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(source) => Err(error::Error::Runtime(source)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => report::failure(&error, json),
    }
}
