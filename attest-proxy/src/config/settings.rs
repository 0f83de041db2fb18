//! What a valid configuration is.
//!
//! Owns: the split between what serde read (`Raw`) and what is valid ([`Settings`]); paths made absolute to the file.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::{Audience, FleetName, KeyId, UnixTime};
use registry::RegistryUrl;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Diagnostic, Limits,
    limits::RawLimits,
    observe::{AuditSettings, RawAudit, RawSnapshot, RawTraces, TraceSettings},
    peers::{Cidr, ForwardedHeader, Peers},
    units::{UpstreamUrl, duration},
    upstreams::{RawQueue, RawUpstream, RawUpstreamTls, RawUpstreams, Upstreams, default_poll},
};
use crate::log::Verbosity;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where operators and probes connect.
    pub operator_listen: SocketAddr,
    /// Whose devices are admitted.
    pub fleet: FleetName,
    /// The name of this service in quotes.
    pub audience: Audience,
    /// Where devices are registered.
    pub registry: RegistryUrl,
    /// Ollama, once or several times, and the queue in front.
    pub upstreams: Upstreams,
    /// How long a registry without a sign of life is believed.
    pub registry_max_age: Duration,
    /// The fleet's root key.
    pub fleet_key: FleetKeyFile,
    /// The root key of before a rotation.
    pub previous_fleet_key: Option<PreviousFleetKeyFile>,
    /// TLS towards etcd.
    pub registry_tls: Option<RegistryTls>,
    /// User towards etcd.
    pub registry_user: Option<RegistryUser>,
    /// TLS towards clients.
    pub tls: Option<Tls>,
    /// The audit log, if there is one.
    pub audit: Option<AuditSettings>,
    /// Traces, if they are made.
    pub traces: Option<TraceSettings>,
    /// Where the registry's last snapshot is kept, if it is.
    pub registry_snapshot: Option<PathBuf>,
    /// What is logged, where the command line does not say.
    pub log_level: Option<Verbosity>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
    /// Who speaks for others.
    pub peers: Peers,
    /// Bounds.
    pub limits: Limits,
}

/// Where a fleet's root key is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FleetKeyFile {
    /// Its public name.
    pub id: KeyId,
    /// Base64 text of 32 bytes.
    pub file: PathBuf,
}

/// Where the root key of before a rotation is, and until when it is good.
#[derive(Debug, Clone)]
pub struct PreviousFleetKeyFile {
    /// The key.
    pub key: FleetKeyFile,
    /// Tokens and nonces made under it are refused from then on.
    pub until: UnixTime,
}

/// PEM files for TLS towards etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryTls {
    /// The CA that etcd's certificate must chain to.
    pub ca: PathBuf,
    /// Our certificate, if etcd wants one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryUser {
    /// Its name.
    pub name: String,
    /// A file with its password.
    pub password_file: PathBuf,
}

/// PEM files for TLS towards clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
    /// The CAs of client certificates, if clients may show one.
    pub client_ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    listen: SocketAddr,
    operator_listen: SocketAddr,
    fleet: FleetName,
    audience: Audience,
    registry: Spanned<String>,
    upstream: Option<Spanned<UpstreamUrl>>,
    #[serde(default)]
    upstreams: Vec<Spanned<RawUpstream>>,
    #[serde(deserialize_with = "duration", default = "default_poll")]
    upstream_poll: Duration,
    upstream_tls: Option<RawUpstreamTls>,
    #[serde(default)]
    queue: RawQueue,
    #[serde(deserialize_with = "duration", default = "default_max_age")]
    registry_max_age: Duration,
    fleet_key: FleetKeyFile,
    previous_fleet_key: Option<Spanned<RawPreviousKey>>,
    registry_tls: Option<Spanned<RegistryTls>>,
    registry_user: Option<RegistryUser>,
    tls: Option<Tls>,
    audit: Option<Spanned<RawAudit>>,
    traces: Option<Spanned<RawTraces>>,
    registry_snapshot: Option<RawSnapshot>,
    log_level: Option<Verbosity>,
    #[serde(default = "yes")]
    http2: bool,
    #[serde(default)]
    trusted_peers: Vec<Cidr>,
    #[serde(default)]
    proxy_protocol: Vec<Cidr>,
    #[serde(default)]
    forwarded_header: ForwardedHeader,
    #[serde(default = "default_limits")]
    limits: Spanned<RawLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPreviousKey {
    id: KeyId,
    file: PathBuf,
    until: Spanned<toml::value::Datetime>,
}

const fn default_max_age() -> Duration {
    Duration::from_secs(30)
}

const fn yes() -> bool {
    true
}

fn default_limits() -> Spanned<RawLimits> {
    Spanned::new(0..0, RawLimits::default())
}

impl Settings {
    /// Reads a configuration; `path` is its file's name, for messages and for relative paths.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let file = File { name: &name, text };
        let raw: Raw = toml::from_str(text).map_err(|e| Diagnostic::from_toml(&name, text, &e))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let limits = {
            let span = raw.limits.span();
            raw.limits
                .into_inner()
                .check()
                .map_err(|message| file.at(span, message, None))?
        };
        Ok(Self {
            listen: raw.listen,
            operator_listen: raw.operator_listen,
            fleet: raw.fleet,
            audience: raw.audience,
            registry: registry_url(&file, dir, &raw.registry)?,
            upstreams: {
                let several = raw.upstreams.last().map(Spanned::span);
                let span = several.or(raw.upstream.as_ref().map(Spanned::span));
                let raw = RawUpstreams {
                    one: raw.upstream.map(Spanned::into_inner),
                    several: raw.upstreams.into_iter().map(Spanned::into_inner).collect(),
                    poll: raw.upstream_poll,
                    queue: raw.queue,
                    tls: raw.upstream_tls,
                };
                raw.check(limits.streams, dir)
                    .map_err(|message| file.at(span.unwrap_or_default(), message, None))?
            },
            registry_max_age: raw.registry_max_age,
            previous_fleet_key: previous_key(&file, dir, &raw.fleet_key, raw.previous_fleet_key)?,
            fleet_key: FleetKeyFile {
                file: dir.join(raw.fleet_key.file),
                ..raw.fleet_key
            },
            registry_tls: raw
                .registry_tls
                .map(|tls| registry_tls(&file, dir, tls))
                .transpose()?,
            registry_user: raw.registry_user.map(|user| RegistryUser {
                password_file: dir.join(user.password_file),
                ..user
            }),
            tls: raw.tls.map(|tls| Tls {
                cert: dir.join(tls.cert),
                key: dir.join(tls.key),
                client_ca: tls.client_ca.map(|ca| dir.join(ca)),
            }),
            audit: checked(&file, raw.audit, |audit| audit.check(dir))?,
            traces: checked(&file, raw.traces, RawTraces::check)?,
            registry_snapshot: raw.registry_snapshot.map(|snapshot| dir.join(snapshot.file)),
            log_level: raw.log_level,
            http2: raw.http2,
            peers: Peers {
                trusted: raw.trusted_peers,
                proxy_protocol: raw.proxy_protocol,
                forwarded: raw.forwarded_header,
            },
            limits,
        })
    }
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn at(
        &self,
        span: std::ops::Range<usize>,
        message: impl fmt::Display,
        hint: Option<&'static str>,
    ) -> Diagnostic {
        Diagnostic::at(self.name, self.text, span, message.to_string(), hint)
    }
}

/// A section, valid, or what is wrong with it at its place.
fn checked<R, V>(
    file: &File<'_>,
    raw: Option<Spanned<R>>,
    check: impl FnOnce(R) -> Result<V, &'static str>,
) -> Result<Option<V>, Diagnostic> {
    let Some(raw) = raw else { return Ok(None) };
    let span = raw.span();
    check(raw.into_inner())
        .map(Some)
        .map_err(|message| file.at(span, message, None))
}

fn registry_url(file: &File<'_>, dir: &Path, raw: &Spanned<String>) -> Result<RegistryUrl, Diagnostic> {
    let url = raw.get_ref().parse::<RegistryUrl>();
    url.map(|url| url.relative_to(dir)).map_err(|e| {
        file.at(
            raw.span(),
            e,
            Some("`sqlite:PATH` or `etcd://host:2379,host2:2379`"),
        )
    })
}

fn previous_key(
    file: &File<'_>,
    dir: &Path,
    current: &FleetKeyFile,
    raw: Option<Spanned<RawPreviousKey>>,
) -> Result<Option<PreviousFleetKeyFile>, Diagnostic> {
    let Some(raw) = raw else { return Ok(None) };
    if raw.get_ref().id == current.id {
        let hint = Some("give every root key an id of its own: tokens are told apart by it");
        return Err(file.at(raw.span(), "both fleet keys have the same id", hint));
    }
    let RawPreviousKey { id, file: key, until } = raw.into_inner();
    let until = humantime::parse_rfc3339(&until.get_ref().to_string())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| UnixTime::from_secs(since.as_secs()))
        .ok_or_else(|| {
            file.at(
                until.span(),
                "not a time in UTC",
                Some("write it like 2026-01-01T00:00:00Z"),
            )
        })?;
    Ok(Some(PreviousFleetKeyFile {
        key: FleetKeyFile {
            id,
            file: dir.join(key),
        },
        until,
    }))
}

fn registry_tls(file: &File<'_>, dir: &Path, raw: Spanned<RegistryTls>) -> Result<RegistryTls, Diagnostic> {
    let span = raw.span();
    let RegistryTls { ca, cert, key } = raw.into_inner();
    if cert.is_some() != key.is_some() {
        return Err(file.at(span, "`cert` and `key` go together", None));
    }
    Ok(RegistryTls {
        ca: dir.join(ca),
        cert: cert.map(|p| dir.join(p)),
        key: key.map(|p| dir.join(p)),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::EXAMPLE, *};

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("/etc/proxy/p.toml"), text).map_err(|e| e.to_string())
    }

    fn with(line: &str, other: &str) -> String {
        assert!(EXAMPLE.contains(line), "the example has no {line:?}");
        EXAMPLE.replacen(line, other, 1)
    }

    /// The example with everything optional switched on.
    fn everything() -> String {
        let mut out = String::new();
        for line in EXAMPLE.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_setting =
                bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
            out.push_str(if is_setting { bare } else { line });
            out.push('\n');
        }
        out
    }

    #[test]
    fn the_example_parses() {
        let settings = parse(EXAMPLE).unwrap();
        assert_eq!(settings.fleet_key.file, Path::new("/etc/proxy/fleet.key"));
        assert_eq!(settings.registry.to_string(), "sqlite:/etc/proxy/registry.db");
        assert!(settings.tls.is_none());
    }

    #[test]
    fn every_optional_key_of_the_example_parses_and_shows_its_default() {
        let all = parse(&everything()).unwrap();
        assert_eq!(all.limits, parse(EXAMPLE).unwrap().limits);
        assert_eq!(all.previous_fleet_key.unwrap().until.as_secs(), 1_767_225_600);
        assert_eq!(all.audit.unwrap().file, Path::new("/etc/proxy/audit.jsonl"));
        assert_eq!(all.traces.unwrap().endpoint.address, "127.0.0.1:4318");
        assert_eq!(
            all.registry_snapshot.unwrap(),
            Path::new("/etc/proxy/registry.snapshot")
        );
        assert_eq!(all.log_level, Some(Verbosity::Info));
        let tls = all.tls.unwrap();
        assert_eq!(tls.key, Path::new("/etc/proxy/tls.key"));
        assert_eq!(tls.client_ca.unwrap(), Path::new("/etc/proxy/devices-ca.pem"));
        assert_eq!(
            all.registry_tls.unwrap().cert.unwrap(),
            Path::new("/etc/proxy/etcd-client.pem")
        );
        assert_eq!(
            all.registry_user.unwrap().password_file,
            Path::new("/etc/proxy/etcd.password")
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let shown = parse(&with("upstream = ", "upsteam = ")).unwrap_err();
        assert!(
            shown.starts_with("/etc/proxy/p.toml:19:1: unknown field `upsteam`"),
            "{shown}"
        );
        assert!(shown.contains("^^^^^^^") && shown.contains("hint: "), "{shown}");
    }

    #[test]
    fn wrong_values_are_refused_with_their_place() {
        for (line, other, what) in [
            ("\"127.0.0.1:8080\"", "\"8080\"", ":5:10: "),
            ("\"demo\"", "\"Demo\"", "only a-z"),
            ("\"https://llm.demo.example\"", "\"\"", "audience"),
            ("\"sqlite:registry.db\"", "\"mysql:x\"", "hint: `sqlite:PATH`"),
            ("\"http://127.0.0.1:11434\"", "\"ftp://x\"", "an upstream is"),
            (
                "registry-max-age = \"30s\"",
                "registry-max-age = \"soon\"",
                "not a duration",
            ),
            (
                "registry-max-age = \"30s\"",
                "registry-max-age = \"3days\"",
                "1ms to 1day",
            ),
            (
                "# trusted-peers = []",
                "trusted-peers = [\"10.0.0.1/8\"]",
                "write 10.0.0.0/8",
            ),
            (
                "# forwarded-header = \"x-forwarded-for\"",
                "forwarded-header = \"x-real-ip\"",
                "unknown variant",
            ),
            ("# connections = 4096", "connections = 0", "at least 1"),
            ("# [audit]", "[audit]\nfile = \"a\"\nqueue = 1", "`queue` is"),
            ("# body-bytes = \"8MiB\"", "body-bytes = \"eight\"", "not a size"),
            (
                "# [previous-fleet-key]\n# id = \"k0\"\n# file = \"fleet-previous.key\"\n# until = 2026-01-01T00:00:00Z",
                "[previous-fleet-key]\nid = \"k1\"\nfile = \"x\"\nuntil = 2026-01-01T00:00:00Z",
                "the same id",
            ),
            (
                "# [previous-fleet-key]\n# id = \"k0\"\n# file = \"fleet-previous.key\"\n# until = 2026-01-01T00:00:00Z",
                "[previous-fleet-key]\nid = \"k0\"\nfile = \"x\"\nuntil = 2026-01-01",
                "not a time in UTC",
            ),
            (
                "# [registry-tls]\n# ca = \"etcd-ca.pem\"",
                "[registry-tls]\nca = \"x\"\nkey = \"y\"",
                "go together",
            ),
        ] {
            let shown = parse(&with(line, other)).unwrap_err();
            assert!(
                shown.contains(what) && shown.starts_with("/etc/proxy/p.toml:"),
                "{other}: {shown}"
            );
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        assert!(
            parse(&with("fleet = \"demo\"", ""))
                .unwrap_err()
                .contains("missing field `fleet`")
        );
    }
}
