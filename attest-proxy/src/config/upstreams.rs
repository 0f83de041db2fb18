//! The model servers and the queue in front of them, as operators write them.
//!
//! Owns: `upstream` or `[[upstreams]]`, `upstream-poll`, `[upstream-tls]` and `[queue]`; their defaults and ranges.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::units::{Size, UpstreamUrl, duration};
use crate::upstream::QueueLimits;

/// The most servers of one proxy, and of one name that stands for several.
const MAX_SERVERS: usize = 64;

/// Where Ollama is, once or several times, and who waits how long for a place there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams {
    /// The servers: one at least, at most 64.
    pub servers: Vec<UpstreamServer>,
    /// How often each server is asked for its health and its models. `None`: there is one alone, and nothing to choose.
    pub poll: Option<Duration>,
    /// Bounds on what waits for a place.
    pub queue: QueueLimits,
    /// How long a request may wait for a place.
    pub queue_wait: Duration,
    /// TLS towards the servers whose URL says `https`; there is at least one then.
    pub tls: Option<UpstreamTls>,
}

/// PEM files for TLS towards the model servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The CAs that a server's certificate must lead to; nobody else's are believed.
    pub ca: PathBuf,
    /// Our certificate and its key, if the servers want one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// One model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Where it listens.
    pub url: UpstreamUrl,
    /// Its share, compared with the others'.
    pub weight: NonZeroUsize,
    /// Answers that may run on it at one time.
    pub places: NonZeroUsize,
    /// Whether each address of its name is a server.
    pub each_address: bool,
    /// Whom its certificate must name; `None`: no TLS.
    pub tls_name: Option<ServerName<'static>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawUpstreamTls {
    ca: PathBuf,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawUpstream {
    url: UpstreamUrl,
    weight: Option<u8>,
    max_streams: Option<u32>,
    #[serde(default)]
    each_address: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawQueue {
    length: u32,
    bytes: Size,
    per_device: u32,
    per_device_bytes: Size,
    #[serde(deserialize_with = "duration")]
    wait: Duration,
}

impl Default for RawQueue {
    fn default() -> Self {
        Self {
            length: 256,
            bytes: Size(64 << 20),
            per_device: 16,
            per_device_bytes: Size(16 << 20),
            wait: Duration::from_secs(30),
        }
    }
}

/// What the file says of servers.
pub(super) struct RawUpstreams {
    pub(super) one: Option<UpstreamUrl>,
    pub(super) several: Vec<RawUpstream>,
    pub(super) poll: Duration,
    pub(super) queue: RawQueue,
    pub(super) tls: Option<RawUpstreamTls>,
}

pub(super) const fn default_poll() -> Duration {
    Duration::from_secs(3)
}

impl RawUpstreams {
    /// The valid form, or the sentence that says what is wrong. `streams`: the places of a server that names none; `dir`: where
    /// files are.
    pub(super) fn check(self, streams: usize, dir: &Path) -> Result<Upstreams, &'static str> {
        let streams = NonZeroUsize::new(streams).ok_or("`streams` is at least 1")?;
        let polled = !self.several.is_empty();
        let mut servers = match (self.one, self.several) {
            (Some(_), several) if !several.is_empty() => {
                return Err("`upstream` and `[[upstreams]]` are two ways to say it: leave one out");
            }
            (None, several) if several.is_empty() => {
                return Err("missing field `upstream`, or at least one `[[upstreams]]`");
            }
            (Some(url), _) => vec![UpstreamServer {
                tls_name: None,
                url,
                weight: NonZeroUsize::MIN,
                places: streams,
                each_address: false,
            }],
            (None, several) => several
                .into_iter()
                .map(|raw| raw.check(streams))
                .collect::<Result<_, _>>()?,
        };
        if servers.len() > MAX_SERVERS {
            return Err("at most 64 `[[upstreams]]`");
        }
        let mut urls: Vec<_> = servers.iter().map(|server| server.url.address()).collect();
        urls.sort_unstable();
        urls.dedup();
        if urls.len() < servers.len() {
            return Err("two `[[upstreams]]` have the same url");
        }
        let name = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        for server in servers.iter_mut().filter(|server| server.url.is_secure()) {
            let name = name.unwrap_or(server.url.host()).to_owned();
            let name = ServerName::try_from(name)
                .map_err(|_| "a server's certificate names a host name or an address")?;
            server.tls_name = Some(name);
        }
        let tls = match (self.tls, servers.iter().any(|server| server.tls_name.is_some())) {
            (None, true) => {
                return Err("an upstream with https needs `[upstream-tls]`, whose `ca` says whom to believe");
            }
            (Some(_), false) => return Err("`[upstream-tls]`, but no upstream begins with https://"),
            (tls, _) => tls.map(|tls| tls.check(dir)).transpose()?,
        };
        let size = |number: u32| usize::try_from(number).map_err(|_| "a number is too large");
        if self.queue.per_device == 0 {
            return Err("`per-device` of [queue] is at least 1; `length = 0` turns the queue off");
        }
        Ok(Upstreams {
            servers,
            poll: polled.then_some(self.poll),
            queue: QueueLimits {
                length: size(self.queue.length)?,
                bytes: self.queue.bytes.0,
                per_device: size(self.queue.per_device)?,
                per_device_bytes: self.queue.per_device_bytes.0,
            },
            queue_wait: self.queue.wait,
            tls,
        })
    }
}

impl RawUpstreamTls {
    fn check(self, dir: &Path) -> Result<UpstreamTls, &'static str> {
        let identity = match (self.cert, self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((dir.join(cert), dir.join(key))),
            _ => return Err("`cert` and `key` of [upstream-tls] go together"),
        };
        Ok(UpstreamTls {
            ca: dir.join(self.ca),
            identity,
        })
    }
}

impl RawUpstream {
    fn check(self, streams: NonZeroUsize) -> Result<UpstreamServer, &'static str> {
        let weight = NonZeroUsize::new(self.weight.unwrap_or(1).into())
            .filter(|weight| weight.get() <= 100)
            .ok_or("`weight` is 1 to 100")?;
        let places = match self.max_streams {
            None => streams,
            Some(number) => usize::try_from(number)
                .ok()
                .and_then(NonZeroUsize::new)
                .ok_or("`max-streams` is at least 1")?,
        };
        Ok(UpstreamServer {
            url: self.url,
            weight,
            places,
            each_address: self.each_address,
            tls_name: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{EXAMPLE, Settings};

    fn parse(more: &str, one: bool) -> Result<super::Upstreams, String> {
        let text = if one {
            EXAMPLE.to_owned()
        } else {
            EXAMPLE.replace("\nupstream = ", "\n# upstream = ")
        };
        let text = if more.starts_with("[queue]") {
            text.replace("[queue]", more)
        } else {
            format!("{text}\n{more}")
        };
        Settings::parse(Path::new("/x"), &text)
            .map(|settings| settings.upstreams)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn one_server_is_not_polled_and_has_every_place() {
        let one = parse("", true).unwrap();
        assert_eq!((one.servers.len(), one.poll), (1, None));
        assert_eq!(one.servers[0].places.get(), 1024);
        assert_eq!((one.queue.length, one.queue.per_device), (256, 16));
    }

    #[test]
    fn several_have_shares_and_places() {
        let text = "[[upstreams]]\nurl = \"http://a:1\"\nweight = 2\nmax-streams = 4\n[[upstreams]]\nurl = \"http://b\"\neach-address = true";
        let several = parse(text, false).unwrap();
        let [a, b] = &several.servers[..] else {
            panic!("{several:?}")
        };
        assert_eq!((a.weight.get(), a.places.get(), a.each_address), (2, 4, false));
        assert_eq!((b.weight.get(), b.places.get(), b.each_address), (1, 1024, true));
        assert_eq!(several.poll, Some(super::default_poll()));
    }

    #[test]
    fn https_names_whom_the_certificate_must_name() {
        let text = "[upstream-tls]\nca = \"ca.pem\"\n[[upstreams]]\nurl = \"https://gpu-1\"\n[[upstreams]]\nurl = \"http://a\"\n[[upstreams]]\nurl = \"https://[::1]:8\"";
        let of = |more: &str| {
            let parsed = parse(
                &text.replace(
                    "[[upstreams]]\nurl = \"https://g",
                    &format!("{more}[[upstreams]]\nurl = \"https://g"),
                ),
                false,
            )
            .unwrap();
            let names = parsed
                .servers
                .iter()
                .map(|s| s.tls_name.as_ref().map(|name| name.to_str().into_owned()));
            (names.collect::<Vec<_>>(), parsed.tls.unwrap())
        };
        let (names, tls) = of("");
        assert_eq!(names, [Some("gpu-1".to_owned()), None, Some("::1".to_owned())]);
        assert_eq!((tls.ca, tls.identity), (Path::new("/ca.pem").into(), None));
        let (names, tls) = of("server-name = \"ollama.test\"\ncert = \"c\"\nkey = \"k\"\n");
        assert_eq!(
            names,
            [
                Some("ollama.test".to_owned()),
                None,
                Some("ollama.test".to_owned())
            ]
        );
        assert_eq!(
            tls.identity,
            Some((Path::new("/c").into(), Path::new("/k").into()))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let tls = "[upstream-tls]\nca = \"a\"\n";
        let secure = "[[upstreams]]\nurl = \"https://a\"\n";
        let a = "[[upstreams]]\nurl = \"http://a\"\n";
        for (text, one, what) in [
            (a.to_owned(), true, "leave one out"),
            (String::new(), false, "missing field `upstream`"),
            (format!("{a}{a}"), false, "the same url"),
            (format!("{a}weight = 0"), false, "`weight` is 1 to 100"),
            (format!("{a}weight = 101"), false, "`weight` is 1 to 100"),
            (format!("{a}max-streams = 0"), false, "`max-streams`"),
            (format!("{a}max-stream = 1"), false, "unknown field"),
            (secure.to_owned(), false, "needs `[upstream-tls]`"),
            (format!("{tls}{a}"), false, "no upstream begins with https"),
            (format!("{tls}key = \"k\"\n{secure}"), false, "go together"),
            (
                format!("{tls}server-name = \"a b\"\n{secure}"),
                false,
                "a host name or an address",
            ),
            (format!("{tls}insecure = true\n{secure}"), false, "unknown field"),
            ("[queue]\nper-device = 0".into(), true, "`per-device`"),
            ("[queue]\nwait = \"never\"".into(), true, "not a duration"),
        ] {
            let shown = parse(&text, one).unwrap_err();
            assert!(shown.contains(what), "{text}: {shown}");
        }
        let many: String = (0..65)
            .map(|n| format!("[[upstreams]]\nurl = \"http://a{n}\"\n"))
            .collect();
        assert!(parse(&many, false).unwrap_err().contains("at most 64"));
    }
}
