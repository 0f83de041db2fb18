//! The machine's TPM: swtpm, whose state outlives a boot.
//!
//! Owns: the state folder, and the two ways to it, one at a time: QEMU's (a socket on a path) while the machine runs, and tpm2-tss's (a port on
//! loopback) while the machine is off. Between the two the TPM was without power: PCRs are empty again, keys stay. Only the SHA-256 bank is
//! active: firmware hashes every image once for each bank, which takes long under emulation.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::VmError;
use crate::run::succeed;

const PATIENCE: Duration = Duration::from_secs(120);

/// A TPM without power: its state.
#[derive(Debug, Clone)]
pub struct TpmState(PathBuf);

impl TpmState {
    /// A new TPM, as its maker ships it.
    ///
    /// # Errors
    /// `swtpm_setup` fails.
    pub fn manufacture(folder: &Path) -> Result<Self, VmError> {
        fs::create_dir_all(folder).map_err(VmError::file(folder))?;
        succeed(
            Command::new("swtpm_setup")
                .args(["--tpm2", "--pcr-banks", "sha256", "--overwrite", "--tpmstate"])
                .arg(folder),
        )?;
        Ok(Self(folder.to_owned()))
    }

    /// A copy, so that what one scenario does to its TPM no other sees.
    ///
    /// # Errors
    /// [`VmError::File`].
    pub fn copy(&self, folder: &Path) -> Result<Self, VmError> {
        fs::create_dir_all(folder).map_err(VmError::file(folder))?;
        let (from, to) = (self.0.join(STATE), folder.join(STATE));
        fs::copy(&from, &to).map_err(VmError::file(&from))?;
        Ok(Self(folder.to_owned()))
    }

    /// Powers it on behind a socket for QEMU, which starts it up; it ends when QEMU closes the socket.
    ///
    /// # Errors
    /// swtpm does not come up.
    pub fn for_machine(&self, socket: &Path, log: &Path) -> Result<Running, VmError> {
        let mut command = self.command(log);
        command
            .arg("--terminate")
            .args(["--ctrl", &format!("type=unixio,path={}", socket.display())]);
        Running::start(command, log, || socket.exists())
    }

    /// Powers it on and starts it up behind a port; returns how tpm2-tss reaches it.
    ///
    /// # Errors
    /// swtpm does not come up.
    pub fn for_tools(&self, log: &Path) -> Result<(Running, String), VmError> {
        let mut last = VmError::Missing("free port on loopback".to_owned());
        // Another program may take a port between our look and swtpm's bind.
        for _ in 0..5 {
            let Some(port) = free_pair() else { continue };
            let mut command = self.command(log);
            let at = |port| format!("type=tcp,port={port},bindaddr=127.0.0.1");
            command.args(["--flags", "not-need-init,startup-clear"]).args([
                "--server",
                &at(port),
                "--ctrl",
                &at(port + 1),
            ]);
            match Running::start(command, log, || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            }) {
                Ok(running) => return Ok((running, format!("swtpm:host=127.0.0.1,port={port}"))),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn command(&self, log: &Path) -> Command {
        let mut command = Command::new("swtpm");
        command
            .args([
                "socket",
                "--tpm2",
                "--tpmstate",
                &format!("dir={}", self.0.display()),
            ])
            .args(["--log", &format!("file={},level=1,truncate", log.display())]);
        command
    }
}

/// What swtpm calls its permanent state.
const STATE: &str = "tpm2-00.permall";

/// A TPM with power; without it when dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path, up: impl Fn() -> bool) -> Result<Self, VmError> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|why| VmError::Start("swtpm".to_owned(), why))?;
        let mut running = Self(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = running.0.try_wait().map_err(VmError::file("swtpm"))?;
            if let Some(status) = ended {
                return Err(VmError::Failed {
                    program: "swtpm".to_owned(),
                    status: status.to_string(),
                    words: fs::read_to_string(log).unwrap_or_default(),
                });
            }
            if up() {
                return Ok(running);
            }
            if Instant::now() > deadline {
                return Err(VmError::TooLong {
                    what: "starting swtpm".to_owned(),
                    limit: PATIENCE,
                });
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two free ports in a row, below those that the kernel hands out.
fn free_pair() -> Option<u16> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let start = u16::try_from(std::process::id() % 4_000).ok()? * 2 + 22_000;
    (0..200)
        .map(|n| start + n * 2)
        .find(|port| free(*port) && free(port + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outlive_a_power_cycle_and_pcrs_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let state = TpmState::manufacture(&folder.path().join("tpm")).unwrap();
        let tool = |tcti: &str, program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            String::from_utf8(succeed(command.args(arguments).env("TPM2TOOLS_TCTI", tcti)).unwrap()).unwrap()
        };
        let zero = "0x0000000000000000000000000000000000000000000000000000000000000000";
        {
            let (_on, tcti) = state.for_tools(&log).unwrap();
            let digest = "11".repeat(32);
            tool(&tcti, "tpm2_pcrextend", &[&format!("7:sha256={digest}")]);
            tool(&tcti, "tpm2_nvdefine", &["-s", "8", "0x1500016"]);
            assert!(!tool(&tcti, "tpm2_pcrread", &["sha256:7"]).contains(zero));
        }
        let copy = state.copy(&folder.path().join("copy")).unwrap();
        let (_on, tcti) = copy.for_tools(&log).unwrap();
        assert!(tool(&tcti, "tpm2_pcrread", &["sha256:7"]).contains(zero));
        assert!(tool(&tcti, "tpm2_getcap", &["handles-nv-index"]).contains("0x1500016"));
        // One bank, as said above.
        assert!(!tool(&tcti, "tpm2_getcap", &["pcrs"]).contains("sha1: [ 0"));
    }

    #[test]
    fn a_state_that_is_none_is_told_with_swtpms_words() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("tpm");
        fs::create_dir(&broken).unwrap();
        fs::write(broken.join(STATE), b"nonsense").unwrap();
        let error = TpmState(broken)
            .for_tools(&folder.path().join("log"))
            .unwrap_err();
        assert!(matches!(error, VmError::Failed { .. }), "{error}");
    }
}
