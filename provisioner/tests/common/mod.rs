//! What the command line's tests share: the program, a fleet in a folder, a software TPM.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testkit::Swtpm;

pub(crate) const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");

/// The program, in a folder.
pub(crate) fn provisioner(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
    command.current_dir(dir).args(arguments).env_remove("TSS2_LOG");
    command
}

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = provisioner(dir, arguments).output().unwrap();
    Ran {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// The demo's fleet in a folder of its own, and the TPM of its kiosk, measured into.
pub(crate) struct Station {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tpm: Swtpm,
}

impl Station {
    pub(crate) fn new() -> Self {
        let station = Self::unmeasured();
        station.tpm.extend(7, b"signalbox demo: secure boot state");
        station.tpm.extend(11, b"signalbox demo: kernel image");
        station
    }

    pub(crate) fn unmeasured() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
        let tpm = Swtpm::start();
        Self { dir, tpm }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.path().join("out/kiosk-bern-01.luks")
    }

    /// Runs a command, with the TPM where it takes one.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let tcti = self.tpm.tcti();
        let mut all = arguments.to_vec();
        if matches!(arguments, ["plan" | "apply", ..] | ["volume", "cat", ..]) {
            all.extend(["--tcti", &tcti]);
        }
        run(self.path(), &all)
    }

    pub(crate) fn device(&self, what: &str) -> serde_json::Value {
        let ran = self.run(&[
            "device",
            what,
            "kiosk-bern-01",
            "--manifest",
            "demo.toml",
            "--json",
        ]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }
}

/// The folder of what other machines made.
pub(crate) const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
