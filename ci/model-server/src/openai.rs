//! OpenAI's JSON, as Ollama speaks it on `/v1/*`.
//!
//! Owns: the chat completion's shapes, streamed (server-sent events) and whole. Refuses: nothing; unknown fields are ignored.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Format, MODEL, Parts, and};
use crate::engine::{Ask, Finish, Prompt, Sampling};
use crate::ollama::{DEFAULT_LIMIT, Message};
use crate::worker::Piece;

/// When the model was made, in Unix seconds.
const MADE: u64 = 1_738_911_720;

/// Body of `/v1/chat/completions`.
#[derive(Deserialize)]
pub(crate) struct Completion {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
}

#[derive(Deserialize, Default)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Completion {
    pub(crate) fn into_parts(self, at: SystemTime) -> Parts<Events> {
        let created = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let ask = Ask {
            prompt: Prompt::Turns(self.messages.into_iter().map(Message::into_turn).collect()),
            limit: self
                .max_completion_tokens
                .or(self.max_tokens)
                .unwrap_or(DEFAULT_LIMIT),
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(0.2),
                top_p: self.top_p.unwrap_or(0.9),
                seed: self.seed.map_or(0, i64::unsigned_abs),
            },
        };
        let format = Events {
            created,
            usage: self.stream_options.include_usage,
        };
        Parts {
            model: self.model,
            ask: Some(ask),
            stream: self.stream,
            format,
        }
    }
}

/// Body of `/v1/completions`.
#[derive(Deserialize)]
pub(crate) struct OldCompletion {
    model: String,
    prompt: String,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
}

impl OldCompletion {
    pub(crate) fn into_parts(self, at: SystemTime) -> Parts<Texts> {
        let chat = Completion {
            model: self.model,
            messages: Vec::new(),
            stream: self.stream,
            stream_options: self.stream_options,
            max_tokens: self.max_tokens,
            max_completion_tokens: None,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
        };
        let parts = chat.into_parts(at);
        Parts {
            model: parts.model,
            ask: parts.ask.map(|ask| Ask {
                prompt: Prompt::Raw(self.prompt),
                ..ask
            }),
            stream: parts.stream,
            format: Texts(parts.format),
        }
    }
}

/// `/v1/models`.
pub(crate) fn models() -> Value {
    json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": MADE, "owned_by": "library"}]})
}

/// Server-sent events: `data: {..}` and an empty line each, `data: [DONE]` at last.
pub(crate) struct Events {
    created: u64,
    usage: bool,
}

impl Events {
    fn object(&self, kind: &str, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.created), "object": kind, "created": self.created, "model": MODEL,
            "system_fingerprint": "fp_ollama", "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        self.object("chat.completion.chunk", &choice)
    }
}

impl Format for Events {
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn piece(&self, piece: &Piece) -> String {
        match piece {
            Piece::Text(text) => event(&self.chunk(&json!({"role": "assistant", "content": text}), None)),
            Piece::Failed(why) => event(&self.error(why)),
            Piece::Done(finish, _) => {
                let mut events = event(&self.chunk(
                    &json!({"role": "assistant", "content": ""}),
                    Some(finish.reason.word()),
                ));
                if self.usage {
                    let last = self.object("chat.completion.chunk", &json!([]));
                    let last = and(last, json!({"usage": usage(finish)}));
                    events.push_str(&event(&last));
                }
                events.push_str("data: [DONE]\n\n");
                events
            }
        }
    }

    fn whole(&self, text: &str, last: &Piece) -> Value {
        let finish = match last {
            Piece::Done(finish, _) => Some(finish),
            Piece::Text(_) | Piece::Failed(_) => None,
        };
        let choice = json!([{
            "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish.map(|f| f.reason.word()),
        }]);
        let object = self.object("chat.completion", &choice);
        match finish {
            Some(finish) => and(object, json!({"usage": usage(finish)})),
            None => object,
        }
    }

    fn error(&self, message: &str) -> Value {
        json!({"error": {"message": message, "type": "api_error", "param": null, "code": null}})
    }
}

/// The same with `text` in the place of messages.
pub(crate) struct Texts(Events);

impl Texts {
    fn object(&self, text: &str, finish: Option<&Finish>) -> Value {
        let choice = json!([{"index": 0, "text": text, "finish_reason": finish.map(|f| f.reason.word())}]);
        let object = self.0.object("text_completion", &choice);
        match finish {
            Some(finish) if self.0.usage => and(object, json!({"usage": usage(finish)})),
            _ => object,
        }
    }
}

impl Format for Texts {
    fn stream_type(&self) -> &'static str {
        self.0.stream_type()
    }

    fn piece(&self, piece: &Piece) -> String {
        match piece {
            Piece::Text(text) => event(&self.object(text, None)),
            Piece::Failed(why) => event(&self.error(why)),
            Piece::Done(finish, _) => event(&self.object("", Some(finish))) + "data: [DONE]\n\n",
        }
    }

    fn whole(&self, text: &str, last: &Piece) -> Value {
        match last {
            Piece::Done(finish, _) => and(self.object(text, Some(finish)), json!({"usage": usage(finish)})),
            Piece::Text(_) | Piece::Failed(_) => self.object(text, None),
        }
    }

    fn error(&self, message: &str) -> Value {
        self.0.error(message)
    }
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn usage(finish: &Finish) -> Value {
    json!({
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.tokens,
        "total_tokens": finish.prompt_tokens.saturating_add(finish.tokens),
    })
}
