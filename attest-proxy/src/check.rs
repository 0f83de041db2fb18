//! `attest-proxy check`: would it work, asked before it has to.
//!
//! Owns: the list of checks; each says what it found. It changes nothing: an SQLite registry that is not there is a
//! finding, not something to be made.

use std::{path::Path, time::Duration};

use domain::UnixTime;
use registry::{RegistryUrl, Update};
use rustix::fs::Access;
use serde::Serialize;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    audit,
    clock::Clock,
    config::{Settings, Tls},
    expiry::{self, Standing},
    follow::chain,
    keys, registry_options, tls,
    upstream::{Trust, Upstream},
    view::View,
};

/// The check of the CAs of client certificates.
const CLIENT_CA: &str = "client ca";
/// How long the registry's first answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether it will not be so for long.
    pub warning: bool,
    /// What was found.
    pub detail: String,
}

/// Runs every check.
pub async fn run(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![finding("configuration", Ok(format!("fleet {}", settings.fleet)))];
    let key = keys::load(settings).map(|keys| format!("key {}", keys.ring.current().id()));
    findings.push(finding("fleet key", key.map_err(|e| e.to_string())));
    if let Some(files) = &settings.tls {
        findings.extend(certificates(files, settings.http2, Clock::System.now()));
    }
    if let Some(audit) = &settings.audit {
        let writable = audit::probe(&audit.file).map(|()| audit.file.display().to_string());
        findings.push(finding("audit log", writable.map_err(|e| e.to_string())));
    }
    if let Some(path) = &settings.registry_snapshot {
        findings.push(finding("snapshot", snapshot(path)));
    }
    if let Some(traces) = &settings.traces {
        let reached = collector(&traces.endpoint.address).await;
        findings.push(finding("collector", reached));
    }
    findings.push(finding("registry", registry(settings).await));
    let trust = match Trust::read(settings.upstreams.tls.as_ref()) {
        Ok(trust) => trust,
        Err(error) => {
            // Nobody would be believed: the servers are not to blame.
            findings.push(finding("upstream tls", Err(error.to_string())));
            return findings;
        }
    };
    if let Some(tls) = &settings.upstreams.tls {
        findings.push(finding("upstream tls", Ok(tls.ca.display().to_string())));
    }
    findings.extend(own_certificates(settings, Clock::System.now()));
    let upstream = Upstream::new(
        &settings.upstreams,
        trust,
        crate::metrics::Metrics::default().waits(),
        &settings.limits,
    );
    let found = upstream.round().await;
    if found.is_empty() {
        findings.push(finding("upstream", Err("no name has an address".into())));
    }
    for (server, result) in found {
        let result = result.map(|()| server.clone());
        findings.push(finding("upstream", result.map_err(|e| format!("{server}: {e}"))));
    }
    findings
}

/// Whether TLS can be spoken, and for how long.
fn certificates(files: &Tls, http2: bool, now: UnixTime) -> Vec<Finding> {
    let loaded = tls::load(files, http2).and_then(|_| tls::ends(files));
    let (server, client_ca) = match loaded {
        Ok(ends) => ends,
        Err(error) => return vec![finding("tls", Err(error.to_string()))],
    };
    let mut findings = vec![dated("tls", &files.cert, &server, now, "clients refuse it")];
    if let Some(path) = &files.client_ca {
        // A trust anchor's own dates are nobody's to judge: rustls goes on believing it.
        let after = "certificates by it are still taken here: replace it, or take it out";
        findings.push(dated(CLIENT_CA, path, &client_ca, now, after));
    }
    findings
}

/// The certificates by which others know us, where there are any; one that cannot be read is told by whoever needs it.
fn own_certificates(settings: &Settings, now: UnixTime) -> Vec<Finding> {
    let upstream = settings
        .upstreams
        .tls
        .as_ref()
        .and_then(|tls| tls.identity.as_ref());
    let registry = settings.registry_tls.as_ref().and_then(|tls| tls.cert.as_ref());
    let ours = [
        (
            "upstream cert",
            upstream.map(|(cert, _)| cert),
            "the model servers refuse it",
        ),
        ("registry cert", registry, "etcd refuses it"),
    ];
    let mut findings = Vec::new();
    for (name, path, after) in ours {
        if let Some(path) = path
            && let Ok(chain) = tls::certificates(name, path)
        {
            let ends = expiry::ends(chain.iter().map(|der| &**der));
            findings.push(dated(name, path, &ends, now, after));
        }
    }
    findings
}

fn dated(name: &'static str, path: &Path, ends: &[Option<UnixTime>], now: UnixTime, after: &str) -> Finding {
    let shown = path.display();
    // A chain is as good as its first end; of several CAs, each stands for itself.
    let standing = match expiry::standing(ends, now) {
        Standing::Some(end) if name != CLIENT_CA => Standing::Over(end),
        standing => standing,
    };
    let (ok, warning, detail) = match standing {
        Standing::Good(Some(end)) => (true, false, format!("{shown}, until {end}")),
        Standing::Good(None) => (true, false, shown.to_string()),
        Standing::Soon(end) => (
            true,
            true,
            format!("{shown} ends at {end}: renew it, then SIGHUP"),
        ),
        Standing::Some(end) => (
            true,
            true,
            format!("{shown}: one of them ended at {end}; {after}"),
        ),
        Standing::Over(end) => (false, false, format!("{shown} ended at {end}: {after}")),
    };
    Finding {
        name,
        ok,
        warning,
        detail,
    }
}

/// Whether the snapshot's folder can be written.
fn snapshot(path: &Path) -> Result<String, String> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)
        .map(|()| path.display().to_string())
        .map_err(|e| format!("cannot write to {}: {e}", dir.display()))
}

async fn collector(address: &str) -> Result<String, String> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(address.to_owned()),
        Ok(Err(error)) => Err(format!("cannot connect to {address}: {error}")),
        Err(_) => Err(format!("no connection to {address} within {PATIENCE:?}")),
    }
}

fn finding(name: &'static str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding {
        name,
        ok,
        warning: false,
        detail: result.unwrap_or_else(|e| e),
    }
}

async fn registry(settings: &Settings) -> Result<String, String> {
    if let RegistryUrl::Sqlite(path) = &settings.registry
        && !path.exists()
    {
        return Err(format!(
            "there is no {}; `provisioner apply` makes it",
            path.display()
        ));
    }
    timeout(PATIENCE, first_view(settings))
        .await
        .map_err(|_| format!("no answer from {} within {PATIENCE:?}", settings.registry))?
}

async fn first_view(settings: &Settings) -> Result<String, String> {
    let options = registry_options(settings);
    let registry = registry::open(&settings.registry, &options, &settings.fleet)
        .await
        .map_err(|e| chain(&e))?;
    let mut watch = registry.watch().await.map_err(|e| chain(&e))?;
    loop {
        match watch.next().await {
            Some(Ok(Update::Snapshot(snapshot))) => {
                let (usable, unusable) = View::new(snapshot, &View::default()).count();
                return Ok(format!(
                    "{}: {usable} devices can be admitted, {unusable} cannot",
                    settings.registry
                ));
            }
            Some(_) => {}
            None => return Err("the registry ended the watch".into()),
        }
    }
}
