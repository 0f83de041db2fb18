//! Embeddings: Ollama's `/api/embed` and `/api/embeddings`, and OpenAI's `/v1/embeddings`.
//!
//! Owns: their shapes, and vectors that mean nothing: each text gets the same short one of its bytes every time, of length 1.
//! Refuses: to look like a model.

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::MODEL;

/// Numbers in a vector.
const DIMENSIONS: usize = 8;

/// Body of all three routes.
#[derive(Deserialize)]
pub(crate) struct Embed {
    pub(crate) model: String,
    #[serde(default, alias = "prompt")]
    input: Input,
    #[serde(default)]
    encoding_format: Encoding,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

impl Default for Input {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Embed {
    fn texts(&self) -> &[String] {
        match &self.input {
            Input::One(text) => std::slice::from_ref(text),
            Input::Many(texts) => texts,
        }
    }

    fn tokens(&self) -> usize {
        self.texts()
            .iter()
            .map(|text| text.split_whitespace().count())
            .sum()
    }

    /// The answer of `/api/embed`.
    pub(crate) fn ollama(&self) -> Value {
        let vectors: Vec<_> = self.texts().iter().map(|text| vector(text)).collect();
        json!({
            "model": MODEL, "embeddings": vectors, "total_duration": 1, "load_duration": 1, "prompt_eval_count": self.tokens(),
        })
    }

    /// The answer of `/api/embeddings`, which knows one text.
    pub(crate) fn old(&self) -> Value {
        json!({"embedding": self.texts().first().map(|text| vector(text)).unwrap_or_default()})
    }

    /// The answer of `/v1/embeddings`.
    pub(crate) fn openai(&self) -> Value {
        let data: Vec<_> = self
            .texts()
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let vector = vector(text);
                let embedding = match self.encoding_format {
                    Encoding::Float => json!(vector),
                    Encoding::Base64 => {
                        let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                        json!(BASE64.encode(&bytes))
                    }
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        let tokens = self.tokens();
        json!({
            "object": "list", "model": MODEL, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })
    }
}

fn vector(text: &str) -> Vec<f32> {
    let mut sums = [1.0_f32; DIMENSIONS];
    for (sum, byte) in (0..DIMENSIONS).cycle().zip(text.bytes()) {
        if let Some(sum) = sums.get_mut(sum) {
            *sum += f32::from(byte);
        }
    }
    let length = sums.iter().map(|n| n * n).sum::<f32>().sqrt();
    sums.iter().map(|n| n / length).collect()
}
