//! Which requests can go to the upstream at all: an exact list of method and literal path.
//!
//! Owns: the list, and the classes of Ollama's routes. Whatever is not on it is not forwarded, in any spelling, for
//! any device: Ollama routes on the decoded path, so a path that would have to be decoded is refused.
//! Who may call: the gate. An attacker controls method and path.

use http::Method;
use protocol::Refusal;

/// A request that the proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `GET /attest/v1/challenge`.
    Challenge,
    /// `POST /attest/v1/session`.
    Session,
    /// To the upstream.
    Forward(Forward),
}

/// A request that goes to the upstream. What is sent there is this path, never the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The literal path.
    pub path: &'static str,
    /// What the request and its answer have in them.
    pub class: Class,
}

/// What a forwarded request and its answer have in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No body; a fixed answer.
    Plain,
    /// No body; the answer lists models and is cut down to the device's.
    List,
    /// A JSON body that names a model; the answer shows it, without its prompt and template.
    Show,
    /// A JSON body that names a model; the answer passes as it comes.
    Inference,
}

/// Finds what a request asks for.
///
/// # Errors
/// [`Refusal::PathDenied`] for what Ollama serves and we do not, and for every path that is not plain;
/// [`Refusal::PathUnknown`] for what Ollama has no route for.
pub fn find(method: &Method, path: &str) -> Result<Route, Refusal> {
    use Class::{Inference, List, Plain, Show};
    let known = match path {
        "/attest/v1/challenge" => return only(method, &Method::GET, Route::Challenge),
        "/attest/v1/session" => return only(method, &Method::POST, Route::Session),
        "/" => ("/", Plain),
        "/api/version" => ("/api/version", Plain),
        "/api/tags" => ("/api/tags", List),
        "/api/ps" => ("/api/ps", List),
        "/v1/models" => ("/v1/models", List),
        "/api/show" => ("/api/show", Show),
        "/api/generate" => ("/api/generate", Inference),
        "/api/chat" => ("/api/chat", Inference),
        "/api/embed" => ("/api/embed", Inference),
        "/api/embeddings" => ("/api/embeddings", Inference),
        "/v1/chat/completions" => ("/v1/chat/completions", Inference),
        "/v1/completions" => ("/v1/completions", Inference),
        "/v1/embeddings" => ("/v1/embeddings", Inference),
        "/v1/responses" => ("/v1/responses", Inference),
        "/v1/messages" => ("/v1/messages", Inference),
        _ if !is_plain(path) || is_ollamas(path) => return Err(Refusal::PathDenied),
        _ => return Err(Refusal::PathUnknown),
    };
    let (path, class) = known;
    let allowed = match class {
        // The ollama command line asks HEAD / before anything else.
        Plain => *method == Method::GET || *method == Method::HEAD,
        List => *method == Method::GET,
        Show | Inference => *method == Method::POST,
    };
    if allowed {
        Ok(Route::Forward(Forward { path, class }))
    } else {
        Err(Refusal::PathDenied)
    }
}

fn only(method: &Method, allowed: &Method, route: Route) -> Result<Route, Refusal> {
    if method == allowed {
        Ok(route)
    } else {
        Err(Refusal::PathDenied)
    }
}

/// Letters, digits, `.`, `_`, `-` between single slashes, and no dot segment: a path that no server reads in two ways.
fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
        })
    })
}

/// Whether Ollama has a route there. For the choice between 403 and 404 alone; both are refused.
fn is_ollamas(path: &str) -> bool {
    const EXACT: [&str; 9] = [
        "/api/status",
        "/api/pull",
        "/api/push",
        "/api/create",
        "/api/copy",
        "/api/delete",
        "/api/me",
        "/api/signout",
        "/v1/audio/transcriptions",
    ];
    const BELOW: [&str; 4] = [
        "/api/blobs/",
        "/api/user/keys/",
        "/api/experimental/",
        "/v1/models/",
    ];
    EXACT.contains(&path) || BELOW.iter().any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Route, Refusal> {
        find(&Method::GET, path)
    }

    fn post(path: &str) -> Result<Route, Refusal> {
        find(&Method::POST, path)
    }

    #[test]
    fn what_devices_need_is_forwarded() {
        for path in [
            "/api/generate",
            "/api/chat",
            "/api/embed",
            "/v1/chat/completions",
            "/v1/messages",
        ] {
            assert_eq!(
                post(path),
                Ok(Route::Forward(Forward {
                    path: leak(path),
                    class: Class::Inference
                }))
            );
            assert_eq!(get(path), Err(Refusal::PathDenied), "{path}");
        }
        assert!(matches!(find(&Method::HEAD, "/"), Ok(Route::Forward(_))));
        assert_eq!(get("/attest/v1/challenge"), Ok(Route::Challenge));
        assert_eq!(post("/attest/v1/session"), Ok(Route::Session));
        assert_eq!(post("/attest/v1/challenge"), Err(Refusal::PathDenied));
    }

    fn leak(text: &str) -> &'static str {
        text.to_owned().leak()
    }

    #[test]
    fn what_reaches_out_or_wipes_is_denied() {
        for path in [
            "/api/pull",
            "/api/push",
            "/api/create",
            "/api/copy",
            "/api/blobs/sha256:00",
            "/api/me",
            "/api/signout",
            "/api/user/keys/x",
            "/api/experimental/y",
            "/api/status",
            "/v1/models/a",
        ] {
            assert_eq!(post(path), Err(Refusal::PathDenied), "{path}");
            assert_eq!(get(path), Err(Refusal::PathDenied), "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/api/delete"), Err(Refusal::PathDenied));
        assert_eq!(find(&Method::DELETE, "/api/chat"), Err(Refusal::PathDenied));
    }

    #[test]
    fn no_spelling_gets_through() {
        for path in [
            "/api/%70ull",
            "/api//chat",
            "//api/chat",
            "/api/./chat",
            "/api/x/../chat",
            "/api\\chat",
            "/api/chat;x=1",
            "/api/chat/",
            "/API/chat",
            "/api/chat%00",
            "/api/cha\u{0074}\u{0301}",
            "*",
            "",
        ] {
            assert!(post(path).is_err(), "{path}");
        }
        assert_eq!(post("/api/%63hat"), Err(Refusal::PathDenied));
    }

    #[test]
    fn what_nobody_serves_is_not_found() {
        assert_eq!(get("/favicon.ico"), Err(Refusal::PathUnknown));
        assert_eq!(get("/api/chats"), Err(Refusal::PathUnknown));
    }
}
