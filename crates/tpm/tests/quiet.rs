//! tpm2-tss is kept off stderr by starting the program again with its variable set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "test code"
)]

use std::{
    env,
    process::{Command, Output},
};

use testkit::Swtpm;
use tpm::{AkHandle, EkAlg, Tpm, quiet};

/// Set in the process that plays the program: where its TPM is.
const TCTI: &str = "PLAY_THE_PROGRAM_ON";

/// Runs the named test, alone, in a process of its own that plays the program.
fn program(test: &str, log: Option<&str>, tcti: &str) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env_remove(quiet::TSS_LOG)
        .env(TCTI, tcti);
    if let Some(log) = log {
        command.env(quiet::TSS_LOG, log);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_program_that_restarts_quietly_has_its_stderr_to_itself() {
    if let Ok(tcti) = env::var(TCTI) {
        quiet::restart_quietly().unwrap();
        println!("log={}", env::var(quiet::TSS_LOG).unwrap());
        let error = Tpm::open(&tcti.parse().unwrap()).unwrap_err();
        println!("error={error}");
        return;
    }
    let me = "a_program_that_restarts_quietly_has_its_stderr_to_itself";
    // Nothing listens there; port 1 is nobody's.
    let nowhere = "swtpm:host=127.0.0.1,port=1";
    let output = program(me, None, nowhere);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("log=all+none\n"), "{stdout}");
    assert!(
        stdout.contains(&format!("error=no TPM answers at {nowhere}: 0xa000a: ")),
        "{stdout}"
    );
    assert!(!text(&output.stderr).contains("tcti"), "{}", text(&output.stderr));
    // Whoever set the variable keeps their choice.
    let output = program(me, Some("all+error"), nowhere);
    assert!(text(&output.stdout).contains("log=all+error\n"));
    assert!(text(&output.stderr).contains("ERROR:tcti:"));
}

#[test]
fn looking_for_what_is_not_there_is_no_refused_command() {
    if let Ok(tcti) = env::var(TCTI) {
        let mut tpm = Tpm::open(&tcti.parse().unwrap()).unwrap();
        assert_eq!(tpm.read_ak(AkHandle::default()), Ok(None));
        assert_eq!(tpm.endorsement_key(EkAlg::EccP256).unwrap().certificate, None);
        tpm.random(&mut [0; 8]).unwrap();
        println!("looked");
        return;
    }
    let swtpm = Swtpm::start();
    let me = "looking_for_what_is_not_there_is_no_refused_command";
    // tpm2-tss as it is, with nothing silenced.
    let output = program(me, None, &swtpm.tcti());
    assert!(
        text(&output.stdout).contains("looked"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(text(&output.stderr), "");
}
