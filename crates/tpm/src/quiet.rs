//! Keeping tpm2-tss off our stderr.
//!
//! tpm2-tss writes every refused command to stderr (`WARNING:esys:..`), refusals that we expect and explain included.
//! It reads the environment variable `TSS2_LOG` at its first word, and has no other switch. A running program cannot
//! set its own environment without `unsafe`, so it starts itself again with the variable set.
//!
//! Who may call: a program, as the first thing in `main`, before threads and output.

use std::{env, io, os::unix::process::CommandExt as _, process::Command};

/// The variable that tpm2-tss reads. Whoever sets it keeps their choice.
pub const TSS_LOG: &str = "TSS2_LOG";

/// Runs this program again, in this process, with tpm2-tss silenced; returns at once when [`TSS_LOG`] is set already.
///
/// # Errors
/// The program's own file is gone or may not be run. The caller may go on: only stderr is noisier.
pub fn restart_quietly() -> io::Result<()> {
    if env::var_os(TSS_LOG).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).env(TSS_LOG, "all+none").exec())
}
