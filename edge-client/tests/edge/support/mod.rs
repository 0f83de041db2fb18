//! A device as `provisioner` leaves it, on a software TPM, and a proxy that follows a script.

mod device;
mod proxy;

use std::process::{Command, Output};

pub use device::{Device, MODEL, Making, PSK, selection};
pub use proxy::{Answer, Fake, Received};

/// Runs edge-client with these arguments in a clean environment.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge-client"))
        .args(arguments)
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
