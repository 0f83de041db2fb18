//! Where in a request a value stands, as far as Ollama or a policy makes a difference.

use super::known;

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The whole body.
    Root,
    /// The value of `options`.
    Options,
    /// The value of `messages` or `input`.
    Messages,
    /// One of them.
    Message,
    /// Somewhere in one of them.
    Within,
    /// The value of `tools`.
    Tools,
    /// One of them.
    Tool,
    /// Where keys mean something to Ollama, and nothing to a policy.
    Plain,
    /// Where keys mean nothing to Ollama.
    Opaque,
}

impl Place {
    /// Where the items of a list stand.
    pub(super) const fn item(self) -> Self {
        match self {
            Self::Messages => Self::Message,
            Self::Tools => Self::Tool,
            Self::Message => Self::Within,
            Self::Tool | Self::Options | Self::Root => Self::Plain,
            Self::Within | Self::Plain | Self::Opaque => self,
        }
    }

    /// Where the value of a key stands, when the key is no field of the top level.
    #[inline(always)]
    pub(super) fn below(self, key: &str) -> Self {
        let opaque = known::is_opaque(key);
        match self {
            Self::Opaque => Self::Opaque,
            _ if opaque => Self::Opaque,
            // The arguments of a call, in Anthropic's words.
            Self::Message | Self::Messages | Self::Within if key == "input" => Self::Opaque,
            Self::Message | Self::Messages | Self::Within => Self::Within,
            Self::Root | Self::Options | Self::Tools | Self::Tool | Self::Plain => Self::Plain,
        }
    }

    /// Nothing but an object is a body, and nothing but objects are messages and tools.
    pub(super) const fn wants_an_object(self) -> bool {
        matches!(self, Self::Root | Self::Message | Self::Tool)
    }
}
