//! Our proxy: its registry, its configuration, and how it is started.
//!
//! Owns: the fleet that is registered: a thousand devices with a key alone, and kiosks that must prove their state. The registry is
//! SQLite in memory (`/dev/shm`): how fast a disk syncs is not what is measured.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use registry::{Options, RegistryUrl};

use crate::{
    cores,
    credentials::Kiosks,
    forge::{self, psk_text},
    peers::{Running, address_after},
};

pub(crate) const FLEET: &str = "demo";
pub(crate) const AUDIENCE: &str = "https://llm.demo.example";
pub(crate) const ROOT: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// Devices with a key alone.
pub(crate) const PLAIN: usize = 1000;

/// Everything that our proxies share.
pub(crate) struct House {
    program: PathBuf,
    dir: tempfile::TempDir,
    registry: RegistryUrl,
}

/// The key of a device that has nothing else.
pub(crate) fn plain_key(nth: usize) -> String {
    psk_text(&format!("plain-{nth}"))
}

impl House {
    /// Registers everyone.
    pub(crate) fn build(program: &Path, kiosks: &Kiosks) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("proxy-bench")
            .tempdir_in("/dev/shm")
            .unwrap();
        let registry: RegistryUrl = format!("sqlite:{}", dir.path().join("registry.db").display())
            .parse()
            .unwrap();
        let key = dir.path().join("fleet.key");
        fs::write(&key, data_encoding::BASE64.encode(&ROOT)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(enrol(&registry, kiosks));
        Self {
            program: program.to_owned(),
            dir,
            registry,
        }
    }

    /// Starts one. `name` is its configuration's; `all`: with an access log, as JSON, and an audit log.
    pub(crate) fn start(&self, name: &str, upstream: SocketAddr, all: bool) -> Running {
        let dir = self.dir.path();
        let config = dir.join(format!("{name}.toml"));
        let text = format!(
            "listen = \"127.0.0.1:0\"\noperator-listen = \"127.0.0.1:0\"\nfleet = \"{FLEET}\"\naudience = \"{AUDIENCE}\"\n\
             registry = \"{}\"\nupstream = \"http://{upstream}\"\n[fleet-key]\nid = \"k1\"\nfile = \"fleet.key\"\n\
             [limits]\nconnections = 20000\nconnections-per-peer = 20000\n{}",
            self.registry,
            if all {
                format!("[audit]\nfile = \"{name}.jsonl\"\n")
            } else {
                String::new()
            }
        );
        fs::write(&config, text).unwrap();
        let log = dir.join(format!("{name}.log"));
        let level = if all { "info" } else { "warn" };
        let child = cores::on_proxy_core(&self.program)
            .args(["serve", "--log", "json", "--log-level", level, "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .expect("attest-proxy starts");
        let address = address_after(&log, "ready: http://");
        Running {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address,
            child,
        }
    }
}

async fn enrol(url: &RegistryUrl, kiosks: &Kiosks) {
    let registry = registry::open(url, &Options::default(), &FLEET.parse().unwrap())
        .await
        .unwrap();
    for (name, evidence) in [("strict", true), ("open", false)] {
        registry
            .put_policy(&name.parse().unwrap(), forge::policy(evidence), None)
            .await
            .unwrap();
    }
    for nth in 0..PLAIN {
        let record = forge::device(&format!("plain-{nth}"), "open", None);
        registry.enrol(record).await.unwrap();
    }
    for kiosk in &kiosks.all {
        let record = forge::device(&kiosk.id, "strict", Some(&kiosk.tpm));
        registry.enrol(record).await.unwrap();
    }
}
