//! Identifiers: ASCII `[a-z0-9-]`, 1 to 63 bytes, as the wire contract and DNS labels have them.
//!
//! Owns: the one grammar of every name in a fleet. An attacker controls the text; nothing longer than
//! [`MAX_LEN`] is ever kept.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest identifier, in bytes.
pub const MAX_LEN: usize = 63;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing is there.
    #[error("{kind} is empty")]
    Empty {
        /// What was being parsed, in words.
        kind: &'static str,
    },
    /// Longer than [`MAX_LEN`].
    #[error("{kind} has {len} bytes, at most {MAX_LEN} are allowed")]
    TooLong {
        /// What was being parsed, in words.
        kind: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// A character outside `[a-z0-9-]`.
    #[error("{kind} has {found:?} at byte {at}, only a-z, 0-9 and '-' are allowed")]
    Character {
        /// What was being parsed, in words.
        kind: &'static str,
        /// The first character that is not allowed.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { kind });
    }
    if text.len() > MAX_LEN {
        return Err(InvalidId::TooLong {
            kind,
            len: text.len(),
        });
    }
    match text
        .char_indices()
        .find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
    {
        Some((at, found)) => Err(InvalidId::Character { kind, found, at }),
        None => Ok(()),
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                check($kind, &text).map(|()| Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

identifier!(
    /// One machine with an identity.
    DeviceId, "device id"
);
identifier!(
    /// The devices of one manifest.
    FleetName, "fleet name"
);
identifier!(
    /// What a device must prove and may do.
    PolicyName, "policy name"
);
identifier!(
    /// What kinds of device share: key store, image, volume.
    ProfileName, "profile name"
);
identifier!(
    /// Which fleet root a nonce or token was made under.
    KeyId, "key id"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_grammar_and_nothing_else() {
        for good in ["a", "kiosk-bern-01", "0", "-", &"x".repeat(63)] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let err = |t: &str| t.parse::<DeviceId>().unwrap_err();
        assert_eq!(err(""), InvalidId::Empty { kind: "device id" });
        assert_eq!(
            err(&"x".repeat(64)),
            InvalidId::TooLong {
                kind: "device id",
                len: 64
            }
        );
        assert_eq!(
            err("ab_c"),
            InvalidId::Character {
                kind: "device id",
                found: '_',
                at: 2
            }
        );
        assert_eq!(
            err("Bern"),
            InvalidId::Character {
                kind: "device id",
                found: 'B',
                at: 0
            }
        );
        assert_eq!(
            err("b/../c"),
            InvalidId::Character {
                kind: "device id",
                found: '/',
                at: 1
            }
        );
    }

    #[test]
    fn serde_takes_the_same_grammar() {
        assert!(serde_json::from_str::<FleetName>("\"demo\"").is_ok());
        assert!(serde_json::from_str::<FleetName>("\"Demo\"").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "\\PC{0,70}") {
            if let Ok(id) = text.parse::<PolicyName>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
