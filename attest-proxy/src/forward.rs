//! An admitted request on its way to the upstream, and the answer on its way back.
//!
//! Owns: which fields travel. To the upstream go the few that a model server needs, by name, so that nothing a client
//! invents, and none of our own, ever arrives there; the path is the allow-list's, the query stays here. Back go the few
//! that say what the body is: no name of a server, no cookie, no word on origins (CORS), nothing that reads as ours.

use bytes::Bytes;
use domain::{DeviceId, ModelPattern};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, response};
use http_body_util::{BodyExt as _, Limited};

use crate::{
    body::Judged,
    listing,
    respond::{self, Body},
    routes::{Class, Forward},
    upstream::{Ask, Dialect, Message, Stream, Upstream, UpstreamError},
};

/// What a client may say to the upstream beside its body.
static PASSED: [HeaderName; 7] = [
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

/// What the upstream may say to a client beside its body.
static RETURNED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
];

/// A request whose body was judged.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Who asks.
    pub device: &'a DeviceId,
    /// The client's method.
    pub method: &'a Method,
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// Where it goes.
    pub to: Forward,
    /// What goes there.
    pub body: Judged,
}

/// Sends a request, and passes the answer on, cut down to `models`.
///
/// # Errors
/// [`UpstreamError`].
pub async fn forward(
    upstream: &Upstream,
    request: Outgoing<'_>,
    models: &[ModelPattern],
) -> Result<Response<Body>, UpstreamError> {
    let Outgoing {
        device,
        method,
        headers,
        to,
        body: Judged { bytes: body, model },
    } = request;
    let make = |host: &_| outgoing(host, method, headers, to, body.clone());
    if matches!(to.class, Class::List | Class::One) && upstream.is_several() {
        let list = Box::pin(upstream.list(make)).await?;
        let cut = listing::cut(to.class, &list, models).ok_or(UpstreamError::Status(200))?;
        let mut response = respond::json(cut.bytes);
        if !cut.found {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        return Ok(response);
    }
    let ask = Ask {
        device,
        model: model.as_deref(),
        bytes: body.len(),
        runs_model: to.class == Class::Inference,
        dialect: Dialect::of(to.path),
        keep: &RETURNED,
    };
    let response = upstream.send(&ask, make).await?;
    match to.class {
        Class::List | Class::One | Class::Show if response.status().is_success() => {
            let (parts, stream) = response.into_parts();
            Box::pin(cut(parts, stream, to.class, models)).await
        }
        _ => Ok(response.map(Body::stream)),
    }
}

fn outgoing(host: &HeaderValue, method: &Method, headers: &HeaderMap, to: Forward, body: Bytes) -> Message {
    let mut message = Message::new(method, to.path, host);
    let mut passing: [Came<'_>; PASSED.len()] = [Came::Not; PASSED.len()];
    for (name, value) in headers {
        let at = PASSED.iter().position(|passed| passed == name);
        if let Some(came) = at.and_then(|at| passing.get_mut(at)) {
            *came = match came {
                Came::Not => Came::Once(value),
                Came::Once(_) | Came::Again => Came::Again,
            };
        }
    }
    for (name, came) in PASSED.iter().zip(passing) {
        // Of a field that came twice, none passes: which one counts is not ours to say. Nor does one that the client
        // declared as its connection's own.
        if let Came::Once(value) = came
            && !is_named_by_connection(headers, name)
        {
            message.field(name, value);
        }
    }
    if !body.is_empty() {
        message.field(
            &header::CONTENT_TYPE,
            &HeaderValue::from_static("application/json"),
        );
    }
    message.with_body(body)
}

/// How often a field came.
#[derive(Clone, Copy)]
enum Came<'a> {
    Not,
    Once(&'a HeaderValue),
    Again,
}

fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| {
            text.split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
        })
}

/// Reads an answer that tells of models, whole, and cuts it down.
async fn cut(
    mut parts: response::Parts,
    stream: Stream,
    class: Class,
    models: &[ModelPattern],
) -> Result<Response<Body>, UpstreamError> {
    let status = parts.status.as_u16();
    let whole = Limited::new(stream, listing::MAX_LEN)
        .collect()
        .await
        .map_err(|_| UpstreamError::Status(status))?;
    let cut = listing::cut(class, &whole.to_bytes(), models).ok_or(UpstreamError::Status(status))?;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_ENCODING);
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !cut.found {
        parts.status = StatusCode::NOT_FOUND;
    }
    Ok(Response::from_parts(parts, Body::full(cut.bytes.into())))
}

#[cfg(test)]
mod tests {
    use protocol::credentials::STRIPPED;

    use super::*;

    #[test]
    fn only_what_is_named_travels() {
        assert!(PASSED.iter().all(|name| !STRIPPED.contains(name)));
        let mut headers = HeaderMap::new();
        for name in &STRIPPED {
            headers.insert(name, HeaderValue::from_static("secret"));
        }
        headers.insert("connection", HeaderValue::from_static("close, X-Request-Id"));
        for (name, value) in [
            ("accept", "a"),
            ("x-request-id", "r"),
            ("cookie", "c"),
            ("x_odd", "o"),
            ("origin", "x"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append("traceparent", HeaderValue::from_static("1"));
        headers.append("traceparent", HeaderValue::from_static("2"));
        let to = Forward {
            path: "/api/chat",
            endpoint: Some(domain::Endpoint::Chat),
            class: Class::Inference,
        };
        let host = HeaderValue::from_static("ollama");
        let message = outgoing(&host, &Method::POST, &headers, to, Bytes::from_static(b"{}"));
        assert_eq!(
            message.text(),
            "POST /api/chat HTTP/1.1\r\nhost: ollama\r\naccept: a\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{}"
        );
        let message = outgoing(&host, &Method::GET, &HeaderMap::new(), to, Bytes::new());
        assert_eq!(message.text(), "GET /api/chat HTTP/1.1\r\nhost: ollama\r\n\r\n");
    }
}
