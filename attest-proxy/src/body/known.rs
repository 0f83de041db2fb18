//! The keys that Ollama's decoders know, and which keys would be read as one of them.
//!
//! Owns: the list, and Go's case folding (`encoding/json` folds ASCII case, and U+017F and U+212A, which fold to
//! `s` and `k`). A key missing from the list is not refused in another case; the model's name is always on it.

/// Keys of the request structures of `/api/*` and `/v1/*`, at the levels that decode into structures. Sorted.
const KNOWN: [&str; 147] = [
    "_debug_render_only",
    "adapters",
    "arguments",
    "aspect_ratio",
    "background",
    "budget_tokens",
    "cache_control",
    "call_id",
    "citations",
    "cited_text",
    "content",
    "context",
    "conversation",
    "data",
    "description",
    "detail",
    "dimensions",
    "disable_parallel_tool_use",
    "done",
    "draft",
    "echo",
    "effort",
    "encoding_format",
    "encrypted_content",
    "encrypted_index",
    "enum",
    "f16_kv",
    "file_data",
    "file_id",
    "file_url",
    "filename",
    "files",
    "format",
    "frequency_penalty",
    "from",
    "function",
    "generate_summary",
    "height",
    "id",
    "image_url",
    "images",
    "include",
    "include_usage",
    "index",
    "input",
    "input_schema",
    "insecure",
    "instructions",
    "is_error",
    "items",
    "json_schema",
    "keep_alive",
    "license",
    "logit_bias",
    "logits_all",
    "logprobs",
    "low_vram",
    "main_gpu",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tool_calls",
    "max_uses",
    "media_type",
    "messages",
    "metadata",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "model",
    "modelfile",
    "n",
    "name",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_predict",
    "num_thread",
    "numa",
    "options",
    "output",
    "output_config",
    "parallel_tool_calls",
    "parameters",
    "path",
    "penalize_newline",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "properties",
    "quantize",
    "raw",
    "reasoning",
    "reasoning_content",
    "reasoning_effort",
    "remote_host",
    "repeat_last_n",
    "repeat_penalty",
    "required",
    "response_format",
    "role",
    "schema",
    "seed",
    "service_tier",
    "shift",
    "signature",
    "source",
    "steps",
    "stop",
    "stop_sequences",
    "store",
    "stream",
    "stream_options",
    "strict",
    "suffix",
    "summary",
    "system",
    "temperature",
    "template",
    "text",
    "tfs_z",
    "think",
    "thinking",
    "title",
    "tool_call_id",
    "tool_calls",
    "tool_choice",
    "tool_name",
    "tool_use_id",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "truncate",
    "truncation",
    "type",
    "typical_p",
    "url",
    "use_mlock",
    "use_mmap",
    "user",
    "user_id",
    "verbose",
    "vocab_only",
    "width",
];

/// Whether a key is not one of the known keys and would be read as one.
pub(super) fn is_twin(key: &str) -> bool {
    // As nearly every key is: what has nothing to fold equals nothing but itself.
    let plain = key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_' | b'0'..=b'9'));
    if plain || key.len() > 64 {
        return false;
    }
    let folded: String = key.chars().map(fold).collect();
    KNOWN.binary_search(&folded.as_str()).is_ok()
}

/// Whether names inside this key's value mean nothing to Ollama: it keeps the value as it is, or reads it as a JSON schema.
#[inline]
pub(super) fn is_opaque(key: &str) -> bool {
    matches!(
        key,
        "arguments"
            | "format"
            | "input_schema"
            | "json_schema"
            | "logit_bias"
            | "metadata"
            | "parameters"
            | "schema"
    )
}

fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.iter().all(|k| !is_twin(k)));
    }

    #[test]
    fn twins_differ_by_case_alone() {
        for twin in [
            "Model",
            "MODEL",
            "\u{17f}tream",
            "\u{212a}eep_alive",
            "ſyſtem",
            "Keep_Alive",
        ] {
            assert!(is_twin(twin), "{twin}");
        }
        for other in ["model", "x", "X", "Mødel", "models", "modeltypes"] {
            assert!(!is_twin(other), "{other}");
        }
        assert!(!is_twin(&"M".repeat(100)));
    }
}
