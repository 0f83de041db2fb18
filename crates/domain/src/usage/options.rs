//! Which options of a request a device may set, and how far.
//!
//! Owns: the clamps, and the names of what can be refused. What a clamp does to a request is the proxy's.

use std::{collections::BTreeSet, fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// The longest time that a policy can let a model stay loaded: 7 days.
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a range of `keep_alive` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeepAlive {
    /// Zero, with a fraction of a second, or longer than [`KEEP_ALIVE_MAX`].
    #[error("a model stays loaded for 1 second to 7 days, in whole seconds")]
    OutOfBounds,
    /// The least is more than the most.
    #[error("the least keep-alive is longer than the longest")]
    Reversed,
}

/// A time of `keep_alive` in whole seconds.
///
/// # Errors
/// [`InvalidKeepAlive::OutOfBounds`].
pub fn keep_alive_seconds(time: Duration) -> Result<NonZeroU32, InvalidKeepAlive> {
    u32::try_from(time.as_secs())
        .ok()
        .and_then(NonZeroU32::new)
        .filter(|_| time.subsec_nanos() == 0 && time <= KEEP_ALIVE_MAX)
        .ok_or(InvalidKeepAlive::OutOfBounds)
}

/// How long a request may ask a model to stay loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAliveRange {
    min: Option<NonZeroU32>,
    max: Option<NonZeroU32>,
}

impl KeepAliveRange {
    /// From the shortest and the longest time, in seconds.
    ///
    /// # Errors
    /// [`InvalidKeepAlive`].
    pub fn new(min: Option<NonZeroU32>, max: Option<NonZeroU32>) -> Result<Self, InvalidKeepAlive> {
        let most = KEEP_ALIVE_MAX.as_secs();
        if [min, max].iter().flatten().any(|end| u64::from(end.get()) > most) {
            return Err(InvalidKeepAlive::OutOfBounds);
        }
        match (min, max) {
            (Some(min), Some(max)) if min > max => Err(InvalidKeepAlive::Reversed),
            _ => Ok(Self { min, max }),
        }
    }

    /// The shortest time, in seconds: less, so also 0, which unloads the model at once, becomes this.
    #[must_use]
    pub const fn min(&self) -> Option<NonZeroU32> {
        self.min
    }

    /// The longest time, in seconds: more, so also a negative time, which keeps the model for ever, becomes this.
    #[must_use]
    pub const fn max(&self) -> Option<NonZeroU32> {
        self.max
    }
}

/// Why a text names nothing that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no part of a request that a policy can refuse")]
pub struct UnknownPart;

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// A part of a request that a policy can refuse, under whatever key each API has it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Part {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Part {
            /// Every part.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in a policy.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

parts! {
    /// `raw`: a prompt without the model's template around it.
    Raw = "raw";
    /// A system prompt in place of the model's: `system`, `instructions`, messages of roles other than user, assistant and tool.
    System = "system";
    /// A template in place of the model's.
    Template = "template";
    /// `suffix`: text behind the answer.
    Suffix = "suffix";
    /// `context`: tokens of an earlier answer, which can be any tokens.
    Context = "context";
    /// Images, wherever they are in the request.
    Images = "images";
    /// Tools, their calls and their results.
    Tools = "tools";
    /// The form of the answer: `format`, `response_format`, `text.format`.
    Format = "format";
    /// Thinking before the answer: `think`, `reasoning`, `reasoning_effort`, `thinking`, `output_config`.
    Think = "think";
    /// Probabilities of tokens.
    Logprobs = "logprobs";
    /// How the model is loaded: `num_ctx`, `num_batch`, `num_gpu`, `main_gpu`, `num_thread`, `use_mmap` and their like. Any
    /// change of one loads the model anew, for all devices.
    Runner = "runner";
    /// `keep_alive`.
    KeepAlive = "keep-alive";
}

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, UnknownPart> {
        Self::ALL
            .iter()
            .copied()
            .find(|part| part.word() == text)
            .ok_or(UnknownPart)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Which options a device may set, and how far. The default lets everything pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct OptionRules {
    /// How long a request may ask a model to stay loaded.
    pub keep_alive: KeepAliveRange,
    /// The largest context, in tokens, that a request may ask for; more becomes this.
    pub max_num_ctx: Option<NonZeroU32>,
    /// The longest answer, in tokens; more, without end, or nothing said, becomes this.
    pub max_num_predict: Option<NonZeroU32>,
    /// What a request must not have in it.
    pub refuse: BTreeSet<Part>,
}

impl OptionRules {
    /// Whether everything passes.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a part is refused.
    #[must_use]
    pub fn refuses(&self, part: Part) -> bool {
        self.refuse.contains(&part)
    }
}

/// The rules as a record has them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_keep_alive: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_keep_alive: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_num_ctx: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_num_predict: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    refuse: BTreeSet<Part>,
}

impl TryFrom<Raw> for OptionRules {
    type Error = InvalidKeepAlive;

    fn try_from(raw: Raw) -> Result<Self, InvalidKeepAlive> {
        Ok(Self {
            keep_alive: KeepAliveRange::new(raw.min_keep_alive, raw.max_keep_alive)?,
            max_num_ctx: raw.max_num_ctx,
            max_num_predict: raw.max_num_predict,
            refuse: raw.refuse,
        })
    }
}

impl From<OptionRules> for Raw {
    fn from(rules: OptionRules) -> Self {
        Self {
            min_keep_alive: rules.keep_alive.min,
            max_keep_alive: rules.keep_alive.max,
            max_num_ctx: rules.max_num_ctx,
            max_num_predict: rules.max_num_predict,
            refuse: rules.refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<OptionRules, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn rules_that_are_refused() {
        for (json, why) in [
            (r#"{"max_keep_alive":0}"#, "nonzero"),
            (r#"{"max_keep_alive":604801}"#, "7 days"),
            (r#"{"min_keep_alive":604801}"#, "7 days"),
            (r#"{"min_keep_alive":61,"max_keep_alive":60}"#, "longer than"),
            (r#"{"max_num_ctx":0}"#, "nonzero"),
            (r#"{"max_num_predict":-1}"#, "nonzero"),
            (r#"{"max_num_predict":4294967296}"#, "4294967296"),
            (r#"{"refuse":["Raw"]}"#, "unknown variant"),
            (r#"{"max_tokens":1}"#, "unknown field"),
        ] {
            let wrong = read(json).unwrap_err().to_string();
            assert!(wrong.contains(why), "{json}: {wrong}");
        }
        assert_eq!(
            keep_alive_seconds(Duration::from_millis(1500)),
            Err(InvalidKeepAlive::OutOfBounds)
        );
        assert_eq!(
            keep_alive_seconds(Duration::ZERO),
            Err(InvalidKeepAlive::OutOfBounds)
        );
        assert_eq!(keep_alive_seconds(KEEP_ALIVE_MAX).unwrap().get(), 604_800);
    }

    #[test]
    fn rules_read_back() {
        assert!(read("{}").unwrap().is_none());
        let json = r#"{"min_keep_alive":60,"max_keep_alive":600,"max_num_ctx":8192,"max_num_predict":512,"refuse":["raw","system"]}"#;
        let rules = read(json).unwrap();
        assert!(rules.refuses(Part::Raw) && !rules.refuses(Part::Images) && !rules.is_none());
        assert_eq!(serde_json::to_string(&rules).unwrap(), json);
        for part in Part::ALL {
            assert_eq!(part.word().parse(), Ok(*part));
        }
        assert_eq!("stream".parse::<Part>(), Err(UnknownPart));
    }
}
