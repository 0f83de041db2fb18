//! Durations, sizes and addresses as operators write them.
//!
//! Owns: `"30s"`, `"16KiB"`, `"http://host:port"`, `"https://host:port"`; each with its bounds. Used by serde, so that a mistake keeps its span.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// Where Ollama listens: `http://host[:port]` or `https://host[:port]`, nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    secure: bool,
    authority: Box<str>,
    address: Box<str>,
}

/// Why a text is not an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upstream is http://host[:port] or https://host[:port], without a path")]
pub struct InvalidUpstream;

impl UpstreamUrl {
    /// `host[:port]` as it goes into the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `host:port` to connect to.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The name or address in it, without port and brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self
            .address
            .rsplit_once(':')
            .map_or(&*self.address, |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }
}

impl FromStr for UpstreamUrl {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let (secure, rest) = match text.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("https://").ok_or(InvalidUpstream)?),
        };
        let authority: http::uri::Authority = rest
            .strip_suffix('/')
            .unwrap_or(rest)
            .parse()
            .map_err(|_| InvalidUpstream)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if secure => 443,
            Some("") => 80,
            Some(port) => port
                .strip_prefix(':')
                .and_then(|p| p.parse::<u16>().ok())
                .ok_or(InvalidUpstream)?,
            // A user before the host.
            None => return Err(InvalidUpstream),
        };
        if authority.host().is_empty() {
            return Err(InvalidUpstream);
        }
        Ok(Self {
            secure,
            authority: authority.as_str().into(),
            address: format!("{}:{port}", authority.host()).into(),
        })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl<'de> Deserialize<'de> for UpstreamUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Reads `"30s"`, `"5m"`: at least a millisecond, at most a day.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom("not a duration, write it like \"30s\" or \"5m\""))?;
    if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(D::Error::custom("a duration is 1ms to 1day here"))
    }
}

/// A number of bytes: `65536`, `"64KiB"`, `"8MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const BAD: &str = "not a size, write it like \"64KiB\" or \"8MiB\"";
        let (digits, shift) = match text {
            t if t.ends_with("KiB") => (t.trim_end_matches("KiB"), 10),
            t if t.ends_with("MiB") => (t.trim_end_matches("MiB"), 20),
            t if t.ends_with("GiB") => (t.trim_end_matches("GiB"), 30),
            t => (t, 0),
        };
        let number: usize = digits.trim().parse().map_err(|_| BAD)?;
        number
            .checked_mul(1 << shift)
            .filter(|n| *n > 0)
            .map(Self)
            .ok_or(BAD)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_plain_origins() {
        let url: UpstreamUrl = "http://127.0.0.1:11434/".parse().unwrap();
        assert_eq!(
            (url.authority(), url.address()),
            ("127.0.0.1:11434", "127.0.0.1:11434")
        );
        let url: UpstreamUrl = "http://[::1]".parse().unwrap();
        assert_eq!((url.authority(), url.address()), ("[::1]", "[::1]:80"));
        assert_eq!((url.host(), url.is_secure()), ("::1", false));
        let url: UpstreamUrl = "https://gpu-1".parse().unwrap();
        assert_eq!(
            (url.address(), url.host(), url.is_secure()),
            ("gpu-1:443", "gpu-1", true)
        );
        assert_eq!(url.to_string(), "https://gpu-1");
        for bad in [
            "ftp://a",
            "https://a/b",
            "a:1",
            "http://",
            "http://a/b",
            "http://u:p@a",
            "http://a:99999",
            "http://a?x",
        ] {
            assert_eq!(bad.parse::<UpstreamUrl>(), Err(InvalidUpstream), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("7".parse(), Ok(Size(7)));
        for bad in [
            "",
            "0",
            "-1",
            "9kb",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
