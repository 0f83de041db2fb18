//! The audience: which service a quote is meant for, so that one made for another service is worth nothing.
//!
//! Owns: its grammar, 1 to 255 visible ASCII characters, normally the service's origin (`https://llm.example`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest audience, in bytes.
pub const MAX_LEN: usize = 255;

/// Why a text is not an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an audience is 1 to {MAX_LEN} visible ASCII characters")]
pub struct InvalidAudience;

/// The service that a quote is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(Box<str>);

impl Audience {
    /// The audience's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = InvalidAudience;

    fn from_str(text: &str) -> Result<Self, InvalidAudience> {
        let fits = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAudience)
        }
    }
}

impl TryFrom<String> for Audience {
    type Error = InvalidAudience;

    fn try_from(text: String) -> Result<Self, InvalidAudience> {
        text.parse()
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> String {
        audience.0.into()
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        assert!("https://llm.example:8443".parse::<Audience>().is_ok());
        for bad in ["", "a b", "a\n", "zug-für-alle", &"x".repeat(256)] {
            assert_eq!(bad.parse::<Audience>(), Err(InvalidAudience));
        }
    }
}
