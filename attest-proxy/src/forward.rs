//! An admitted request on its way to the upstream, and the answer on its way back.
//!
//! Owns: which fields travel. To the upstream go the few that a model server needs, by name, so that nothing a client
//! invents, and none of our own, ever arrives there; the path is the allow-list's, the query stays here. Back go all
//! but those of the connection.

use bytes::Bytes;
use domain::ModelPattern;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header, response};
use http_body_util::{BodyExt as _, Full, Limited};

use crate::{
    listing,
    respond::Body,
    routes::{Class, Forward},
    upstream::{Stream, Upstream, UpstreamError},
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

/// Fields that belong to one connection (RFC 9110 7.6.1), never passed back.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sends a request whose body was judged, and passes the answer on.
///
/// # Errors
/// [`UpstreamError`].
pub async fn forward(
    upstream: &Upstream,
    method: &Method,
    headers: &HeaderMap,
    to: Forward,
    body: Vec<u8>,
    models: &[ModelPattern],
) -> Result<Response<Body>, UpstreamError> {
    let request = outgoing(upstream.host(), method, headers, to, body);
    let (mut parts, stream) = upstream.send(request).await?.into_parts();
    for name in &HOP_BY_HOP {
        parts.headers.remove(name);
    }
    match to.class {
        Class::List | Class::Show if parts.status.is_success() => cut(parts, stream, to.class, models).await,
        _ => Ok(Response::from_parts(parts, Body::stream(stream))),
    }
}

fn outgoing(
    host: HeaderValue,
    method: &Method,
    headers: &HeaderMap,
    to: Forward,
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut fields = HeaderMap::with_capacity(8);
    fields.insert(header::HOST, host);
    for name in &PASSED {
        // Of a field that came twice, none passes: which one counts is not ours to say. Nor does one that the client
        // declared as its connection's own.
        let mut values = headers.get_all(name).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && !is_named_by_connection(headers, name)
        {
            fields.insert(name, value.clone());
        }
    }
    if !body.is_empty() {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_static(to.path);
    *request.headers_mut() = fields;
    request
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
    Ok(Response::from_parts(parts, Body::full(cut.into())))
}

#[cfg(test)]
mod tests {
    use protocol::credentials::STRIPPED;

    use super::*;

    #[test]
    fn only_what_is_named_travels() {
        assert!(PASSED.iter().all(|name| !STRIPPED.contains(name)));
        let mut headers = HeaderMap::new();
        for name in STRIPPED.iter().chain(&HOP_BY_HOP) {
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
            class: Class::Inference,
        };
        let request = outgoing(
            HeaderValue::from_static("ollama"),
            &Method::POST,
            &headers,
            to,
            b"{}".to_vec(),
        );
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-type", "host"]);
        assert_eq!(request.uri(), "/api/chat");
        let request = outgoing(
            HeaderValue::from_static("ollama"),
            &Method::GET,
            &HeaderMap::new(),
            to,
            Vec::new(),
        );
        assert_eq!(request.headers().len(), 1);
    }
}
