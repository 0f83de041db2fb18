//! One line of parts: a software TPM, a registry, a scripted model, `attest-proxy`, and the programs that use them.
//!
//! Owns: starting and ending them, and a record of everything that was printed, for the search for leaked secrets. The programs are built when
//! a test asks for them first, unless SIGNALBOX_PROGRAMS names the folder in which they are, as `ci/test` does.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Swtpm, etcd::Etcd};

pub(crate) const DEVICE: &str = "kiosk-bern-01";
pub(crate) const QUESTION: &str = "Which platform does the train to Bern leave from?";
/// "At once", on two cores that run a dozen processes: a watch, or SQLite's poll, not a cache that runs out.
const AT_ONCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// After how long without a line a log is taken to have all of them.
const QUIET: Duration = Duration::from_millis(250);

/// Where the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    Sqlite,
    Etcd,
}

/// Everything that runs for one test.
pub(crate) struct Line {
    pub(crate) tpm: Swtpm,
    pub(crate) etcd: Option<Etcd>,
    pub(crate) registry: String,
    pub(crate) proxy: String,
    /// Logs, outputs, manifest, volumes, and the registry if it is a file.
    pub(crate) folder: TempDir,
    processes: Vec<Child>,
    outputs: AtomicUsize,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.trim().lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: no JSON at the end of {self:?}"))
    }

    /// Panics unless the program succeeded.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The code of the refusal with which a `--json` call ended.
    pub(crate) fn refusal(&self) -> String {
        let object = self.json();
        assert_ne!(self.code, Some(0), "admitted: {self:?}");
        object["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code in {self:?}"))
            .to_owned()
    }
}

impl Line {
    /// Starts all parts and measures the boot that the example manifest expects. Nothing is provisioned yet.
    pub(crate) fn start(backing: Backing) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("signalbox-e2e-")
            .tempdir()
            .unwrap();
        let tpm = Swtpm::start();
        boot(&tpm);
        let etcd = (backing == Backing::Etcd).then(Etcd::start);
        let registry = match &etcd {
            Some(etcd) => etcd.url(),
            None => format!("sqlite:{}", folder.path().join("registry.db").display()),
        };
        let mut line = Self {
            tpm,
            etcd,
            registry,
            proxy: String::new(),
            folder,
            processes: Vec::new(),
            outputs: AtomicUsize::new(0),
        };
        fs::write(line.manifest(), example()).unwrap();
        let upstream = line.spawn("model-server", &["--scripted", "--pace", "1"]);
        line.write_config(&upstream);
        let config = line.path("attest-proxy.toml").display().to_string();
        line.proxy = line.spawn("attest-proxy", &["serve", "--log", "json", "--config", &config]);
        line
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The manifest, which a test may change.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.path("demo.toml")
    }

    /// A device's sealed volume.
    pub(crate) fn volume(&self, device: &str) -> PathBuf {
        self.path("out").join(format!("{device}.luks"))
    }

    /// What the proxy has logged.
    pub(crate) fn proxy_log(&self) -> String {
        settled(&self.path("attest-proxy.log"))
    }

    /// Starts one more proxy on the same registry and model, with more lines of configuration; relative paths are from the
    /// folder. Returns its address.
    pub(crate) fn spawn_proxy(&mut self, name: &str, more: &str) -> String {
        let config = self.path(&format!("{name}.toml"));
        let text = fs::read_to_string(self.path("attest-proxy.toml")).unwrap();
        fs::write(&config, format!("{text}{more}")).unwrap();
        let config = config.display().to_string();
        let log = self.path(&format!("{name}.log"));
        self.spawn_into(
            &log,
            "attest-proxy",
            &["serve", "--log", "json", "--config", &config],
        )
    }

    /// What a proxy started by `spawn_proxy` has logged.
    pub(crate) fn proxy_log_of(&self, name: &str) -> String {
        settled(&self.path(&format!("{name}.log")))
    }

    /// Waits, as long as "at once" may take, until something is so.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + AT_ONCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not {what} within {AT_ONCE:?}");
        }
    }

    /// `provisioner apply` with this line's TPM and registry.
    pub(crate) fn apply(&self) -> Ended {
        self.run(&mut self.apply_command())
    }

    /// The same, not yet started.
    pub(crate) fn apply_command(&self) -> Command {
        let mut command = program("provisioner");
        command.args([
            "--json",
            "apply",
            "--yes",
            "--device",
            DEVICE,
            "--tcti",
            &self.tpm.tcti(),
        ]);
        command.args(["--registry", &self.registry]).arg(self.manifest());
        command
    }

    /// `provisioner device ..` on this line's registry.
    pub(crate) fn device(&self, arguments: &[&str]) -> Ended {
        let mut command = program("provisioner");
        command.args(["--json", "device"]).args(arguments).args([
            "--fleet",
            "demo",
            "--registry",
            &self.registry,
        ]);
        self.run(&mut command)
    }

    /// The device asks the question and is answered, at once or as soon as the proxy has noticed the registry's last change.
    pub(crate) fn admitted(&self) -> Ended {
        self.admitted_as(DEVICE, &self.tpm)
    }

    /// Another device does.
    pub(crate) fn admitted_as(&self, device: &str, tpm: &Swtpm) -> Ended {
        self.until("admitted", || {
            Some(self.ask_as(device, tpm, &[])).filter(|ended| ended.code == Some(0))
        })
    }

    /// The device asks until it is refused; returns the code.
    pub(crate) fn refused(&self) -> String {
        let ended = self.until("refused", || {
            Some(self.ask(&[])).filter(|ended| ended.code != Some(0))
        });
        assert_eq!(ended.code, Some(3), "{ended:?}");
        ended.refusal()
    }

    fn until(&self, what: &str, look: impl Fn() -> Option<Ended>) -> Ended {
        let deadline = Instant::now() + AT_ONCE;
        loop {
            if let Some(ended) = look() {
                return ended;
            }
            assert!(
                Instant::now() < deadline,
                "not {what} {AT_ONCE:?} after the registry changed: {}",
                self.proxy_log()
            );
        }
    }

    /// The device asks the question.
    pub(crate) fn ask(&self, more: &[&str]) -> Ended {
        self.ask_as(DEVICE, &self.tpm, more)
    }

    /// Another device asks the question.
    pub(crate) fn ask_as(&self, device: &str, tpm: &Swtpm, more: &[&str]) -> Ended {
        let mut command = program("edge-client");
        command.args([
            "--json",
            "ask",
            "--model",
            "smollm2:135m",
            "--tcti",
            &tpm.tcti(),
            "--proxy",
            &self.proxy,
        ]);
        command
            .arg("--volume")
            .arg(self.volume(device))
            .args(more)
            .arg(QUESTION);
        self.run(&mut command)
    }

    /// The device's PSK, as its volume holds it.
    pub(crate) fn psk(&self) -> String {
        let mut command = program("provisioner");
        command
            .args(["volume", "cat"])
            .arg(self.volume(DEVICE))
            .args(["/psk", "--tcti", &self.tpm.tcti()]);
        // Not through `run`: this output is the secret itself, and is not to be recorded.
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a program to its end and records what it printed.
    pub(crate) fn run(&self, command: &mut Command) -> Ended {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let number = self.outputs.fetch_add(1, Ordering::SeqCst);
        fs::write(self.path(&format!("output-{number}.stdout")), &output.stdout).unwrap();
        fs::write(self.path(&format!("output-{number}.stderr")), &output.stderr).unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn spawn(&mut self, name: &str, arguments: &[&str]) -> String {
        let path = self.path(&format!("{name}.log"));
        self.spawn_into(&path, name, arguments)
    }

    fn spawn_into(&mut self, path: &Path, name: &str, arguments: &[&str]) -> String {
        let log = fs::File::create(path).unwrap();
        let mut command = program(name);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.processes.push(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(path).unwrap();
            let whole = said
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'));
            if let Some(address) = whole.filter_map(|line| line.strip_prefix("ready: ")).next() {
                return address.to_owned();
            }
            let ended = self.processes.last_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{name} is not ready: {said}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn write_config(&self, upstream: &str) {
        let key = self.path("fleet.key");
        let private = |path: &Path| {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .unwrap()
        };
        let mut root = [0; 32];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut root).unwrap();
        writeln!(private(&key), "{}", data_encoding::BASE64.encode(&root)).unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\noperator-listen = \"127.0.0.1:0\"\nfleet = \"demo\"\naudience = \"https://llm.demo.example\"\n\
             registry = \"{}\"\nupstream = \"{upstream}\"\n[fleet-key]\nid = \"e2e-1\"\nfile = \"{}\"\n",
            self.registry,
            key.display()
        );
        private(&self.path("attest-proxy.toml"))
            .write_all(text.as_bytes())
            .unwrap();
    }
}

impl Drop for Line {
    #[expect(clippy::print_stdout, reason = "a failed test shows what the proxy logged")]
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            println!("attest-proxy's log:");
            println!(
                "{}",
                fs::read_to_string(self.path("attest-proxy.log")).unwrap_or_default()
            );
        }
    }
}

/// The boot that the example manifest expects, by PCR.
pub(crate) fn boot(tpm: &Swtpm) {
    tpm.extend(7, b"signalbox demo: secure boot state");
    tpm.extend(11, b"signalbox demo: kernel image");
}

/// The example manifest.
pub(crate) fn example() -> String {
    fs::read_to_string(root().join("manifests/examples/demo.toml")).unwrap()
}

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// One of our programs, with nothing of the caller's environment that could steer it.
pub(crate) fn program(name: &str) -> Command {
    let path = programs().join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    Command::new(path)
}

/// A log to which nothing was added for a while: the program writes what came within some milliseconds at once.
fn settled(log: &Path) -> String {
    let mut before = None;
    loop {
        let now = fs::read_to_string(log).unwrap();
        if before.as_deref() == Some(&*now) {
            return now;
        }
        before = Some(now);
        std::thread::sleep(QUIET);
    }
}

/// The folder with our programs, as they are now.
pub(crate) fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("SIGNALBOX_PROGRAMS") {
            return folder.into();
        }
        let packages = ["provisioner", "attest-proxy", "edge-client", "model-server"];
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .arg("build")
            .arg("--quiet")
            .args(packages.iter().flat_map(|name| ["--package", name]))
            .current_dir(root());
        assert!(cargo.status().unwrap().success(), "the programs do not build");
        // This test is TARGET/debug/deps/line-HASH.
        std::env::current_exe()
            .unwrap()
            .ancestors()
            .nth(2)
            .unwrap()
            .to_owned()
    })
}
