//! What the demo stands on: a software TPM, a model server, a registry and `attest-proxy`, all on loopback and free ports.
//!
//! Owns: how each is started and how the others reach it. Refuses: to use a TPM of the machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use serde_json::Value;

use crate::demo::report::Report;
use crate::demo::tools::{Programs, succeed};
use crate::demo::yard::{Yard, free_port, ready_line};
use crate::demo::{DEVICE, DemoError, Options};

const MODEL: &str = "smollm2:135m";
const FLEET: &str = "demo";
const AUDIENCE: &str = "https://llm.demo.example";
const MANIFEST: &str = "manifests/examples/demo.toml";

/// Everything that runs, and where.
pub(crate) struct Parts {
    pub(crate) tcti: String,
    pub(crate) registry: String,
    pub(crate) proxy: String,
    pub(crate) manifest: PathBuf,
    pub(crate) model: String,
    shown: String,
    out: PathBuf,
    tpm_port: u16,
}

impl Parts {
    /// Starts all of it.
    pub(crate) fn start(
        root: &Path,
        programs: &Programs,
        yard: &Yard,
        options: &Options,
        report: &Report,
    ) -> Result<Self, DemoError> {
        let tpm_port = software_tpm(yard)?;
        let tcti = format!("swtpm:host=127.0.0.1,port={tpm_port}");
        report.good("software TPM (swtpm)", &tcti);
        let (upstream, model, what) = model_server(programs, yard, options)?;
        report.good(what, &format!("{upstream}, model {model}"));
        let registry = if options.etcd {
            etcd(yard)?
        } else {
            format!("sqlite:{}", yard.folder().join("registry.db").display())
        };
        report.good("registry", &registry);
        let proxy = proxy(programs, yard, &registry, &upstream)?;
        report.good("attest-proxy", &proxy);
        let (manifest, shown) = manifest(root, yard, &model)?;
        let parts = Self {
            tcti,
            registry,
            proxy,
            manifest,
            model,
            shown,
            out: yard.folder().to_owned(),
            tpm_port,
        };
        parts.write_client_config()?;
        Ok(parts)
    }

    /// Measures a text into a PCR, as a boot would.
    pub(crate) fn extend(&self, pcr: u8, what: &str) -> Result<(), DemoError> {
        let file = self.out.join("measured");
        std::fs::write(&file, what).map_err(|why| DemoError::Folder(file.display().to_string(), why))?;
        // tpm2_pcrevent hashes the file and extends every bank.
        let pcr = pcr.to_string();
        succeed(
            Command::new("tpm2_pcrevent")
                .env("TPM2TOOLS_TCTI", &self.tcti)
                .arg(pcr)
                .arg(&file),
        )
        .map(drop)
    }

    /// Power off and on: the PCRs are empty again, what is persistent stays.
    pub(crate) fn power_cycle(&self) -> Result<(), DemoError> {
        let control = format!("127.0.0.1:{}", self.tpm_port + 1);
        for flag in ["--stop", "-i"] {
            succeed(Command::new("swtpm_ioctl").args(["--tcp", &control, flag]))?;
        }
        succeed(
            Command::new("tpm2_startup")
                .env("TPM2TOOLS_TCTI", &self.tcti)
                .arg("-c"),
        )
        .map(drop)
    }

    /// What `provisioner` is told beside the manifest.
    pub(crate) fn provisioner_arguments(&self) -> Vec<String> {
        let out = self.out.display().to_string();
        [
            "--tcti",
            &self.tcti,
            "--registry",
            &self.registry,
            "--output-dir",
            &out,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What `edge-client` is told: its configuration.
    pub(crate) fn client_arguments(&self) -> Vec<String> {
        vec!["--config".to_owned(), self.client_config().display().to_string()]
    }

    fn client_config(&self) -> PathBuf {
        self.out.join("edge.toml")
    }

    fn write_client_config(&self) -> Result<(), DemoError> {
        let text = format!(
            "volume = \"{}\"\ntcti = \"{}\"\nproxy = \"{}\"\nmodel = \"{}\"\n",
            self.volume().display(),
            self.tcti,
            self.proxy,
            self.model
        );
        write_private(&self.client_config(), &text)
    }

    /// The device's sealed volume.
    fn volume(&self) -> PathBuf {
        self.out.join("out").join(format!("{DEVICE}.luks"))
    }

    /// The manifest as a person would name it.
    pub(crate) fn manifest_shown(&self) -> &str {
        &self.shown
    }
}

/// Starts it; returns its port. Control is on the next one.
fn software_tpm(yard: &Yard) -> Result<u16, DemoError> {
    let state = yard.folder().join("tpm");
    std::fs::create_dir(&state).map_err(|why| DemoError::Folder(state.display().to_string(), why))?;
    // tpm2-tss expects the control channel on the next port.
    let port = free_port(1)?;
    let pid = state.join("pid");
    let mut command = Command::new("swtpm");
    command
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
        .args([
            "--ctrl",
            &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1),
        ])
        .args(["--tpmstate", &format!("dir={}", state.display())])
        .args(["--pid", &format!("file={}", pid.display())]);
    // The file is written once the ports are bound.
    yard.start("swtpm", command, |_| {
        std::fs::read_to_string(&pid).ok().filter(|id| !id.is_empty())
    })?;
    Ok(port)
}

/// Where the model is, its name, and what serves it.
fn model_server(
    programs: &Programs,
    yard: &Yard,
    options: &Options,
) -> Result<(String, String, &'static str), DemoError> {
    if !options.scripted
        && let Some((url, model)) = running_ollama()
    {
        return Ok((url, model, "Ollama (already running)"));
    }
    let mut command = programs.command("model-server");
    let what = match (&options.weights, options.scripted) {
        (Some(weights), false) => {
            command.arg("--weights").arg(weights);
            "model server (SmolLM2-135M)"
        }
        _ => {
            command.arg("--scripted");
            "model server (scripted)"
        }
    };
    let url = yard.start("model-server", command, ready_line)?;
    Ok((url, MODEL.to_owned(), what))
}

/// An Ollama that answers where `OLLAMA_HOST` says, and the model to ask there: ours if it is there, else its first.
fn running_ollama() -> Option<(String, String)> {
    let host = std::env::var("OLLAMA_HOST")
        .ok()
        .filter(|host| !host.is_empty())?;
    let url = if host.contains("://") {
        host
    } else {
        format!("http://{host}")
    };
    let url = url.trim_end_matches('/').to_owned();
    let text = succeed(
        Command::new("curl")
            .args(["-fsS", "--max-time", "5"])
            .arg(format!("{url}/api/tags")),
    )
    .ok()?;
    let tags: Value = serde_json::from_str(&text).ok()?;
    let models: Vec<&str> = tags
        .get("models")?
        .as_array()?
        .iter()
        .filter_map(|model| model.get("name")?.as_str())
        .collect();
    let model = models
        .iter()
        .find(|name| **name == MODEL)
        .or_else(|| models.first())?;
    Some((url, (*model).to_owned()))
}

fn etcd(yard: &Yard) -> Result<String, DemoError> {
    let (clients, peers) = (free_port(0)?, free_port(0)?);
    let (client_url, peer_url) = (
        format!("http://127.0.0.1:{clients}"),
        format!("http://127.0.0.1:{peers}"),
    );
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(yard.folder().join("etcd"))
        .args([
            "--listen-client-urls",
            &client_url,
            "--advertise-client-urls",
            &client_url,
        ])
        .args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ])
        .args(["--initial-cluster", &format!("default={peer_url}")]);
    yard.start("etcd", command, |_| {
        let health = format!("{client_url}/health");
        succeed(Command::new("curl").args(["-fsS", "--max-time", "2"]).arg(health))
            .ok()
            .filter(|text| text.contains("true"))
    })?;
    Ok(format!("etcd://127.0.0.1:{clients}"))
}

fn proxy(programs: &Programs, yard: &Yard, registry: &str, upstream: &str) -> Result<String, DemoError> {
    let key = yard.folder().join("fleet.key");
    write_private(&key, &format!("{}\n", BASE64.encode(&random()?)))?;
    let config = yard.folder().join("attest-proxy.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\noperator-listen = \"127.0.0.1:0\"\nfleet = \"{FLEET}\"\naudience = \"{AUDIENCE}\"\n\
         registry = \"{registry}\"\nupstream = \"{upstream}\"\n\n[fleet-key]\nid = \"demo-1\"\nfile = \"{}\"\n",
        key.display()
    );
    write_private(&config, &text)?;
    let mut command = programs.command("attest-proxy");
    command.args(["serve", "--log", "text", "--config"]).arg(&config);
    yard.start("attest-proxy", command, ready_line)
}

/// The example manifest; or, for another model than the one it allows, a copy that allows that one.
fn manifest(root: &Path, yard: &Yard, model: &str) -> Result<(PathBuf, String), DemoError> {
    let path = root.join(MANIFEST);
    if model == MODEL {
        return Ok((path, MANIFEST.to_owned()));
    }
    let failed = |why| DemoError::Folder(path.display().to_string(), why);
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let copy = yard.folder().join("demo.toml");
    std::fs::write(
        &copy,
        text.replace(&format!("[\"{MODEL}\"]"), &format!("[\"{model}\"]")),
    )
    .map_err(failed)?;
    let shown = copy.display().to_string();
    Ok((copy, shown))
}

/// A file that nobody else may read.
fn write_private(path: &Path, text: &str) -> Result<(), DemoError> {
    let failed = |why| DemoError::Folder(path.display().to_string(), why);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// 32 bytes from the kernel.
pub(crate) fn random() -> Result<[u8; 32], DemoError> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|why| DemoError::Folder("/dev/urandom".to_owned(), why))?;
    Ok(bytes)
}
