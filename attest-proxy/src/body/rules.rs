//! A policy's rules on options, applied to values as they were read.
//!
//! Owns: what each clamp and each refusal means for a value. Says what to write instead; writes nothing.
//! An attacker controls the values; whatever Go might read in two ways is taken for the worse one.

use std::num::NonZeroU32;

use domain::{OptionRules, Part};

use super::{BodyError, duration, fields::Setting, number::Number, seen::Seen};

/// What becomes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it was written.
    Stays,
    /// This JSON is written instead.
    Becomes(String),
    /// It goes, with its key.
    Goes,
}

/// The longest time in seconds that Go's nanoseconds hold.
const GO_MAX_SECONDS: f64 = 9_000_000_000.0;

/// `keep_alive`.
pub(super) fn keep_alive(rules: &OptionRules, seen: &Seen<'_>) -> Result<Fate, BodyError> {
    refuse(rules, Part::KeepAlive, "keep_alive", !matches!(seen, Seen::Null))?;
    let range = rules.keep_alive;
    if (range.min(), range.max()) == (None, None) {
        return Ok(Fate::Stays);
    }
    // Seconds; infinite is for ever.
    let (up_to, at_least) = match seen {
        Seen::Null => return Ok(Fate::Stays),
        Seen::Number(number) => {
            let seconds = seconds(*number);
            // A newer Ollama keeps the fraction, an older one cuts it off.
            (seconds, seconds.trunc())
        }
        Seen::Text(text) => {
            let nanoseconds = duration::parse(&text.get()).ok_or(BodyError::Unreadable("keep_alive"))?;
            let exact = whole(nanoseconds);
            (exact, exact)
        }
        _ => return Err(BodyError::Unreadable("keep_alive")),
    };
    let becomes = |seconds: NonZeroU32| Ok(Fate::Becomes(format!("\"{seconds}s\"")));
    match (range.min(), range.max()) {
        (_, Some(max)) if up_to > f64::from(max.get()) => becomes(max),
        (Some(min), _) if at_least < f64::from(min.get()) => becomes(min),
        // What Go's nanoseconds do not hold wraps around to anything.
        (_, None) if up_to.is_finite() && up_to > GO_MAX_SECONDS => Err(BodyError::Unreadable("keep_alive")),
        _ => Ok(Fate::Stays),
    }
}

/// A negative one keeps the model for ever.
fn seconds(number: Number) -> f64 {
    let seconds = match number {
        Number::Signed(n) => to_float(n),
        Number::Unsigned(n) => i64::try_from(n).map_or(GO_MAX_SECONDS * 2.0, to_float),
        Number::Float(n) => n,
    };
    if seconds < 0.0 { f64::INFINITY } else { seconds }
}

fn whole(nanoseconds: i64) -> f64 {
    if nanoseconds < 0 {
        f64::INFINITY
    } else {
        to_float(nanoseconds) / 1e9
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "compared with bounds of at most 20 bits"
)]
const fn to_float(n: i64) -> f64 {
    n as f64
}

/// One of Ollama's `options`.
pub(super) fn setting(rules: &OptionRules, setting: Setting, seen: &Seen<'_>) -> Result<Fate, BodyError> {
    match setting {
        Setting::Sampling => Ok(Fate::Stays),
        Setting::Runner => {
            refuse(rules, Part::Runner, "options", !matches!(seen, Seen::Null))?;
            Ok(Fate::Stays)
        }
        Setting::NumCtx => {
            refuse(
                rules,
                Part::Runner,
                "options.num_ctx",
                !matches!(seen, Seen::Null),
            )?;
            match (rules.max_num_ctx, seen) {
                (None, _) | (_, Seen::Null) => Ok(Fate::Stays),
                (Some(max), Seen::Number(number)) if number.exceeds(max.get()) => {
                    Ok(Fate::Becomes(max.to_string()))
                }
                (Some(_), Seen::Number(_)) => Ok(Fate::Stays),
                (Some(_), _) => Err(BodyError::Unreadable("num_ctx")),
            }
        }
        Setting::NumPredict => cap(rules.max_num_predict, seen, "num_predict"),
    }
}

/// The longest answer: what is more, or without end, becomes the policy's.
pub(super) fn cap(max: Option<NonZeroU32>, seen: &Seen<'_>, key: &'static str) -> Result<Fate, BodyError> {
    match (max, seen) {
        (None, _) => Ok(Fate::Stays),
        // As if it were absent: filled in at the end.
        (Some(_), Seen::Null) => Ok(Fate::Goes),
        // 0 and less are no bound for Ollama, nor is what Go cuts down to 0.
        (Some(max), Seen::Number(number)) if number.exceeds(max.get()) || number.falls_short(1) => {
            Ok(Fate::Becomes(max.to_string()))
        }
        (Some(_), Seen::Number(_)) => Ok(Fate::Stays),
        (Some(_), _) => Err(BodyError::Unreadable(key)),
    }
}

/// Refuses a part that is there.
pub(super) fn refuse(
    rules: &OptionRules,
    part: Part,
    key: &'static str,
    is_there: bool,
) -> Result<(), BodyError> {
    if is_there && rules.refuses(part) {
        Err(BodyError::Part { part, key })
    } else {
        Ok(())
    }
}

/// The role of a message. Where a system prompt is refused, only roles that are none pass: a template may well write
/// whatever role there is into the prompt.
pub(super) fn role(rules: &OptionRules, seen: &Seen<'_>) -> Result<(), BodyError> {
    let said = seen.text();
    // As nearly everyone writes them.
    let role = match (said.as_deref(), seen) {
        (Some("user" | "assistant"), _) => return Ok(()),
        (Some("system"), _) => return refuse(rules, Part::System, "role", true),
        (Some(said), _) => said.to_lowercase(),
        (None, Seen::Null) => String::new(),
        (None, Seen::LongText) => "?".to_owned(),
        _ => return Err(BodyError::Type("role")),
    };
    let plain = matches!(role.as_str(), "" | "user" | "assistant" | "tool" | "function");
    refuse(rules, Part::System, "role", !plain)?;
    refuse(
        rules,
        Part::Tools,
        "role",
        matches!(role.as_str(), "tool" | "function"),
    )
}

/// A key of a message, or of something within one.
pub(super) fn within(rules: &OptionRules, key: &str, seen: &Seen<'_>) -> Result<(), BodyError> {
    match key {
        "images" => refuse(rules, Part::Images, "images", !seen.says_nothing()),
        "image_url" => refuse(rules, Part::Images, "image_url", !seen.says_nothing()),
        "tool_calls" => refuse(rules, Part::Tools, "tool_calls", !seen.says_nothing()),
        "type" => match seen.text().as_deref() {
            Some("image" | "image_url" | "input_image") => refuse(rules, Part::Images, "type", true),
            Some(
                "tool_use"
                | "tool_result"
                | "server_tool_use"
                | "web_search_tool_result"
                | "function_call"
                | "function_call_output",
            ) => refuse(rules, Part::Tools, "type", true),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A key of a tool. Ollama itself runs what is called `web_search…`, and asks its cloud for it.
pub(super) fn tool(key: &str, seen: &Seen<'_>) -> Result<(), BodyError> {
    let reaches_out = key == "type" && seen.text().is_some_and(|kind| kind.starts_with("web_search"));
    if reaches_out {
        Err(BodyError::Never(
            "tools of the kind web_search, which the server runs in a cloud",
        ))
    } else {
        Ok(())
    }
}
