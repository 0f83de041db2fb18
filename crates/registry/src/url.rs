//! Where a registry is: `sqlite:PATH` or `etcd://host:port[,host:port]`.
//!
//! Owns: the grammar. Credentials are refused here, because URLs end up in logs; an error never repeats the text.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The most endpoints that a URL may name.
const MAX_ENDPOINTS: usize = 16;
/// etcd's port for clients.
const ETCD_PORT: u16 = 2379;

/// Where a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryUrl {
    /// One file of an embedded database.
    Sqlite(PathBuf),
    /// An etcd cluster, by one or more of its members.
    Etcd(Vec<Endpoint>),
}

/// A member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: Box<str>,
    port: u16,
}

/// Why a text is no registry's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegistryUrl {
    /// Neither `sqlite:` nor `etcd://`.
    #[error("a registry is sqlite:PATH or etcd://host:port[,host:port]")]
    Scheme,
    /// `sqlite:` with nothing behind it, or a path with a NUL.
    #[error("sqlite: needs the path of a file")]
    Path,
    /// A user or password in the URL.
    #[error("credentials do not belong into a URL, name a user and a password file instead")]
    Credentials,
    /// Not `host:port`, an empty list, or more than 16.
    #[error(
        "etcd:// needs 1 to {MAX_ENDPOINTS} times host:port, separated by commas, and nothing behind them"
    )]
    Endpoint,
}

impl RegistryUrl {
    /// The same, with a relative path taken from `folder`.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(folder.join(path)),
            Self::Etcd(endpoints) => Self::Etcd(endpoints),
        }
    }
}

impl FromStr for RegistryUrl {
    type Err = InvalidRegistryUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRegistryUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path {
                "" | ":memory:" => Err(InvalidRegistryUrl::Path),
                path if path.contains('\0') => Err(InvalidRegistryUrl::Path),
                path => Ok(Self::Sqlite(path.into())),
            };
        }
        let list = text.strip_prefix("etcd://").ok_or(InvalidRegistryUrl::Scheme)?;
        if list.contains('@') {
            return Err(InvalidRegistryUrl::Credentials);
        }
        let endpoints: Vec<Endpoint> = list
            .strip_suffix('/')
            .unwrap_or(list)
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(InvalidRegistryUrl::Endpoint);
        }
        Ok(Self::Etcd(endpoints))
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Etcd(endpoints) => {
                f.write_str("etcd://")?;
                for (nth, endpoint) in endpoints.iter().enumerate() {
                    let comma = if nth > 0 { "," } else { "" };
                    write!(f, "{comma}{endpoint}")?;
                }
                Ok(())
            }
        }
    }
}

impl Endpoint {
    /// Whether it is this machine, by an address that cannot leave it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        &*self.host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = InvalidRegistryUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRegistryUrl> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|p| digits && *p != 0);
                (host, port.ok_or(InvalidRegistryUrl::Endpoint)?)
            }
            _ => (text, ETCD_PORT),
        };
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let fits = match literal {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                (1..=253).contains(&host.len())
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            }
        };
        if fits {
            Ok(Self {
                host: host.into(),
                port,
            })
        } else {
            Err(InvalidRegistryUrl::Endpoint)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryUrl, InvalidRegistryUrl> {
        text.parse()
    }

    #[test]
    fn both_kinds_round_trip() {
        for text in [
            "sqlite:registry.db",
            "sqlite:/var/lib/signalbox/registry.db",
            "etcd://127.0.0.1:2379",
            "etcd://etcd-0.etcd:2379,etcd-1.etcd:23790,[::1]:2379",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("etcd://a/").unwrap().to_string(), "etcd://a:2379");
        assert_eq!(parse("etcd://[::1]").unwrap().to_string(), "etcd://[::1]:2379");
    }

    #[test]
    fn anything_else_is_refused() {
        use InvalidRegistryUrl as E;
        let many = format!("etcd://a{}", ",a".repeat(16));
        for (text, why) in [
            ("", E::Scheme),
            ("registry.db", E::Scheme),
            ("http://a:2379", E::Scheme),
            ("SQLITE:a", E::Scheme),
            ("sqlite:", E::Path),
            ("sqlite::memory:", E::Path),
            ("sqlite:a\0b", E::Path),
            ("etcd://root:hunter2@a:2379", E::Credentials),
            ("etcd://", E::Endpoint),
            ("etcd://a:0", E::Endpoint),
            ("etcd://a:+1", E::Endpoint),
            ("etcd://a:65536", E::Endpoint),
            ("etcd://a,,b", E::Endpoint),
            ("etcd://::1:2379", E::Endpoint),
            ("etcd://[::g]:2379", E::Endpoint),
            ("etcd://a:2379/prefix", E::Endpoint),
            ("etcd://a b:2379", E::Endpoint),
            (&many, E::Endpoint),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        let error = parse("etcd://root:hunter2@a:2379").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn relative_paths_are_taken_from_a_folder() {
        let from = |text: &str| parse(text).unwrap().relative_to(Path::new("/fleet")).to_string();
        assert_eq!(from("sqlite:registry.db"), "sqlite:/fleet/registry.db");
        assert_eq!(from("sqlite:/a.db"), "sqlite:/a.db");
        assert_eq!(from("etcd://a:1"), "etcd://a:1");
    }

    #[test]
    fn loopback_is_told_by_address() {
        let is = |text: &str| text.parse::<Endpoint>().unwrap().is_loopback();
        assert!(is("127.0.0.1:1") && is("[::1]:1") && is("localhost:1"));
        assert!(!is("10.0.0.1:1") && !is("localhost.example:1") && !is("[::2]:1"));
    }
}
