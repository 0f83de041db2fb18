//! Where the proxy is: scheme, host and port, and nothing else.
//!
//! Owns: the refusal to send a pre-shared key over plain HTTP, except to this machine itself (a proxy or a tunnel on
//! loopback). The text comes from the device's volume or from the operator.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::error::Exit;

/// The proxy's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(Url);

/// Why a text is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginError {
    /// Not `https://host[:port]`.
    #[error("the proxy's address is not https://HOST[:PORT]")]
    Invalid,
    /// Plain HTTP to another machine.
    #[error("will not send the pre-shared key over plain http to {0}")]
    PlainHttp(String),
}

impl OriginError {
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Invalid => Some("such as https://llm.example or, on this machine, http://127.0.0.1:8080"),
            Self::PlainHttp(_) => {
                Some("use https://; plain http is for loopback alone (127.0.0.1, [::1], localhost)")
            }
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Invalid => Exit::Usage,
            Self::PlainHttp(_) => Exit::Refused,
        }
    }
}

impl Origin {
    /// The URL of a request target on this origin.
    pub(crate) fn join(&self, target: &str) -> String {
        format!("{self}{target}")
    }

    /// Whether requests go in clear, which is to loopback only.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let url = Url::parse(text).map_err(|_| OriginError::Invalid)?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host_str().filter(|_| bare).ok_or(OriginError::Invalid)?;
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(host) => Ok(Self(url)),
            "http" => Err(OriginError::PlainHttp(host.to_owned())),
            _ => Err(OriginError::Invalid),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_at_home() {
        for good in [
            "https://llm.example",
            "https://llm.example:8443/",
            "http://127.0.0.1:8080",
            "http://127.8.9.1",
            "http://[::1]:1",
            "http://localhost:8080",
        ] {
            let origin: Origin = good.parse().unwrap();
            assert_eq!(origin.to_string(), good.trim_end_matches('/'));
            assert_eq!(origin.is_plain(), good.starts_with("http:"));
            assert_eq!(origin.join("/a?b"), format!("{}/a?b", good.trim_end_matches('/')));
        }
    }

    #[test]
    fn plain_http_to_others_is_refused() {
        for (bad, host) in [
            ("http://llm.example", "llm.example"),
            ("http://10.0.0.1:80", "10.0.0.1"),
            ("http://127.0.0.1.example", "127.0.0.1.example"),
            ("http://localhost.example", "localhost.example"),
            ("http://[fe80::1]", "[fe80::1]"),
            ("HTTP://llm.example", "llm.example"),
        ] {
            let error = bad.parse::<Origin>().unwrap_err();
            assert_eq!(error, OriginError::PlainHttp(host.to_owned()));
            assert_eq!(error.exit(), Exit::Refused);
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn other_texts_are_no_origins() {
        for bad in [
            "",
            "llm.example",
            "ftp://llm.example",
            "https://",
            "https://user@llm.example",
            "https://user:pass@llm.example",
            "https://llm.example/path",
            "https://llm.example?x",
            "https://llm.example/#x",
            "file:///etc/passwd",
            "unix:/run/x",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(OriginError::Invalid), "{bad}");
        }
    }
}
