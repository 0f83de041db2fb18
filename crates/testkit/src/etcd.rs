//! A real etcd on loopback, one per test.
//!
//! Owns: the process, its ports and its data folder; etcd is killed and the folder removed on drop.
//! Refuses: to skip when etcd or etcdctl is missing; it panics with the package's name.
//! Limits: one member, so that what a cluster does when it loses its leader is not seen here.

use std::{
    ffi::OsString,
    fmt::Debug,
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long an etcd may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// PEM files of a server that speaks TLS and asks every client for a certificate.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The server's certificate; it must be good for 127.0.0.1.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of the clients' certificates.
    pub client_ca: PathBuf,
}

/// A running etcd of one member.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    ports: Ports,
    dir: TempDir,
    tls: Option<EtcdTls>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
}

impl Etcd {
    /// Starts an empty etcd and waits until it is healthy.
    ///
    /// # Panics
    /// etcd is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same, over TLS with client certificates.
    ///
    /// # Panics
    /// As [`Etcd::start`], or the files are of no use.
    #[must_use]
    pub fn start_tls(tls: EtcdTls) -> Self {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<EtcdTls>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("etcd-")
            .tempdir()
            .expect("a folder for etcd's data");
        // Another process can take a free port before etcd does: then others are tried.
        for _ in 0..5 {
            let ports = free_ports();
            let mut child = spawn(dir.path(), ports, tls.as_ref());
            if is_up(&mut child, ports) {
                return Self {
                    child,
                    ports,
                    dir,
                    tls,
                };
            }
            kill(&mut child);
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("etcd does not come up:\n{log}");
    }

    /// `127.0.0.1:PORT`, for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// The port for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.ports.client
    }

    /// What a registry is opened with: `etcd://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("etcd://{}", self.endpoint())
    }

    /// Stops the process where it is (SIGSTOP): it hangs, its connections stay.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Kills it (SIGKILL): nobody answers any more, until it is started again.
    pub fn kill(&mut self) {
        kill(&mut self.child);
    }

    /// Kills it (SIGKILL) and starts it again on the same ports and data.
    pub fn restart(&mut self) {
        kill(&mut self.child);
        self.child = spawn(self.dir.path(), self.ports, self.tls.as_ref());
        assert!(is_up(&mut self.child, self.ports), "etcd does not come up again");
    }

    /// Compacts all history up to now, so that no watch can start before it.
    pub fn compact(&self) {
        let status = self.ctl(&["get", "any", "-w", "fields"]);
        let revision = status
            .lines()
            .find_map(|line| line.strip_prefix("\"Revision\" : "))
            .unwrap_or_else(|| panic!("etcdctl told no revision: {status}"));
        self.ctl(&["compact", revision.trim(), "--physical"]);
    }

    /// Runs etcdctl against it and returns what it printed.
    ///
    /// # Panics
    /// It is not installed, or it fails.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--dial-timeout", "5s"]);
        match &self.tls {
            None => command.args(["--endpoints", &self.endpoint()]),
            Some(tls) => command
                .args(["--endpoints", &format!("https://{}", self.endpoint())])
                .arg("--cacert")
                .arg(&tls.client_ca)
                .arg("--cert")
                .arg(&tls.cert)
                .arg("--key")
                .arg(&tls.key),
        };
        let output = command.args(args).output();
        let Output {
            status,
            stdout,
            stderr,
        } = output.unwrap_or_else(|e| missing("etcdctl", "etcd-client", &e));
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "etcdctl {args:?}: {stdout}{stderr}");
        stdout.into_owned()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill {signal}");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

fn free_ports() -> Ports {
    // All at once, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    let [client, peer, health] = listeners.map(|l| l.local_addr().expect("its address").port());
    Ports { client, peer, health }
}

fn spawn(dir: &Path, ports: Ports, tls: Option<&EtcdTls>) -> Child {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let client = format!("{scheme}://127.0.0.1:{}", ports.client);
    let peer = format!("http://127.0.0.1:{}", ports.peer);
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .expect("etcd's log");
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--name", "test", "--logger", "zap"])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("test={peer}")])
        .args(["--listen-metrics-urls", &health_url(ports)]);
    if let Some(tls) = tls {
        let files = [
            ("--cert-file", &tls.cert),
            ("--key-file", &tls.key),
            ("--trusted-ca-file", &tls.client_ca),
        ];
        let files = files.map(|(name, file)| [OsString::from(name), file.into()]);
        command.arg("--client-cert-auth").args(files.as_flattened());
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("etcd's log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| missing("etcd", "etcd-server", &e))
}

fn health_url(ports: Ports) -> String {
    format!("http://127.0.0.1:{}", ports.health)
}

fn is_up(child: &mut Child, ports: Ports) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && child.try_wait().expect("etcd's state").is_none() {
        if health(ports).is_ok_and(|answer| answer.contains("\"health\":\"true\"")) {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

fn health(ports: Ports) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.health))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn kill(child: &mut Child) {
    // It may be gone already; either way it is waited for.
    let _ = child.kill();
    let _ = child.wait();
}

fn missing(program: &str, package: &str, error: &dyn Debug) -> ! {
    panic!("{program} does not run ({error:?}): install the Debian package {package}")
}
