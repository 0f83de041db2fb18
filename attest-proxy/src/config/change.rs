//! What of a configuration follows SIGHUP, and what stays until the process is started again.
//!
//! Owns: the split. [`Tunable`] is what requests and connections look up each time; the model servers have their own hook
//! (`Upstream::tune`), keys and certificates are read again by whoever owns them. Everything else is named here, so that a
//! change of it is told to the operator and not passed over.

use super::{Limits, Peers, Settings};

/// What connections and requests look up each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunable {
    /// Bounds.
    pub limits: Limits,
    /// Who speaks for others.
    pub peers: Peers,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
}

impl Settings {
    /// What connections and requests look up each time.
    #[must_use]
    pub fn tunable(&self) -> Tunable {
        Tunable {
            limits: self.limits.clone(),
            peers: self.peers.clone(),
            http2: self.http2,
        }
    }

    /// The keys in which `new` differs from `self` and that a running process does not take up.
    #[must_use]
    pub fn fixed(&self, new: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != new.listen),
            ("operator-listen", self.operator_listen != new.operator_listen),
            ("fleet", self.fleet != new.fleet),
            ("audience", self.audience != new.audience),
            ("registry", self.registry != new.registry),
            ("registry-max-age", self.registry_max_age != new.registry_max_age),
            ("registry-tls", self.registry_tls != new.registry_tls),
            ("registry-user", self.registry_user != new.registry_user),
            (
                "registry-snapshot",
                self.registry_snapshot != new.registry_snapshot,
            ),
            ("tls", self.tls.is_some() != new.tls.is_some()),
            ("audit", self.audit != new.audit),
            ("traces", self.traces != new.traces),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::EXAMPLE, *};

    fn parse(text: &str) -> Settings {
        Settings::parse(Path::new("/etc/proxy/p.toml"), text).unwrap()
    }

    #[test]
    fn every_key_follows_or_is_named() {
        let start = parse(EXAMPLE);
        assert_eq!(start.fixed(&start), [""; 0]);
        let tls = "[tls]\ncert = \"a\"\nkey = \"b\"\n[limits]";
        let fixed = [
            (
                "listen",
                "listen = \"127.0.0.1:8080\"",
                "listen = \"127.0.0.1:8081\"",
            ),
            ("operator-listen", "127.0.0.1:9090", "127.0.0.1:9091"),
            ("fleet", "fleet = \"demo\"", "fleet = \"other\""),
            ("audience", "https://llm.demo.example", "https://other.example"),
            ("registry", "sqlite:registry.db", "sqlite:other.db"),
            (
                "registry-max-age",
                "registry-max-age = \"30s\"",
                "registry-max-age = \"31s\"",
            ),
            ("registry-tls", "# [registry-tls]\n# ca", "[registry-tls]\nca"),
            (
                "registry-user",
                "# [registry-user]\n# name = \"attest-proxy\"\n# pass",
                "[registry-user]\nname = \"x\"\npass",
            ),
            (
                "registry-snapshot",
                "# [registry-snapshot]\n# file",
                "[registry-snapshot]\nfile",
            ),
            ("tls", "[limits]", tls),
            ("audit", "# [audit]\n# file", "[audit]\nfile"),
            ("traces", "# [traces]\n# endpoint", "[traces]\nendpoint"),
        ];
        for (key, from, to) in fixed {
            assert!(EXAMPLE.contains(from), "{from}");
            assert_eq!(start.fixed(&parse(&EXAMPLE.replacen(from, to, 1))), [key]);
        }
        for (from, to) in [
            ("# trusted-peers = []", "trusted-peers = [\"10.0.0.0/8\"]"),
            ("# http2 = true", "http2 = false"),
            ("# connections = 4096", "connections = 5"),
            ("# length = 256", "length = 3"),
            ("127.0.0.1:11434", "127.0.0.1:11435"),
            ("# streams = 1024", "streams = 3"),
            ("id = \"k1\"", "id = \"k2\""),
            ("# log-level = \"info\"", "log-level = \"warn\""),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            assert_eq!(
                start.fixed(&parse(&EXAMPLE.replacen(from, to, 1))),
                [""; 0],
                "{to}"
            );
        }
    }

    #[test]
    fn bounds_and_peers_are_looked_up_each_time() {
        let start = parse(EXAMPLE).tunable();
        for (from, to) in [
            ("# trusted-peers = []", "trusted-peers = [\"10.0.0.0/8\"]"),
            ("# http2 = true", "http2 = false"),
            ("# body-bytes = \"8MiB\"", "body-bytes = \"4MiB\""),
        ] {
            assert_ne!(parse(&EXAMPLE.replacen(from, to, 1)).tunable(), start, "{to}");
        }
    }
}
