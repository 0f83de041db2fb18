//! The endpoints that a policy can name: Ollama's, by their literal paths.
//!
//! Owns: the list. What pulls, pushes, creates, deletes, signs in or reaches out has no name here, so no policy can allow it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text names no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no endpoint that a policy can name")]
pub struct UnknownEndpoint;

macro_rules! endpoints {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        /// An endpoint that a policy can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Endpoint {
            $($(#[$doc])* #[serde(rename = $path)] $name,)*
        }

        impl Endpoint {
            /// Every endpoint.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its literal path; `:model` stands for the name of a model.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }
        }
    };
}

endpoints! {
    /// Completes a prompt.
    Generate = "/api/generate";
    /// Continues a conversation.
    Chat = "/api/chat";
    /// Makes vectors of texts.
    Embed = "/api/embed";
    /// Makes a vector of a text; the older form.
    Embeddings = "/api/embeddings";
    /// Shows a model.
    Show = "/api/show";
    /// Lists the models that are there.
    Tags = "/api/tags";
    /// Lists the models that are loaded.
    Ps = "/api/ps";
    /// OpenAI's conversation.
    OpenAiChat = "/v1/chat/completions";
    /// OpenAI's completion of a prompt.
    OpenAiCompletions = "/v1/completions";
    /// OpenAI's vectors.
    OpenAiEmbeddings = "/v1/embeddings";
    /// OpenAI's newer conversation.
    OpenAiResponses = "/v1/responses";
    /// OpenAI's list of models.
    OpenAiModels = "/v1/models";
    /// OpenAI's view of one model.
    OpenAiModel = "/v1/models/:model";
    /// Anthropic's conversation.
    AnthropicMessages = "/v1/messages";
}

impl FromStr for Endpoint {
    type Err = UnknownEndpoint;

    fn from_str(text: &str) -> Result<Self, UnknownEndpoint> {
        Self::ALL
            .iter()
            .copied()
            .find(|endpoint| endpoint.path() == text)
            .ok_or(UnknownEndpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_and_nothing_else_is_one() {
        for endpoint in Endpoint::ALL {
            assert_eq!(endpoint.path().parse(), Ok(*endpoint));
            let json = serde_json::to_string(endpoint).unwrap();
            assert_eq!(json, format!("\"{endpoint}\""));
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), *endpoint);
        }
        for other in [
            "/api/pull",
            "chat",
            "/api/chat/",
            "/API/chat",
            "*",
            "",
            "/v1/audio/transcriptions",
        ] {
            assert_eq!(other.parse::<Endpoint>(), Err(UnknownEndpoint), "{other}");
        }
    }
}
