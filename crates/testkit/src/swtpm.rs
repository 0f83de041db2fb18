//! A software TPM per test: swtpm on two loopback ports, with its own state.
//!
//! Owns: the process, its ports (data, and control on the next number, as tpm2-tss expects) and its state folder.
//! Refuses: to skip when swtpm, swtpm_ioctl or tpm2-tools are missing; it panics with the package's name.
//! Limits: swtpm serves one client at a time and has 3 object and 3 session slots and no resource manager: drop the
//! connection before a stock tool runs. Several instances run side by side.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a swtpm may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running swtpm; killed on drop, its state removed.
#[derive(Debug)]
pub struct Swtpm {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl Swtpm {
    /// Starts a new TPM, powered on and started up (`TPM2_Startup(CLEAR)`), its PCRs all zero.
    ///
    /// # Panics
    /// swtpm is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("swtpm-")
            .tempdir()
            .expect("a folder for swtpm's state");
        let (child, port) = spawn(dir.path(), None);
        Self {
            child: Some(child),
            port,
            dir,
        }
    }

    /// How tpm2-tss reaches it: `swtpm:host=127.0.0.1,port=P`.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The data port; control is the next one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A folder for the files of tools, removed with the TPM.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Power off without a word to the TPM, then on: a TPM Reset. PCRs are zero, `resetCount` is higher; what is
    /// persistent stays.
    pub fn reset(&self) {
        self.power_cycle();
        self.tool("tpm2_startup", &["-c"]);
    }

    /// Orderly `TPM2_Shutdown(STATE)`, power off and on, `TPM2_Startup(CLEAR)`: a TPM Restart. PCRs are zero and
    /// only `restartCount` is higher.
    pub fn restart(&self) {
        self.tool("tpm2_shutdown", &[]);
        self.power_cycle();
        self.tool("tpm2_startup", &["-c"]);
    }

    /// Orderly `TPM2_Shutdown(STATE)`, power off and on, `TPM2_Startup(STATE)`, as around a machine's sleep: a TPM Resume. PCRs stay and
    /// only `restartCount` is higher.
    pub fn resume(&self) {
        self.tool("tpm2_shutdown", &[]);
        self.power_cycle();
        self.tool("tpm2_startup", &[]);
    }

    /// Measures `data` into a PCR of the SHA-256 bank: extends it by SHA-256 of `data`.
    pub fn extend(&self, pcr: u8, data: &[u8]) {
        let digest = domain::Sha256Digest::of(data);
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]);
    }

    /// Kills the TPM as a power cut would, and returns how it would be reached: nobody answers there.
    pub fn kill(&mut self) {
        end(self.child.take());
    }

    /// After [`Swtpm::kill`]: starts it again on the same port with the state that is on its disk.
    pub fn revive(&mut self) {
        end(self.child.take());
        let (child, port) = spawn(self.dir.path(), Some(self.port));
        self.child = Some(child);
        self.port = port;
    }

    /// A stock tpm2-tool, pointed at this TPM, its working folder [`Swtpm::dir`].
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("TPM2TOOLS_TCTI", self.tcti())
            .stdin(Stdio::null());
        command
    }

    /// Runs a stock tpm2-tool to success.
    ///
    /// # Panics
    /// It is not installed, or fails; its stderr is in the message.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        let output = run(self.command(program).args(arguments), "tpm2-tools");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn power_cycle(&self) {
        let control = format!("127.0.0.1:{}", self.port + 1);
        for flag in ["--stop", "-i"] {
            let output = run(
                Command::new("swtpm_ioctl").args(["--tcp", &control, flag]),
                "swtpm-tools",
            );
            assert!(
                output.status.success(),
                "swtpm_ioctl {flag}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        end(self.child.take());
    }
}

fn run(command: &mut Command, package: &str) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!(
            "{:?} cannot run ({error}): apt-get install {package}",
            command.get_program()
        )
    })
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Starts swtpm and waits until it answers. Another test may take a port between our look and swtpm's bind: then
/// swtpm ends at once and the next pair is tried.
fn spawn(dir: &Path, port: Option<u16>) -> (Child, u16) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let Some(port) = port.or_else(free_pair) else {
            continue;
        };
        if let Some(child) = try_spawn(dir, port, deadline) {
            return (child, port);
        }
    }
    let log = fs::read_to_string(dir.join("swtpm.log")).unwrap_or_default();
    panic!("swtpm did not come up within {PATIENCE:?}: {log}");
}

fn try_spawn(dir: &Path, port: u16, deadline: Instant) -> Option<Child> {
    let pid_file = dir.join("swtpm.pid");
    let _ = fs::remove_file(&pid_file);
    let mut child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
        .args([
            "--ctrl",
            &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1),
        ])
        // An absolute path: with a relative one swtpm starts and then fails every command.
        .args(["--tpmstate", &format!("dir={}", dir.display())])
        .args(["--pid", &format!("file={}", pid_file.display())])
        .args([
            "--log",
            &format!("file={},level=1,truncate", dir.join("swtpm.log").display()),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("swtpm cannot run ({error}): apt-get install swtpm"));
    // The pid file appears once the ports are bound, so a connection reaches this swtpm and no other.
    while Instant::now() < deadline {
        if child.try_wait().expect("swtpm can be waited for").is_some() {
            return None;
        }
        let up = fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0)
            && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        if up {
            return Some(child);
        }
        thread::sleep(Duration::from_millis(5));
    }
    end(Some(child));
    None
}

/// A free port whose successor is free too, below the range from which the kernel takes ports for connections.
pub(crate) fn free_pair() -> Option<u16> {
    let draw = RandomState::new().hash_one(std::process::id()) % 5_000;
    let port = 20_000 + 2 * u16::try_from(draw).ok()?;
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (free(port) && free(port + 1)).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcr(tpm: &Swtpm, index: u8) -> String {
        let output = tpm.tool("tpm2_pcrread", &[&format!("sha256:{index}")]);
        String::from_utf8(output.stdout).unwrap().to_lowercase()
    }

    fn counter(tpm: &Swtpm, name: &str) -> u32 {
        let text = String::from_utf8(tpm.tool("tpm2_readclock", &[]).stdout).unwrap();
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn two_run_side_by_side_and_are_two_tpms() {
        let (one, two) = (Swtpm::start(), Swtpm::start());
        assert_ne!(one.port(), two.port());
        one.extend(7, b"measured");
        assert_ne!(pcr(&one, 7), pcr(&two, 7));
    }

    #[test]
    fn reset_and_restart_zero_the_pcrs_and_move_their_own_counter() {
        let tpm = Swtpm::start();
        let zero = pcr(&tpm, 7);
        let before = (counter(&tpm, "reset_count"), counter(&tpm, "restart_count"));
        tpm.extend(7, b"measured");
        assert_ne!(pcr(&tpm, 7), zero);
        tpm.restart();
        assert_eq!(pcr(&tpm, 7), zero);
        assert_eq!(
            (counter(&tpm, "reset_count"), counter(&tpm, "restart_count")),
            (before.0, before.1 + 1)
        );
        tpm.extend(7, b"measured");
        tpm.reset();
        assert_eq!(pcr(&tpm, 7), zero);
        assert_eq!(
            (counter(&tpm, "reset_count"), counter(&tpm, "restart_count")),
            (before.0 + 1, 0)
        );
    }

    #[test]
    fn a_killed_tpm_is_gone_and_comes_back_with_its_state() {
        let mut tpm = Swtpm::start();
        tpm.tool("tpm2_nvdefine", &["-s", "8", "0x1500016"]);
        tpm.kill();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, tpm.port())).is_err());
        tpm.revive();
        let indices = tpm.tool("tpm2_getcap", &["handles-nv-index"]).stdout;
        assert!(String::from_utf8(indices).unwrap().contains("0x1500016"));
    }

    #[test]
    fn its_process_and_state_end_with_it() {
        let tpm = Swtpm::start();
        let (dir, port) = (tpm.dir(), tpm.port());
        drop(tpm);
        assert!(!dir.exists());
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
}
