//! A request's head, checked beyond what hyper checks.
//!
//! Owns: which heads are looked at at all. One `Host`, a target in origin form (or in absolute form, if it names that same
//! host), a method that anybody here has, no upgrade, no coded body, no body where none belongs, no field that a server
//! behind us could take for another one; and which fields may come behind a body ([`check_trailers`]).
//! Pure. An attacker controls all of it. What passes is still a stranger's.

use domain::CertificateKeyDigest;
use http::{HeaderMap, HeaderName, Method, Uri, Version, header, request::Parts};
use protocol::credentials::STRIPPED;

/// Why a head is malformed; for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// HTTP/0.9, or worse.
    #[error("not HTTP/1.0, HTTP/1.1 or HTTP/2")]
    Version,
    /// No `Host`, two of them, or one that is no authority; in HTTP/2, another than `:authority`.
    #[error("not exactly one valid Host")]
    Host,
    /// HTTP/2: a field of HTTP/1's connections (RFC 9113 8.2.2).
    #[error("a field of HTTP/1's connections in HTTP/2")]
    Hop,
    /// HTTP/2: `Content-Length` twice, or not a plain number. HTTP/1's framing watch has refused it already.
    #[error("Content-Length is not one plain number")]
    Length,
    /// HTTP/2: a value with space around it, which the other HTTP would not have taken for a part of it (RFC 9113 8.2.1).
    #[error("space around a value")]
    Space,
    /// More fields than may be.
    #[error("more than {0} fields")]
    Count(usize),
    /// An authority or asterisk form, an absolute form that names another host, or no path by the grammar of URIs.
    #[error("the request target is not a path of this host")]
    Target,
    /// A method that neither we nor the model server have for anything.
    #[error("not a method that is served")]
    Method,
    /// `Upgrade`.
    #[error("an upgrade is asked for")]
    Upgrade,
    /// A trailer, or one that is announced, that must not be one: it is the framing's, or says who asks or what for.
    #[error("a field that matters in the trailers")]
    Trailer,
    /// `Content-Encoding`.
    #[error("the body is encoded")]
    Encoded,
    /// `Content-Type` twice.
    #[error("Content-Type is given twice")]
    Type,
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
    /// The key of the client certificate that TLS verified on the connection. No field of the request says it.
    pub certificate: Option<CertificateKeyDigest>,
}

impl<'a> Head<'a> {
    /// Checks a head that hyper parsed.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(parts: &'a Parts) -> Result<Self, HeadError> {
        let headers = &parts.headers;
        let uri = &parts.uri;
        match parts.version {
            Version::HTTP_10 | Version::HTTP_11 => {
                let host = check_host(headers)?;
                check_form(uri, host)?;
            }
            Version::HTTP_2 => check_http2(uri, headers)?,
            _ => return Err(HeadError::Version),
        }
        let target = uri
            .path_and_query()
            .filter(|target| is_path(target.path()))
            .ok_or(HeadError::Target)?;
        if !METHODS.contains(&parts.method) {
            return Err(HeadError::Method);
        }
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
            certificate: None,
        })
    }
}

/// Checks that a request of HTTP/2 without a body has none: its head does not say so. `ended`: whether the stream did with
/// its head.
///
/// # Errors
/// [`HeadError::Body`].
pub fn check_ended(parts: &Parts, ended: bool) -> Result<(), HeadError> {
    let bodyless = matches!(parts.method, Method::GET | Method::HEAD);
    if parts.version == Version::HTTP_2 && bodyless && !ended {
        return Err(HeadError::Body);
    }
    Ok(())
}

/// Checks what came behind a body of chunks, or of HTTP/2. It is thrown away, whatever it is; what nobody may say there is
/// refused beside (RFC 9110 6.5.1).
///
/// # Errors
/// [`HeadError::Trailer`].
pub fn check_trailers(trailers: &HeaderMap) -> Result<(), HeadError> {
    if trailers.keys().any(|name| !may_trail(name.as_str())) {
        return Err(HeadError::Trailer);
    }
    Ok(())
}

fn may_trail(name: &str) -> bool {
    let name = name.replace('_', "-").to_ascii_lowercase();
    !is_needed(&name) && !HOPS.contains(&&*name) && !NEVER_LAST.contains(&&*name)
}

/// Fields that say how to read a message, where it goes, or whether to work on it at all.
const NEVER_LAST: [&str; 15] = [
    "cache-control",
    "content-encoding",
    "content-range",
    "cookie",
    "expect",
    "forwarded",
    "max-forwards",
    "pragma",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The methods of the routes that there are, here and at the model server, and what a browser asks before it uses one.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The characters of a path (RFC 3986 3.3), and no control character in any spelling.
fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    let control = |after: &str| {
        let digits = after.get(..2).unwrap_or_default();
        u8::from_str_radix(digits, 16).is_ok_and(|b| b.is_ascii_control())
    };
    path.starts_with('/') && path.bytes().all(plain) && !path.split('%').skip(1).any(control)
}

/// A path; or, since a server must take it (RFC 9112 3.2.2), an absolute form that says nothing else than `Host` does.
fn check_form(uri: &Uri, host: &[u8]) -> Result<(), HeadError> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(()),
        (Some("http" | "https"), Some(authority)) if authority.as_str().as_bytes() == host => Ok(()),
        _ => Err(HeadError::Target),
    }
}

fn check_host(headers: &HeaderMap) -> Result<&[u8], HeadError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HeadError::Host);
    };
    check_authority(host.as_bytes())?;
    Ok(host.as_bytes())
}

fn check_authority(text: &[u8]) -> Result<(), HeadError> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.is_empty() || !text.iter().all(plain) {
        return Err(HeadError::Host);
    }
    Ok(())
}

/// What HTTP/1 says in other words (RFC 9113 8.2 and 8.3). Doubled and unknown pseudo-fields, and names with capitals,
/// are refused by h2 before.
fn check_http2(uri: &Uri, headers: &HeaderMap) -> Result<(), HeadError> {
    match uri.authority() {
        Some(authority) => {
            check_authority(authority.as_str().as_bytes())?;
            let mut hosts = headers.get_all(header::HOST).iter();
            if hosts.any(|host| host.as_bytes() != authority.as_str().as_bytes()) {
                return Err(HeadError::Host);
            }
            if headers.get_all(header::HOST).iter().count() > 1 {
                return Err(HeadError::Host);
            }
        }
        None => {
            check_host(headers)?;
        }
    }
    // Without an authority, hyper keeps no scheme.
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(HeadError::Target);
    }
    let space = |value: &http::HeaderValue| value.as_bytes().trim_ascii().len() != value.len();
    if headers.values().any(space) {
        return Err(HeadError::Space);
    }
    let te = headers.get_all(header::TE).iter();
    if HOPS.iter().any(|name| headers.contains_key(*name)) || te.into_iter().any(|te| te != "trailers") {
        return Err(HeadError::Hop);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let plain = |text: &[u8]| {
        let octal = text.len() > 1 && text.first() == Some(&b'0');
        !text.is_empty() && text.len() <= 18 && !octal && text.iter().all(u8::is_ascii_digit)
    };
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if plain(length.as_bytes()) => Ok(()),
        _ => Err(HeadError::Length),
    }
}

/// Fields that HTTP/2 has no place for.
const HOPS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

fn check_fields(headers: &HeaderMap) -> Result<(), HeadError> {
    let has = |name: HeaderName| headers.contains_key(name);
    if has(header::UPGRADE) {
        return Err(HeadError::Upgrade);
    }
    for value in headers.get_all(header::TRAILER) {
        let text = value.to_str().map_err(|_| HeadError::Trailer)?;
        if text.split(',').map(str::trim).any(|name| !may_trail(name)) {
            return Err(HeadError::Trailer);
        }
    }
    if has(header::CONTENT_ENCODING) {
        return Err(HeadError::Encoded);
    }
    if headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(HeadError::Type);
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
        assert_eq!(check(|b| b.header("trailer", "X-Checksum, x-b")), Ok(()));
        assert_eq!(check(|b| b.uri("http://a:1/api/chat?x=1")), Ok(()));
        assert_eq!(check(|b| b.uri("https://a:1")), Ok(()));
    }

    #[test]
    fn trailers_say_nothing_that_matters() {
        let trailers = |name: &str| {
            let mut all = HeaderMap::new();
            all.insert("x-checksum", "1".parse().unwrap());
            all.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                "1".parse().unwrap(),
            );
            check_trailers(&all)
        };
        assert_eq!(trailers("x-other"), Ok(()));
        for name in HOPS
            .into_iter()
            .chain(NEVER_LAST)
            .chain(STRIPPED.iter().map(HeaderName::as_str))
            .chain([
                "host",
                "content-length",
                "content-type",
                "content_length",
                "x_pre_shared_key",
            ])
        {
            assert_eq!(trailers(name), Err(HeadError::Trailer), "{name}");
        }
    }

    #[test]
    fn every_error_is_reached() {
        assert_eq!(check(|b| b.version(Version::HTTP_3)), Err(HeadError::Version));
        assert_eq!(check(|b| b.header("host", "b")), Err(HeadError::Host));
        for uri in [
            "http://other/api/chat",
            "http://a/api/chat",
            "http://u@a:1/api/chat",
            "ftp://a:1/api/chat",
            "*",
            "other:80",
            "a:1",
            "/api\\chat",
            "/api/chat|",
            "/api/chat%00",
            "/api%0d%0Achat",
            "/api/chat%7F",
        ] {
            assert_eq!(check(|b| b.uri(uri)), Err(HeadError::Target), "{uri}");
        }
        for method in ["TRACE", "CONNECT", "post", "PROPFIND", "X"] {
            assert_eq!(check(|b| b.method(method)), Err(HeadError::Method), "{method}");
        }
        let twice = |b: http::request::Builder| b.header("content-type", "a/b").header("content-type", "a/b");
        assert_eq!(check(twice), Err(HeadError::Type));
        assert_eq!(
            check(|b| b.header("upgrade", "websocket")),
            Err(HeadError::Upgrade)
        );
        for named in [
            "X-Pre-Shared-Key",
            "x, Content-Length",
            "Trailer",
            "transfer_encoding",
            "x\u{e9}",
        ] {
            assert_eq!(
                check(|b| b.header("trailer", named)),
                Err(HeadError::Trailer),
                "{named}"
            );
        }
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
    fn http2_says_the_same_in_its_own_words() {
        let check = |build: fn(http::request::Builder) -> http::request::Builder| {
            check(|b| build(b.version(Version::HTTP_2).uri("https://a:1/api/chat?x=1")))
        };
        assert_eq!(
            check(|b| b.header("te", "trailers").header("content-length", "3")),
            Ok(())
        );
        // Host may stand for `:authority`, as in what was HTTP/1 before.
        assert_eq!(check(|b| b.uri("/api/chat")), Ok(()));
        assert_eq!(check(|b| b.uri("ftp://a:1/api/chat")), Err(HeadError::Target));
        assert_eq!(check(|b| b.header("x", " y")), Err(HeadError::Space));
        assert_eq!(check(|b| b.header("x", "y\t")), Err(HeadError::Space));
        assert_eq!(check(|b| b.header("host", "a:1")), Err(HeadError::Host));
        assert_eq!(check(|b| b.uri("https://b/api/chat")), Err(HeadError::Host));
        assert_eq!(check(|b| b.uri("https://u@a:1/api/chat")), Err(HeadError::Host));
        assert_eq!(check(|b| b.uri("a:1").method("CONNECT")), Err(HeadError::Target));
        for name in HOPS {
            let (mut parts, ()) = Request::builder()
                .version(Version::HTTP_2)
                .uri("https://a/")
                .body(())
                .unwrap()
                .into_parts();
            parts.headers.insert(name, "x".parse().unwrap());
            assert_eq!(Head::check(&parts).unwrap_err(), HeadError::Hop, "{name}");
        }
        assert_eq!(check(|b| b.header("te", "gzip")), Err(HeadError::Hop));
        for length in ["+3", "", "03", "3,3", "9999999999999999999"] {
            let (mut parts, ()) = Request::builder()
                .version(Version::HTTP_2)
                .uri("https://a/")
                .body(())
                .unwrap()
                .into_parts();
            parts.headers.insert("content-length", length.parse().unwrap());
            assert_eq!(Head::check(&parts).unwrap_err(), HeadError::Length, "{length}");
        }
        assert_eq!(
            check(|b| b.header("content-length", "3").header("content-length", "3")),
            Err(HeadError::Length)
        );
        let (parts, ()) = Request::builder()
            .version(Version::HTTP_2)
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(check_ended(&parts, false), Err(HeadError::Body));
        assert_eq!(check_ended(&parts, true), Ok(()));
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
