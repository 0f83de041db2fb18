//! How much a device may use in a minute, at once, in a day.
//!
//! Owns: the bounds of these numbers. Nothing counts here.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

/// The most requests per minute that a policy can say.
pub const REQUESTS_PER_MINUTE_MAX: u64 = 1_000_000;
/// The most streams at once that a policy can say.
pub const STREAMS_MAX: u64 = 10_000;
/// The most tokens per day that a policy can say.
pub const TOKENS_PER_DAY_MAX: u64 = 1_000_000_000_000;

/// Why a number is not a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a limit of {what} is 1 to {max}")]
pub struct InvalidLimit {
    /// What is limited.
    pub what: &'static str,
    /// The highest limit.
    pub max: u64,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $what:literal, $max:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl TryFrom<u64> for $name {
            type Error = InvalidLimit;

            fn try_from(number: u64) -> Result<Self, InvalidLimit> {
                NonZeroU64::new(number)
                    .filter(|number| number.get() <= $max)
                    .map(Self)
                    .ok_or(InvalidLimit { what: $what, max: $max })
            }
        }

        impl From<$name> for u64 {
            fn from(limit: $name) -> u64 {
                limit.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )* };
}

limits! {
    /// Requests in a minute, 1 to [`REQUESTS_PER_MINUTE_MAX`].
    RequestsPerMinute: "requests per minute", REQUESTS_PER_MINUTE_MAX;
    /// Answers that run at the same time, 1 to [`STREAMS_MAX`].
    Streams: "streams", STREAMS_MAX;
    /// Tokens in a day of UTC, 1 to [`TOKENS_PER_DAY_MAX`].
    TokensPerDay: "tokens per day", TOKENS_PER_DAY_MAX;
}

/// How much a device may use. What is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<RequestsPerMinute>,
    /// Answers that run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
    /// Tokens that models read for the device in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_per_day: Option<TokensPerDay>,
    /// Tokens that models write for the device in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_per_day: Option<TokensPerDay>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_bounds() {
        assert!(RequestsPerMinute::try_from(0).is_err() && RequestsPerMinute::try_from(1_000_001).is_err());
        assert_eq!(Streams::try_from(10_000).unwrap().get(), STREAMS_MAX);
        assert_eq!(
            Streams::try_from(10_001).unwrap_err().to_string(),
            "a limit of streams is 1 to 10000"
        );
        assert!(TokensPerDay::try_from(TOKENS_PER_DAY_MAX + 1).is_err());
    }

    #[test]
    fn what_is_not_said_is_not_limited() {
        let read = |json: &str| serde_json::from_str::<Limits>(json);
        assert!(read("{}").unwrap().is_none());
        assert!(!read(r#"{"streams":2}"#).unwrap().is_none());
        for bad in [
            r#"{"streams":0}"#,
            r#"{"streams":-1}"#,
            r#"{"stream":1}"#,
            r#"{"requests_per_minute":1.5}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
