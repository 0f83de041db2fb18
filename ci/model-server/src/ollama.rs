//! Ollama's own JSON: what `/api/*` accepts and answers, field for field as far as this server goes.
//!
//! Owns: those shapes and Ollama's defaults. Refuses: nothing that Ollama would accept; unknown fields are ignored, as there.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Format, MODEL, Parts, and};
use crate::engine::{Ask, Finish, Prompt, Role, Sampling, Turn};
use crate::worker::Piece;

/// The version whose answers these are like.
const VERSION: &str = "0.17.1";
/// Bytes of the GGUF file, and its SHA-256 as Ollama's digest.
const SIZE: u64 = 98_362_432;
const DIGEST: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const MODIFIED: &str = "2025-02-07T07:02:00Z";
/// Tokens of an answer when nobody says how many.
pub(crate) const DEFAULT_LIMIT: usize = 256;

/// Body of `/api/generate`.
#[derive(Deserialize)]
pub(crate) struct Generate {
    model: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    system: String,
    #[serde(default)]
    raw: bool,
    stream: Option<bool>,
    #[serde(default)]
    options: Options,
}

/// Body of `/api/chat`.
#[derive(Deserialize)]
pub(crate) struct Chat {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    stream: Option<bool>,
    #[serde(default)]
    options: Options,
}

/// One message of a chat.
#[derive(Deserialize)]
pub(crate) struct Message {
    role: Role,
    content: String,
}

/// The options that this server heeds.
#[derive(Deserialize, Default)]
struct Options {
    num_predict: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
}

/// Body of `/api/show`; `name` is the field's older name.
#[derive(Deserialize)]
pub(crate) struct Show {
    #[serde(alias = "name")]
    model: String,
}

impl Show {
    pub(crate) fn model(&self) -> &str {
        &self.model
    }
}

impl Generate {
    pub(crate) fn into_parts(self) -> Parts<Ndjson> {
        let prompt = if self.prompt.is_empty() {
            None
        } else if self.raw {
            Some(Prompt::Raw(self.prompt))
        } else {
            let system = (!self.system.is_empty()).then_some(Turn {
                role: Role::System,
                content: self.system,
            });
            let user = Turn {
                role: Role::User,
                content: self.prompt,
            };
            Some(Prompt::Turns(system.into_iter().chain([user]).collect()))
        };
        parts(self.model, prompt, self.stream, &self.options, Ndjson::Generate)
    }
}

impl Chat {
    pub(crate) fn into_parts(self) -> Parts<Ndjson> {
        let turns: Vec<Turn> = self.messages.into_iter().map(Message::into_turn).collect();
        let prompt = (!turns.is_empty()).then_some(Prompt::Turns(turns));
        parts(self.model, prompt, self.stream, &self.options, Ndjson::Chat)
    }
}

impl Message {
    pub(crate) fn into_turn(self) -> Turn {
        Turn {
            role: self.role,
            content: self.content,
        }
    }
}

fn parts(
    model: String,
    prompt: Option<Prompt>,
    stream: Option<bool>,
    options: &Options,
    format: Ndjson,
) -> Parts<Ndjson> {
    // A negative num_predict means "until the model stops"; the context ends it then.
    let limit = match options.num_predict {
        None => DEFAULT_LIMIT,
        Some(tokens) => usize::try_from(tokens).unwrap_or(usize::MAX),
    };
    let sampling = Sampling {
        temperature: options.temperature.unwrap_or(0.2),
        top_p: options.top_p.unwrap_or(0.9),
        seed: options.seed.map_or(0, i64::unsigned_abs),
    };
    let ask = prompt.map(|prompt| Ask {
        prompt,
        limit,
        sampling,
    });
    Parts {
        model,
        ask,
        stream: stream.unwrap_or(true),
        format,
    }
}

/// One JSON object a line, as `/api/generate` and `/api/chat` stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ndjson {
    Generate,
    Chat,
}

impl Ndjson {
    fn object(self, text: &str, last: Option<(&Finish, Duration)>) -> Value {
        let object = json!({"model": MODEL, "created_at": now(SystemTime::now()), "done": last.is_some()});
        let object = match self {
            Self::Generate => and(object, json!({"response": text})),
            Self::Chat => and(object, json!({"message": {"role": "assistant", "content": text}})),
        };
        let Some((finish, total)) = last else {
            return object;
        };
        let cost = json!({
            "done_reason": finish.reason.word(),
            "total_duration": nanoseconds(total),
            "load_duration": 0,
            "prompt_eval_count": finish.prompt_tokens,
            "prompt_eval_duration": nanoseconds(finish.prompt_time),
            "eval_count": finish.tokens,
            "eval_duration": nanoseconds(finish.time),
        });
        and(object, cost)
    }
}

impl Format for Ndjson {
    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn piece(&self, piece: &Piece) -> String {
        let object = match piece {
            Piece::Text(text) => self.object(text, None),
            Piece::Done(finish, total) => self.object("", Some((finish, *total))),
            Piece::Failed(why) => self.error(why),
        };
        format!("{object}\n")
    }

    fn whole(&self, text: &str, last: &Piece) -> Value {
        match last {
            Piece::Done(finish, total) => self.object(text, Some((finish, *total))),
            Piece::Text(_) | Piece::Failed(_) => self.object(text, None),
        }
    }

    fn error(&self, message: &str) -> Value {
        json!({"error": message})
    }
}

/// `/api/version`.
pub(crate) fn version() -> Value {
    json!({"version": VERSION})
}

/// `/api/tags`.
pub(crate) fn tags() -> Value {
    json!({"models": [and(model(), json!({"modified_at": MODIFIED}))]})
}

/// `/api/ps`.
pub(crate) fn ps(at: SystemTime) -> Value {
    let state = json!({"expires_at": now(at + Duration::from_secs(300)), "size_vram": 0});
    json!({"models": [and(model(), state)]})
}

/// `/api/show`.
pub(crate) fn show() -> Value {
    json!({
        "modelfile": format!("FROM {MODEL}"),
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": details(),
        "model_info": {"general.architecture": "llama", "general.parameter_count": 134_515_008_u64, "llama.context_length": 8192},
        "capabilities": ["completion"],
        "modified_at": MODIFIED,
    })
}

/// What Ollama answers when asked for nothing: the model is loaded now.
pub(crate) fn loaded(at: SystemTime) -> Value {
    json!({"model": MODEL, "created_at": now(at), "response": "", "done": true, "done_reason": "load"})
}

fn model() -> Value {
    json!({"name": MODEL, "model": MODEL, "size": SIZE, "digest": DIGEST, "details": details()})
}

fn details() -> Value {
    json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "134.52M", "quantization_level": "Q4_1",
    })
}

fn now(at: SystemTime) -> String {
    humantime::format_rfc3339_nanos(at).to_string()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
