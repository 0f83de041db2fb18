//! Why a body may not go upstream: for the operator in words, for the client by a code.

use domain::Part;
use protocol::Refusal;

/// Why a body may not go upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON as we read it.
    #[error("the body is not acceptable JSON: {0}")]
    Json(String),
    /// A key that must be understood has a value of another type.
    #[error("`{0}` has a value of another type than it should")]
    Type(&'static str),
    /// It names no model, or not by a string.
    #[error("the body names no model")]
    NoModel,
    /// A model that the device's policy has not.
    #[error("the policy does not have the model {0:?}")]
    Model(String),
    /// A part that the device's policy refuses.
    #[error("the policy refuses {part} ({key})")]
    Part {
        /// What is refused.
        part: Part,
        /// Where it was.
        key: &'static str,
    },
    /// What no device may ask for.
    #[error("no device may use {0}")]
    Never(&'static str),
    /// A value that the policy clamps, and that cannot be read.
    #[error("`{0}` is clamped, and its value cannot be read")]
    Unreadable(&'static str),
}

impl BodyError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Json(_) | Self::Type(_) | Self::NoModel => Refusal::RequestMalformed,
            Self::Model(_) => Refusal::ModelDenied,
            Self::Part { .. } | Self::Never(_) | Self::Unreadable(_) => Refusal::OptionDenied,
        }
    }
}
