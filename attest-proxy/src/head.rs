//! A request's head, checked beyond what hyper checks.
//!
//! Owns: which heads are looked at at all. One `Host`, an origin-form target, no upgrade, no coded body, no body where
//! none belongs, no field that a server behind us could take for another one.
//! Pure. An attacker controls all of it. What passes is still a stranger's.

use http::{HeaderMap, HeaderName, Method, Version, header, request::Parts};
use protocol::credentials::STRIPPED;

/// Why a head is malformed; for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// HTTP/0.9, HTTP/2 by prior knowledge, or worse.
    #[error("not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// No `Host`, two of them, or one that is no authority.
    #[error("not exactly one valid Host")]
    Host,
    /// An absolute, authority or asterisk form.
    #[error("the request target is not a path")]
    Target,
    /// `Upgrade`.
    #[error("an upgrade is asked for")]
    Upgrade,
    /// `Trailer`.
    #[error("trailers are announced")]
    Trailer,
    /// `Content-Encoding`.
    #[error("the body is encoded")]
    Encoded,
    /// A body with a method that has none here.
    #[error("a body where none belongs")]
    Body,
    /// `Connection` names a field that must not be lost on the way.
    #[error("Connection names a field of ours")]
    ConnectionNames,
    /// A field that equals one of the framing's but for an underscore.
    #[error("an underscore twin of a field that matters")]
    Twin,
}

/// What of a request decides.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, verbatim.
    pub path: &'a str,
    /// What follows the `?`, verbatim.
    pub query: Option<&'a str>,
    /// Path and query, verbatim.
    pub target: &'a str,
    /// All fields.
    pub headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// Checks a head that hyper parsed.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(parts: &'a Parts) -> Result<Self, HeadError> {
        if !matches!(parts.version, Version::HTTP_10 | Version::HTTP_11) {
            return Err(HeadError::Version);
        }
        let headers = &parts.headers;
        check_host(headers)?;
        let target = match (
            parts.uri.scheme(),
            parts.uri.authority(),
            parts.uri.path_and_query(),
        ) {
            (None, None, Some(target)) if target.as_str().starts_with('/') => target,
            _ => return Err(HeadError::Target),
        };
        check_fields(headers)?;
        let bodyless = matches!(parts.method, Method::GET | Method::HEAD);
        if bodyless && has_body(headers) {
            return Err(HeadError::Body);
        }
        Ok(Self {
            method: &parts.method,
            path: target.path(),
            query: target.query(),
            target: target.as_str(),
            headers,
        })
    }
}

fn check_host(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HeadError::Host);
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    match host.as_bytes() {
        [] => Err(HeadError::Host),
        text if text.iter().all(plain) => Ok(()),
        _ => Err(HeadError::Host),
    }
}

fn check_fields(headers: &HeaderMap) -> Result<(), HeadError> {
    let has = |name: HeaderName| headers.contains_key(name);
    if has(header::UPGRADE) {
        return Err(HeadError::Upgrade);
    }
    if has(header::TRAILER) {
        return Err(HeadError::Trailer);
    }
    if has(header::CONTENT_ENCODING) {
        return Err(HeadError::Encoded);
    }
    if headers.keys().any(is_twin) {
        return Err(HeadError::Twin);
    }
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().map_err(|_| HeadError::ConnectionNames)?;
        if text.split(',').map(str::trim).any(is_needed) {
            return Err(HeadError::ConnectionNames);
        }
    }
    Ok(())
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|l| l.as_bytes() != b"0")
}

/// `content_length` and the like: some servers fold the underscore into a dash. Twins of our own fields are refused
/// where those are read.
fn is_twin(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.contains('_')
        && [
            "content-length",
            "transfer-encoding",
            "content-type",
            "content-encoding",
            "proxy-connection",
        ]
        .contains(&text.replace('_', "-").as_str())
}

/// Fields that a proxy before us would strip if `Connection` named them, and that then would be missing.
fn is_needed(token: &str) -> bool {
    ["host", "content-length", "transfer-encoding", "content-type"]
        .iter()
        .any(|n| token.eq_ignore_ascii_case(n))
        || STRIPPED.iter().any(|n| token.eq_ignore_ascii_case(n.as_str()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Result<(), HeadError> {
        let builder = Request::builder()
            .method("POST")
            .uri("/api/chat?x=1")
            .header("host", "a:1");
        let (parts, ()) = build(builder).body(()).unwrap().into_parts();
        Head::check(&parts).map(|head| {
            assert!(head.target.starts_with(head.path));
        })
    }

    #[test]
    fn a_plain_head_passes() {
        assert_eq!(check(|b| b), Ok(()));
        assert_eq!(
            check(|b| b.header("connection", "keep-alive, x-other").header("x_y", "1")),
            Ok(())
        );
        assert_eq!(check(|b| b.method("GET").header("content-length", "0")), Ok(()));
    }

    #[test]
    fn every_error_is_reached() {
        assert_eq!(check(|b| b.version(Version::HTTP_2)), Err(HeadError::Version));
        assert_eq!(check(|b| b.header("host", "b")), Err(HeadError::Host));
        for uri in ["http://other/api/chat", "*", "other:80"] {
            assert_eq!(check(|b| b.uri(uri)), Err(HeadError::Target), "{uri}");
        }
        assert_eq!(
            check(|b| b.header("upgrade", "websocket")),
            Err(HeadError::Upgrade)
        );
        assert_eq!(check(|b| b.header("trailer", "x")), Err(HeadError::Trailer));
        assert_eq!(
            check(|b| b.header("content-encoding", "identity")),
            Err(HeadError::Encoded)
        );
        assert_eq!(
            check(|b| b.method("GET").header("content-length", "1")),
            Err(HeadError::Body)
        );
        assert_eq!(
            check(|b| b.method("HEAD").header("transfer-encoding", "chunked")),
            Err(HeadError::Body)
        );
        for named in [
            "close, X-Pre-Shared-Key",
            "attestation-session",
            "content-length",
            "host",
        ] {
            assert_eq!(
                check(|b| b.header("connection", named)),
                Err(HeadError::ConnectionNames),
                "{named}"
            );
        }
        for twin in ["content_length", "transfer_encoding", "Content_Type"] {
            assert_eq!(check(|b| b.header(twin, "1")), Err(HeadError::Twin), "{twin}");
        }
    }

    #[test]
    fn a_host_is_one_authority() {
        for bad in ["", "a b", "a,b", "a/b", "user@a"] {
            let (mut parts, ()) = Request::builder().uri("/").body(()).unwrap().into_parts();
            assert_eq!(Head::check(&parts).unwrap_err(), HeadError::Host);
            parts.headers.insert("host", bad.parse().unwrap());
            assert_eq!(Head::check(&parts).unwrap_err(), HeadError::Host, "{bad}");
        }
    }
}
