//! The keys that each endpoint's request has, and what each of them means to a policy.
//!
//! Owns: the tables (Ollama's `api/types.go`, `openai/`, `anthropic/`). A key that is not in its endpoint's table does not
//! travel: the Ollama of today does not read it, and one of tomorrow might do with it what no policy here has thought of.
//! One word of care: a key that is missing here is silently without effect; add it when Ollama learns it.

use domain::{Endpoint, Part};

/// What a key of the top level means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// The model's name.
    Model,
    /// The model's name as older clients have it.
    Name,
    /// Whether the answer is a stream.
    Stream,
    /// Messages, or what else has roles and parts in it.
    Messages,
    /// [`Part::Tools`], looked into.
    Tools,
    /// Ollama's `options`.
    Options,
    /// How long the model stays loaded.
    KeepAlive,
    /// The longest answer, where this endpoint reads it.
    Cap,
    /// The longest answer under a name that Ollama does not read (0.32), or not yet.
    CapAlias,
    /// Something that a policy may refuse.
    Part(Part),
    /// Something that no policy looks at.
    Free,
    /// Never for a device.
    Never,
}

use Field::{Cap, CapAlias, Free, KeepAlive, Messages, Model, Name, Never, Options, Stream, Tools};

type Table = &'static [(&'static str, Field)];

/// Renders the prompt instead of running it, and so tells the model's own system prompt and template.
const DEBUG: (&str, Field) = ("_debug_render_only", Never);

const GENERATE: Table = &[
    DEBUG,
    ("context", Field::Part(Part::Context)),
    ("format", Field::Part(Part::Format)),
    ("height", Free),
    ("images", Field::Part(Part::Images)),
    ("keep_alive", KeepAlive),
    ("logprobs", Field::Part(Part::Logprobs)),
    ("model", Model),
    ("options", Options),
    ("prompt", Free),
    ("raw", Field::Part(Part::Raw)),
    ("shift", Free),
    ("steps", Free),
    ("stream", Stream),
    ("suffix", Field::Part(Part::Suffix)),
    ("system", Field::Part(Part::System)),
    ("template", Field::Part(Part::Template)),
    ("think", Field::Part(Part::Think)),
    ("top_logprobs", Field::Part(Part::Logprobs)),
    ("truncate", Free),
    ("width", Free),
];

const CHAT: Table = &[
    DEBUG,
    ("format", Field::Part(Part::Format)),
    ("keep_alive", KeepAlive),
    ("logprobs", Field::Part(Part::Logprobs)),
    ("messages", Messages),
    ("model", Model),
    ("options", Options),
    ("shift", Free),
    ("stream", Stream),
    ("think", Field::Part(Part::Think)),
    ("tools", Tools),
    ("top_logprobs", Field::Part(Part::Logprobs)),
    ("truncate", Free),
];

const EMBED: Table = &[
    ("dimensions", Free),
    ("input", Free),
    ("keep_alive", KeepAlive),
    ("model", Model),
    ("options", Options),
    ("truncate", Free),
];

const EMBEDDINGS: Table = &[
    ("keep_alive", KeepAlive),
    ("model", Model),
    ("options", Options),
    ("prompt", Free),
];

const SHOW: Table = &[("model", Model), ("name", Name), ("verbose", Free)];

const OPENAI_CHAT: Table = &[
    DEBUG,
    ("frequency_penalty", Free),
    ("logprobs", Field::Part(Part::Logprobs)),
    ("max_completion_tokens", CapAlias),
    ("max_tokens", Cap),
    ("messages", Messages),
    ("model", Model),
    ("presence_penalty", Free),
    ("reasoning", Field::Part(Part::Think)),
    ("reasoning_effort", Field::Part(Part::Think)),
    ("response_format", Field::Part(Part::Format)),
    ("seed", Free),
    ("stop", Free),
    ("stream", Stream),
    ("stream_options", Free),
    ("temperature", Free),
    ("tool_choice", Free),
    ("tools", Tools),
    ("top_logprobs", Field::Part(Part::Logprobs)),
    ("top_p", Free),
];

const OPENAI_COMPLETIONS: Table = &[
    DEBUG,
    ("echo", Free),
    ("frequency_penalty", Free),
    ("logprobs", Field::Part(Part::Logprobs)),
    ("max_completion_tokens", CapAlias),
    ("max_tokens", Cap),
    ("model", Model),
    ("presence_penalty", Free),
    ("prompt", Free),
    ("seed", Free),
    ("stop", Free),
    ("stream", Stream),
    ("stream_options", Free),
    ("suffix", Field::Part(Part::Suffix)),
    ("temperature", Free),
    ("top_p", Free),
];

const OPENAI_EMBEDDINGS: Table = &[
    ("dimensions", Free),
    ("encoding_format", Free),
    ("input", Free),
    ("model", Model),
];

const RESPONSES: Table = &[
    ("background", Free),
    ("conversation", Free),
    ("include", Free),
    ("input", Messages),
    ("instructions", Field::Part(Part::System)),
    ("max_output_tokens", Cap),
    ("model", Model),
    ("reasoning", Field::Part(Part::Think)),
    ("stream", Stream),
    ("temperature", Free),
    ("text", Field::Part(Part::Format)),
    ("tool_choice", Free),
    ("tools", Tools),
    ("top_p", Free),
    ("truncation", Free),
];

const MESSAGES: Table = &[
    ("max_tokens", Cap),
    ("messages", Messages),
    ("metadata", Free),
    ("model", Model),
    ("output_config", Field::Part(Part::Think)),
    ("stop_sequences", Free),
    ("stream", Stream),
    ("system", Field::Part(Part::System)),
    ("temperature", Free),
    ("thinking", Field::Part(Part::Think)),
    ("tool_choice", Free),
    ("tools", Tools),
    ("top_k", Free),
    ("top_p", Free),
];

/// What a key of an endpoint's request means; `None`: it does not travel.
pub(super) fn find(endpoint: Endpoint, key: &str) -> Option<Field> {
    table(endpoint)
        .iter()
        .find_map(|(name, field)| (*name == key).then_some(*field))
}

/// The key by which an endpoint bounds the answer, if it is one of the top level.
pub(super) fn cap(endpoint: Endpoint) -> Option<&'static str> {
    table(endpoint)
        .iter()
        .find_map(|(name, field)| (*field == Cap).then_some(*name))
}

const fn table(endpoint: Endpoint) -> Table {
    match endpoint {
        Endpoint::Generate => GENERATE,
        Endpoint::Chat => CHAT,
        Endpoint::Embed => EMBED,
        Endpoint::Embeddings => EMBEDDINGS,
        Endpoint::Show => SHOW,
        Endpoint::OpenAiChat => OPENAI_CHAT,
        Endpoint::OpenAiCompletions => OPENAI_COMPLETIONS,
        Endpoint::OpenAiEmbeddings => OPENAI_EMBEDDINGS,
        Endpoint::OpenAiResponses => RESPONSES,
        Endpoint::AnthropicMessages => MESSAGES,
        Endpoint::Tags | Endpoint::Ps | Endpoint::OpenAiModels | Endpoint::OpenAiModel => &[],
    }
}

/// What an option of Ollama's `options` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// The size of the context.
    NumCtx,
    /// The longest answer.
    NumPredict,
    /// How the model is loaded.
    Runner,
    /// How tokens are chosen.
    Sampling,
}

/// What an option means; `None`: it does not travel.
pub(super) fn setting(key: &str) -> Option<Setting> {
    match key {
        "num_ctx" => Some(Setting::NumCtx),
        "num_predict" => Some(Setting::NumPredict),
        "f16_kv" | "low_vram" | "main_gpu" | "num_batch" | "num_gpu" | "num_thread" | "numa"
        | "use_mlock" | "use_mmap" => Some(Setting::Runner),
        "frequency_penalty" | "min_p" | "mirostat" | "mirostat_eta" | "mirostat_tau" | "num_keep"
        | "penalize_newline" | "presence_penalty" | "repeat_last_n" | "repeat_penalty" | "seed" | "stop"
        | "temperature" | "tfs_z" | "top_k" | "top_p" | "typical_p" => Some(Setting::Sampling),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::known;

    #[test]
    fn every_key_is_guarded_against_its_twins() {
        for endpoint in Endpoint::ALL {
            for (key, _) in table(*endpoint) {
                assert!(known::is_twin(&key.to_ascii_uppercase()), "{key}");
            }
        }
    }

    #[test]
    fn what_writes_an_answer_has_a_bound_for_it() {
        assert_eq!(cap(Endpoint::OpenAiResponses), Some("max_output_tokens"));
        assert_eq!(cap(Endpoint::AnthropicMessages), Some("max_tokens"));
        assert_eq!(cap(Endpoint::Chat), None, "it has options");
        assert_eq!(find(Endpoint::Chat, "remote_host"), None);
    }
}
