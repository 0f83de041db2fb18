//! The routes: which request asks for what, and how pieces become a streamed or a whole body.
//!
//! Owns: routing, limits on a body, the response types of hyper. What an attacker controls: everything that arrives; nobody but the demo and
//! tests should be able to reach this server.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::engine::Ask;
use crate::worker::{Piece, Worker};
use crate::{anthropic, embed::Embed, ollama, openai};

/// Longest request body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// The only model there is.
pub(crate) const MODEL: &str = "smollm2:135m";

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// How one route writes its pieces down.
pub(crate) trait Format: Send + Sync + Unpin + 'static {
    /// `content-type` of a stream.
    fn stream_type(&self) -> &'static str;
    /// What a stream begins with.
    fn begin(&self) -> String {
        String::new()
    }
    /// One piece in a stream: a line of NDJSON, or events.
    fn piece(&self, piece: &Piece) -> String;
    /// The whole answer at once.
    fn whole(&self, text: &str, last: &Piece) -> Value;
    /// An error before the first byte.
    fn error(&self, message: &str) -> Value;
}

/// Answers one request.
pub(crate) async fn answer(worker: Arc<Worker>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    Ok(match (&method, path.as_str()) {
        (&Method::GET | &Method::HEAD, "/") => text(StatusCode::OK, "Ollama is running"),
        (&Method::GET | &Method::HEAD, "/api/version") => reply(StatusCode::OK, &ollama::version()),
        (&Method::GET | &Method::HEAD, "/api/tags") => reply(StatusCode::OK, &ollama::tags()),
        (&Method::GET, "/api/ps") => reply(StatusCode::OK, &ollama::ps(SystemTime::now())),
        (&Method::GET, "/v1/models") => reply(StatusCode::OK, &openai::models()),
        (&Method::POST, "/api/show") => show(request).await,
        (&Method::POST, "/api/generate") => match read::<ollama::Generate>(request).await {
            Ok(asked) => converse(&worker, asked.into_parts()).await,
            Err(refused) => *refused,
        },
        (&Method::POST, "/api/chat") => match read::<ollama::Chat>(request).await {
            Ok(asked) => converse(&worker, asked.into_parts()).await,
            Err(refused) => *refused,
        },
        (&Method::POST, "/v1/chat/completions") => match read::<openai::Completion>(request).await {
            Ok(asked) => converse(&worker, asked.into_parts(SystemTime::now())).await,
            Err(refused) => *refused,
        },
        (&Method::POST, "/v1/completions") => match read::<openai::OldCompletion>(request).await {
            Ok(asked) => converse(&worker, asked.into_parts(SystemTime::now())).await,
            Err(refused) => *refused,
        },
        (&Method::POST, "/v1/messages") => match read::<anthropic::Messages>(request).await {
            Ok(asked) => converse(&worker, asked.into_parts()).await,
            Err(refused) => *refused,
        },
        (&Method::POST, "/api/embed") => embed(request, Embed::ollama).await,
        (&Method::POST, "/api/embeddings") => embed(request, Embed::old).await,
        (&Method::POST, "/v1/embeddings") => embed(request, Embed::openai).await,
        (
            _,
            "/"
            | "/api/version"
            | "/api/tags"
            | "/api/ps"
            | "/api/show"
            | "/api/generate"
            | "/api/chat"
            | "/v1/models"
            | "/api/embed"
            | "/api/embeddings"
            | "/v1/chat/completions"
            | "/v1/completions"
            | "/v1/embeddings"
            | "/v1/messages",
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    })
}

/// What a route made of a body.
pub(crate) struct Parts<F> {
    pub(crate) model: String,
    /// Without a question the model is only loaded, and it is loaded already.
    pub(crate) ask: Option<Ask>,
    pub(crate) stream: bool,
    pub(crate) format: F,
}

async fn show(request: Request<Incoming>) -> Answer {
    match read::<ollama::Show>(request).await {
        Ok(asked) if asked.model() == MODEL => reply(StatusCode::OK, &ollama::show()),
        Ok(asked) => reply(StatusCode::NOT_FOUND, &json!({"error": unknown(asked.model())})),
        Err(refused) => *refused,
    }
}

async fn embed(request: Request<Incoming>, answer: fn(&Embed) -> Value) -> Answer {
    match read::<Embed>(request).await {
        Ok(asked) if asked.model == MODEL => reply(StatusCode::OK, &answer(&asked)),
        Ok(asked) => reply(StatusCode::NOT_FOUND, &json!({"error": unknown(&asked.model)})),
        Err(refused) => *refused,
    }
}

async fn converse<F: Format>(worker: &Worker, parts: Parts<F>) -> Answer {
    let Parts {
        model,
        ask,
        stream,
        format,
    } = parts;
    if model != MODEL {
        return reply(StatusCode::NOT_FOUND, &format.error(&unknown(&model)));
    }
    let Some(ask) = ask else {
        return reply(StatusCode::OK, &ollama::loaded(SystemTime::now()));
    };
    let mut pieces = match worker.ask(ask) {
        Ok(pieces) => pieces,
        Err(busy) => return reply(StatusCode::SERVICE_UNAVAILABLE, &format.error(&busy.to_string())),
    };
    if stream {
        let body = Stream {
            pieces,
            format,
            begun: false,
            ended: false,
        };
        return respond(StatusCode::OK, body.stream_type(), BoxBody::new(body));
    }
    let mut whole = String::new();
    loop {
        match pieces.recv().await {
            Some(Piece::Text(piece)) => whole.push_str(&piece),
            Some(last @ Piece::Done(..)) => return reply(StatusCode::OK, &format.whole(&whole, &last)),
            Some(Piece::Failed(why)) => return reply(StatusCode::INTERNAL_SERVER_ERROR, &format.error(&why)),
            None => {
                return reply(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &format.error("the model's thread is gone"),
                );
            }
        }
    }
}

fn unknown(model: &str) -> String {
    format!("model '{model}' not found")
}

/// A body that writes pieces as they come. When hyper drops it, the receiver goes with it, and the model stops.
struct Stream<F> {
    pieces: mpsc::Receiver<Piece>,
    format: F,
    begun: bool,
    ended: bool,
}

impl<F: Format> Stream<F> {
    fn stream_type(&self) -> &'static str {
        self.format.stream_type()
    }
}

impl<F: Format> Body for Stream<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.begun, true) {
            let begin = self.format.begin();
            if !begin.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(begin)))));
            }
        }
        self.pieces.poll_recv(context).map(|piece| {
            let piece = piece.unwrap_or_else(|| Piece::Failed("the model's thread is gone".to_owned()));
            self.ended = !matches!(piece, Piece::Text(_));
            Some(Ok(Frame::data(Bytes::from(self.format.piece(&piece)))))
        })
    }
}

/// One JSON object with another's fields in it too.
pub(crate) fn and(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// Reads a JSON body, or says what to answer instead.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Answer>> {
    let refuse = |status, why: String| Box::new(reply(status, &json!({"error": why})));
    let body = Limited::new(request.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(|why| refuse(StatusCode::PAYLOAD_TOO_LARGE, why.to_string()))?
        .to_bytes();
    serde_json::from_slice(&body).map_err(|why| refuse(StatusCode::BAD_REQUEST, why.to_string()))
}

fn reply(status: StatusCode, value: &Value) -> Answer {
    respond(status, "application/json; charset=utf-8", full(value.to_string()))
}

fn text(status: StatusCode, words: &str) -> Answer {
    respond(status, "text/plain; charset=utf-8", full(words.to_owned()))
}

fn full(body: String) -> BoxBody<Bytes, Infallible> {
    BoxBody::new(Full::new(Bytes::from(body)))
}

fn respond(status: StatusCode, kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
