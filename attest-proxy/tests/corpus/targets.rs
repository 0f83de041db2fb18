//! Targets: what is not on the list goes nowhere, in whatever spelling.

use super::{Case, End};

/// Not a path of this host, or nothing that is done with one.
const FORMS: &[&str] = &[
    "GET http://b/api/version HTTP/1.1",
    "GET https://b/api/version HTTP/1.1",
    "GET HTTP://b/api/version HTTP/1.1",
    "GET http://a:80/api/version HTTP/1.1",
    "GET http://a./api/version HTTP/1.1",
    "GET http://b,a/api/version HTTP/1.1",
    "GET http://a/api/version#x HTTP/1.1",
    "GET ws://a/api/version HTTP/1.1",
    "GET //a/api/version http://a/ HTTP/1.1",
    // Methods that nobody here has for anything.
    "get /api/version HTTP/1.1",
    "Get /api/version HTTP/1.1",
    "GETX /api/version HTTP/1.1",
    "TRACE /api/chat HTTP/1.1",
    "TRACK /api/chat HTTP/1.1",
    "PROPFIND /api/tags HTTP/1.1",
    "DEBUG /api/tags HTTP/1.1",
    "PURGE /api/tags HTTP/1.1",
    "X-GET /api/tags HTTP/1.1",
    "CONNECT /api/version HTTP/1.1",
    "GPOST /api/chat HTTP/1.1",
    "GET http://a@b/api/version HTTP/1.1",
    "GET http:///api/version HTTP/1.1",
    "GET ftp://a/api/version HTTP/1.1",
    "GET file:///etc/passwd HTTP/1.1",
    "GET a:80 HTTP/1.1",
    "GET a HTTP/1.1",
    "GET api/version HTTP/1.1",
    "GET ?x HTTP/1.1",
    "GET * HTTP/1.1",
    "GET @a/api/version HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "CONNECT b:80 HTTP/1.1",
    "CONNECT 169.254.169.254:80 HTTP/1.1",
    "GET /api/version#x HTTP/1.1",
    "GET /api/tags?x#y HTTP/1.1",
    "GET /api/ver sion HTTP/1.1",
    "GET /api/version%00 HTTP/1.1",
    "GET /api/version%0d%0aX:%20y HTTP/1.1",
    "GET /api/version%0A HTTP/1.1",
    "GET /api/version%7f HTTP/1.1",
    "GET /api\\version HTTP/1.1",
    "GET /\\api/version HTTP/1.1",
    "GET /api/version| HTTP/1.1",
    "GET /api/version^ HTTP/1.1",
    "GET /api/{version} HTTP/1.1",
    "GET /api/\"version\" HTTP/1.1",
    "GET /api/version\u{7f} HTTP/1.1",
    "GET /api/version? x HTTP/1.1",
];

/// Paths that are refused by name: another spelling of one that is on the list, or of one that must never be reached.
const DENIED: &[(&str, &str)] = &[
    ("GET", "/api/%76ersion"),
    ("GET", "/api%2fversion"),
    ("GET", "/api/version%20"),
    ("GET", "/api/version%2e"),
    ("GET", "/%61pi/tags"),
    ("GET", "/./api/version"),
    ("GET", "/api/./version"),
    ("GET", "/api/../api/version"),
    ("GET", "/x/../api/version"),
    ("GET", "/api/version/.."),
    ("GET", "/api/version/."),
    ("GET", "/../api/version"),
    ("GET", "//api/version"),
    ("GET", "/api//version"),
    ("GET", "/api/version/"),
    ("GET", "/api/version//"),
    ("GET", "/api/version;x"),
    ("GET", "/api;x/version"),
    ("GET", "/;/api/version"),
    ("GET", "/api/version,x"),
    ("GET", "/api/version~"),
    ("GET", "/api/version%"),
    ("GET", "/api/version%zz"),
    ("GET", "//evil.example/api/version"),
    ("GET", "/http://a/api/version"),
    ("GET", "/api/%2e%2e/api/pull"),
    ("GET", "/api/..%2fpull"),
    ("GET", "/api/..;/api/pull"),
    ("GET", "/api/%252e%252e/pull"),
    ("GET", "/api/%c0%ae%c0%ae/pull"),
    ("GET", "/api/pull"),
    ("POST", "/api/pull"),
    ("POST", "/api/%70ull"),
    ("POST", "/api//pull"),
    ("POST", "/api/./pull"),
    ("POST", "/api/chat/../pull"),
    ("POST", "/api/pull?x=/api/chat"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/delete"),
    ("POST", "/api/blobs/sha256:0"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("POST", "/api/signout"),
    ("GET", "/api/status"),
    ("POST", "/api/me"),
    ("DELETE", "/api/user/keys/x"),
    ("POST", "/api/experimental/x"),
    // Methods that a route does not have.
    ("POST", "/api/version"),
    ("PUT", "/api/version"),
    ("PATCH", "/api/chat"),
    ("DELETE", "/api/chat"),
    ("OPTIONS", "/api/chat"),
    ("GET", "/api/chat"),
    ("HEAD", "/api/chat"),
    ("HEAD", "/api/tags"),
];

/// Paths that nobody has.
const UNKNOWN: &[&str] = &[
    "/API/VERSION",
    "/Api/version",
    "/api/versions",
    "/api",
    "/metrics",
    "/healthz",
    "/readyz",
    "/v1",
    "/attest/v1",
];

pub fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = FORMS.iter().map(|line| Case::line(line, End::Closed)).collect();
    for (method, path) in DENIED {
        all.push(Case::line(&format!("{method} {path} HTTP/1.1"), End::InStep(403)));
    }
    for path in UNKNOWN {
        all.push(Case::line(&format!("GET {path} HTTP/1.1"), End::InStep(404)));
    }
    for path in [
        "/api/versi\u{f6}n",
        "/api/version\u{ff}",
        "/api/version\u{c0}\u{af}",
    ] {
        all.push(Case::line(&format!("GET {path} HTTP/1.1"), End::Closed));
    }
    for (size, status) in [(10_000, 403), (70_000, 431)] {
        let line = format!("GET /{} HTTP/1.1", "%41".repeat(size / 3));
        let end = if status == 403 {
            End::InStep(status)
        } else {
            End::ClosedWith(status)
        };
        all.push(Case::line(&line, end));
    }
    all
}
