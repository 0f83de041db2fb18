//! Which requests can go to the upstream at all: an exact list of method and literal path.
//!
//! Owns: the list, and the classes of Ollama's routes. Whatever is not on it is not forwarded, in any spelling, for
//! any device: Ollama routes on the decoded path, so a path that would have to be decoded is refused.
//! Who may call: the gate. An attacker controls method and path.

use domain::Endpoint;
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
    /// What a policy calls it; `None`: open to every device.
    pub endpoint: Option<Endpoint>,
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
    /// No body; the path names a model, the answer is made of the list, and shows that model alone. So no path that a client
    /// wrote ever goes upstream.
    One,
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
    let (path, endpoint) = match path {
        "/attest/v1/challenge" => return only(method, &Method::GET, Route::Challenge),
        "/attest/v1/session" => return only(method, &Method::POST, Route::Session),
        "/" => ("/", None),
        "/api/version" => ("/api/version", None),
        _ => {
            let exact = path
                .parse::<Endpoint>()
                .ok()
                .filter(|e| *e != Endpoint::OpenAiModel);
            match exact {
                Some(endpoint) => (endpoint.path(), Some(endpoint)),
                None if names_a_model(path) => (Endpoint::OpenAiModels.path(), Some(Endpoint::OpenAiModel)),
                None if !is_plain(path) || is_ollamas(path) => return Err(Refusal::PathDenied),
                None => return Err(Refusal::PathUnknown),
            }
        }
    };
    let class = class(endpoint);
    let allowed = match class {
        // The ollama command line asks HEAD / before anything else.
        Class::Plain => *method == Method::GET || *method == Method::HEAD,
        Class::List | Class::One => *method == Method::GET,
        Class::Show | Class::Inference => *method == Method::POST,
    };
    if allowed {
        Ok(Route::Forward(Forward {
            path,
            endpoint,
            class,
        }))
    } else {
        Err(Refusal::PathDenied)
    }
}

const fn class(endpoint: Option<Endpoint>) -> Class {
    match endpoint {
        None => Class::Plain,
        Some(Endpoint::Tags | Endpoint::Ps | Endpoint::OpenAiModels) => Class::List,
        Some(Endpoint::OpenAiModel) => Class::One,
        Some(Endpoint::Show) => Class::Show,
        Some(
            Endpoint::Generate
            | Endpoint::Chat
            | Endpoint::Embed
            | Endpoint::Embeddings
            | Endpoint::OpenAiChat
            | Endpoint::OpenAiCompletions
            | Endpoint::OpenAiEmbeddings
            | Endpoint::OpenAiResponses
            | Endpoint::AnthropicMessages,
        ) => Class::Inference,
    }
}

/// `/v1/models/` and one plain segment.
fn names_a_model(path: &str) -> bool {
    path.strip_prefix("/v1/models/")
        .is_some_and(|name| is_plain(path) && !name.contains('/'))
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
                    endpoint: Some(path.parse().unwrap()),
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
        ] {
            assert_eq!(post(path), Err(Refusal::PathDenied), "{path}");
            assert_eq!(get(path), Err(Refusal::PathDenied), "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/api/delete"), Err(Refusal::PathDenied));
        assert_eq!(find(&Method::DELETE, "/api/chat"), Err(Refusal::PathDenied));
    }

    #[test]
    fn one_model_is_asked_for_by_the_list() {
        let one = Forward {
            path: "/v1/models",
            endpoint: Some(Endpoint::OpenAiModel),
            class: Class::One,
        };
        assert_eq!(get("/v1/models/smollm2:135m"), Ok(Route::Forward(one)));
        assert_eq!(
            get("/v1/models/:model"),
            Ok(Route::Forward(one)),
            "a name like any other"
        );
        for path in [
            "/v1/models/",
            "/v1/models/a/b",
            "/v1/models/..",
            "/v1/models/a%2fb",
            "/v1/models/a b",
        ] {
            assert!(get(path).is_err(), "{path}");
        }
        assert_eq!(post("/v1/models/a"), Err(Refusal::PathDenied));
        assert_eq!(find(&Method::DELETE, "/v1/models/a"), Err(Refusal::PathDenied));
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
