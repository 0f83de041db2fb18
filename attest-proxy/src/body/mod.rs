//! The body policy: strict JSON in, our own serialisation out.
//!
//! Owns: what of a client's body may reach the upstream. Ollama is written in Go, whose JSON matching ignores case and
//! takes the last of two equal keys: `{"model":"allowed","MODEL":"denied"}` runs the denied model. So duplicate keys,
//! keys that equal a known key only after case folding, and trailing data are refused, and what is forwarded is what
//! was understood here, in our own serialisation and the order in which it came: without keys that Ollama does not know today,
//! with the policy's clamps applied. A body that is all that already is forwarded as it came, without a copy.
//! Refuses: a body that names no model, or one that the device's policy has not; parts that the policy refuses; and for every
//! device, what would show a model's own prompt or reach out.
//! An attacker controls every byte; nesting is bounded by the reader (128), memory by the body's own size.
//! Limits today: of parts within messages, those are judged that Ollama reads; a prompt is text to every policy.

mod duration;
mod error;
mod fields;
mod keys;
mod known;
mod number;
mod place;
mod reader;
mod rewrite;
mod rules;
mod seen;
#[cfg(test)]
mod tests;
mod text;
mod verdicts;
mod written;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use domain::ModelPattern;
use registry::PolicyRecord;

pub use self::error::BodyError;
use crate::routes::{Class, Forward};

/// A body that may go upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What to forward.
    pub bytes: Bytes,
    /// The model that the request names, if it is of a class that names one.
    pub model: Option<Arc<str>>,
}

/// Judges the body of a request, or the model in its `path`, by a policy.
///
/// # Errors
/// [`BodyError`]; nothing of the body is forwarded then.
pub fn judge(to: Forward, path: &str, body: &Bytes, policy: &PolicyRecord) -> Result<Judged, BodyError> {
    let (bytes, model) = match (to.class, to.endpoint) {
        // The head checks have refused a body here already; whatever came, nothing goes on.
        (Class::Plain | Class::List, _) | (_, None) => {
            return Ok(Judged {
                bytes: Bytes::new(),
                model: None,
            });
        }
        (Class::One, _) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            if name.parse::<ModelPattern>().is_err() {
                return Err(BodyError::Model(name.chars().take(128).collect()));
            }
            (Bytes::new(), Cow::Borrowed(name))
        }
        (Class::Show | Class::Inference, Some(endpoint)) => {
            let rewritten = rewrite::rewrite(endpoint, body, &policy.options)?;
            // Older clients of /api/show call it `name`. Ollama takes `model` first; two of them are two meanings.
            let model = match (rewritten.model, rewritten.name) {
                (Some(_), Some(_)) => return Err(BodyError::Json("both `model` and `name`".into())),
                (Some(model), None) | (None, Some(model)) => model,
                (None, None) => return Err(BodyError::NoModel),
            };
            let bytes = match rewritten.bytes {
                Cow::Borrowed(_) => body.clone(),
                Cow::Owned(anew) => anew.into(),
            };
            (bytes, model)
        }
    };
    if policy.allows_model(&model) {
        Ok(Judged {
            bytes,
            model: Some(Arc::from(&*model)),
        })
    } else {
        // At most so much of it goes into a log.
        Err(BodyError::Model(model.chars().take(128).collect()))
    }
}

/// The one model that an answer may be about, where it is made of a list.
#[must_use]
pub fn asked_for(to: Forward, judged: &Judged) -> Option<ModelPattern> {
    match to.class {
        Class::One => judged.model.as_deref()?.parse().ok(),
        Class::Plain | Class::List | Class::Show | Class::Inference => None,
    }
}
