//! Anthropic's JSON, as Ollama speaks it on `/v1/messages`.
//!
//! Owns: the message's shapes, streamed (named server-sent events) and whole. Refuses: nothing; unknown fields are ignored.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Format, MODEL, Parts};
use crate::engine::{Ask, Finish, Prompt, Reason, Role, Sampling, Turn};
use crate::worker::Piece;

const ID: &str = "msg_scripted";

/// Body of `/v1/messages`.
#[derive(Deserialize)]
pub(crate) struct Messages {
    model: String,
    max_tokens: usize,
    messages: Vec<Message>,
    system: Option<Content>,
    #[serde(default)]
    stream: bool,
    temperature: Option<f64>,
    top_p: Option<f64>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Content,
}

/// A text, or parts of which those of text count.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

impl Messages {
    pub(crate) fn into_parts(self) -> Parts<Events> {
        let turn = |role, content: Content| Turn {
            role,
            content: content.into_text(),
        };
        let system = self.system.map(|content| turn(Role::System, content));
        let turns = self.messages.into_iter().map(|m| turn(m.role, m.content));
        let ask = Ask {
            prompt: Prompt::Turns(system.into_iter().chain(turns).collect()),
            limit: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(0.2),
                top_p: self.top_p.unwrap_or(0.9),
                seed: 0,
            },
        };
        Parts {
            model: self.model,
            ask: Some(ask),
            stream: self.stream,
            format: Events,
        }
    }
}

/// Events with names. What comes before the first word and after the last one goes out with them.
pub(crate) struct Events;

fn event(value: &Value) -> String {
    format!(
        "event: {}\ndata: {value}\n\n",
        value["type"].as_str().unwrap_or_default()
    )
}

fn message(content: &Value, finish: Option<&Finish>) -> Value {
    json!({
        "id": ID, "type": "message", "role": "assistant", "model": MODEL, "content": content,
        "stop_reason": finish.map(reason), "stop_sequence": null,
        "usage": {
            "input_tokens": finish.map_or(0, |f| f.prompt_tokens), "output_tokens": finish.map_or(0, |f| f.tokens),
        },
    })
}

fn reason(finish: &Finish) -> &'static str {
    match finish.reason {
        Reason::Stop => "end_turn",
        Reason::Length => "max_tokens",
    }
}

impl Format for Events {
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn begin(&self) -> String {
        let block = json!({"type": "text", "text": ""});
        event(&json!({"type": "message_start", "message": message(&json!([]), None)}))
            + &event(&json!({"type": "content_block_start", "index": 0, "content_block": block}))
    }

    fn piece(&self, piece: &Piece) -> String {
        match piece {
            Piece::Text(text) => event(&json!({
                "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text},
            })),
            Piece::Failed(why) => event(&self.error(why)),
            Piece::Done(finish, _) => {
                event(&json!({"type": "content_block_stop", "index": 0}))
                    + &event(&json!({
                        "type": "message_delta",
                        "delta": {"stop_reason": reason(finish), "stop_sequence": null},
                        "usage": {"input_tokens": finish.prompt_tokens, "output_tokens": finish.tokens},
                    }))
                    + &event(&json!({"type": "message_stop"}))
            }
        }
    }

    fn whole(&self, text: &str, last: &Piece) -> Value {
        let finish = match last {
            Piece::Done(finish, _) => Some(finish),
            Piece::Text(_) | Piece::Failed(_) => None,
        };
        message(&json!([{"type": "text", "text": text}]), finish)
    }

    fn error(&self, message: &str) -> Value {
        json!({"type": "error", "error": {"type": "api_error", "message": message}})
    }
}
