//! What an engine is asked and what it gives back, whichever engine it is.
//!
//! Owns: the words between the HTTP side and the model. Refuses: to know HTTP. What an attacker controls: every field of [`Ask`].

use std::time::Duration;

/// Something that continues a conversation.
pub(crate) trait Engine: Send {
    /// Says the answer piece by piece into `emit`, which returns false when nobody listens any more: then stop at once.
    fn answer(&mut self, ask: &Ask, emit: &mut dyn FnMut(&str) -> bool) -> Result<Finish, EngineError>;
}

/// One request, whichever route it came by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    /// What is to be continued.
    pub(crate) prompt: Prompt,
    /// At most so many tokens.
    pub(crate) limit: usize,
    /// How the next token is picked.
    pub(crate) sampling: Sampling,
}

/// The text before the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Turns of a conversation; the engine puts them into its model's template.
    Turns(Vec<Turn>),
    /// Text that goes to the model as it is (Ollama's `raw`).
    Raw(String),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The role's name in ChatML.
    #[cfg_attr(
        not(feature = "smollm2"),
        expect(dead_code, reason = "only a real model has a template")
    )]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// How the next token is picked. Zero temperature always takes the likeliest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) seed: u64,
}

/// How an answer ended, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finish {
    pub(crate) reason: Reason,
    /// Tokens that were read, and how long that took.
    pub(crate) prompt_tokens: usize,
    pub(crate) prompt_time: Duration,
    /// Tokens that were said, and how long that took.
    pub(crate) tokens: usize,
    pub(crate) time: Duration,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model had said all.
    Stop,
    /// The limit was reached.
    Length,
}

impl Reason {
    /// Ollama's and OpenAI's common word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Why an engine cannot start or cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[cfg_attr(
        feature = "smollm2",
        expect(dead_code, reason = "only a build without the model says so")
    )]
    #[error("this build has no model in it; build with `--features smollm2`, or use --scripted")]
    NotBuiltIn,
    #[cfg_attr(
        not(feature = "smollm2"),
        expect(dead_code, reason = "only a real model has a context")
    )]
    #[error("the prompt has {tokens} tokens, and the model's context holds {context}")]
    PromptTooLong { tokens: usize, context: usize },
    #[cfg_attr(
        not(feature = "smollm2"),
        expect(dead_code, reason = "only a real model is read from a file")
    )]
    #[error("cannot load the weights from {path}: {why}")]
    Weights { path: String, why: String },
    #[cfg_attr(
        not(feature = "smollm2"),
        expect(dead_code, reason = "only a real model computes")
    )]
    #[error("the model failed: {0}")]
    Model(String),
    #[error("cannot start the model's thread: {0}")]
    Thread(std::io::Error),
}
