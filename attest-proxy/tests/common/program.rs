//! The program, started as an operator starts it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each test binary uses its own part"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use registry::{Registry, RegistryUrl};

use super::forge;

/// A running program, its stderr read up to the line that says it is ready.
pub struct Running {
    pub child: Child,
    pub address: SocketAddr,
    pub operators: SocketAddr,
    log: Option<std::thread::JoinHandle<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that failed, nothing stays behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(config: &Path, more: &[&str]) -> Self {
        Self::start_at(config, more, "ready: http://")
    }

    pub fn start_at(config: &Path, more: &[&str], ready: &str) -> Self {
        Self::start_by(
            Command::new(env!("CARGO_BIN_EXE_attest-proxy")),
            config,
            more,
            ready,
        )
    }

    /// By a command that runs the program with further arguments.
    pub fn start_by(mut command: Command, config: &Path, more: &[&str], ready: &str) -> Self {
        let mut child = command
            .args(["serve", "--config", config.to_str().unwrap()])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let mut find = |prefix: &str| loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {log}");
            log.push_str(&line);
            if let Some(address) = line.trim().strip_prefix(prefix) {
                return address.parse().unwrap();
            }
        };
        let operators = find("operators: http://");
        let address = find(ready);
        let log = std::thread::spawn(move || {
            lines.read_to_string(&mut log).unwrap();
            log
        });
        Self {
            child,
            address,
            operators,
            log: Some(log),
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Ends it by SIGTERM; its exit code and its whole log.
    pub fn end(self) -> (i32, String) {
        self.signal("-TERM");
        self.wait()
    }

    /// Waits until it has ended; its exit code and its whole log.
    pub fn wait(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.log.take().unwrap().join().unwrap())
    }
}

/// A folder with a configuration, a key, and a registry that knows the two devices.
pub async fn folder(upstream: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("registry.db").display())
        .parse()
        .unwrap();
    let (config, _, _) = folder_on(&dir, &url, upstream, "").await;
    (dir, config)
}

/// The same with a given registry, and lines for the end of the configuration; and the kiosk's TPM.
pub async fn folder_on(
    dir: &tempfile::TempDir,
    url: &RegistryUrl,
    upstream: &str,
    more: &str,
) -> (PathBuf, forge::Tpm, Arc<dyn Registry>) {
    let registry = registry::open(url, &registry::Options::default(), &super::FLEET.parse().unwrap())
        .await
        .unwrap();
    for (name, evidence) in [("strict", true), ("open", false)] {
        registry
            .put_policy(&name.parse().unwrap(), forge::policy(evidence), None)
            .await
            .unwrap();
    }
    let tpm = forge::Tpm::new();
    for (id, policy, tpm) in [("kiosk", "strict", Some(&tpm)), ("plain", "open", None)] {
        registry.enrol(forge::device(id, policy, tpm)).await.unwrap();
    }
    let path = dir.path().join("attest-proxy.toml");
    std::fs::write(&path, super::config(dir.path(), upstream, url, more)).unwrap();
    (path, tpm, registry)
}
