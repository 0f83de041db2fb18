//! The body policy: strict JSON in, our own serialisation out.
//!
//! Owns: what of a client's body may reach the upstream. Ollama is written in Go, whose JSON matching ignores case and
//! takes the last of two equal keys: `{"model":"allowed","MODEL":"denied"}` runs the denied model. So duplicate keys,
//! keys that equal a known key only after case folding, and trailing data are refused, and what is forwarded is what
//! was understood here, serialised again in the order in which it came.
//! Refuses: a body that names no model, or one that the device's policy has not.
//! An attacker controls every byte; nesting is bounded by the reader (128), memory by the body's own size.
//! Limits today: of a policy, only the model is judged; options pass.

mod known;
mod rewrite;

use domain::ModelPattern;
use protocol::Refusal;

use crate::routes::Class;

/// A body that may go upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What to forward.
    pub bytes: Vec<u8>,
    /// The model that it names, where it has a body.
    pub model: Option<String>,
}

/// Why a body may not go upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON as we read it.
    #[error("the body is not acceptable JSON: {0}")]
    Json(String),
    /// It names no model, or not by a string.
    #[error("the body names no model")]
    NoModel,
    /// A model that the device's policy has not.
    #[error("the policy does not have the model {0:?}")]
    Model(String),
}

impl BodyError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Json(_) | Self::NoModel => Refusal::RequestMalformed,
            Self::Model(_) => Refusal::ModelDenied,
        }
    }
}

/// Judges the body of a request of `class` by a policy's list of models.
///
/// # Errors
/// [`BodyError`]; nothing of the body is forwarded then.
pub fn judge(class: Class, body: &[u8], models: &[ModelPattern]) -> Result<Judged, BodyError> {
    if matches!(class, Class::Plain | Class::List) {
        // The head checks have refused a body here already; whatever came, nothing goes on.
        return Ok(Judged {
            bytes: Vec::new(),
            model: None,
        });
    }
    let rewritten = rewrite::rewrite(body).map_err(|e| BodyError::Json(e.to_string()))?;
    // Older clients of /api/show call it `name`. Ollama takes `model` first; two of them are two meanings.
    let model = match (class, rewritten.model(), rewritten.name()) {
        (Class::Show, Some(_), Some(_)) => return Err(BodyError::Json("both `model` and `name`".into())),
        (Class::Show, None, Some(name)) => name,
        (_, Some(model), _) => model,
        (_, None, _) => return Err(BodyError::NoModel),
    };
    if allows(models, &model) {
        Ok(Judged {
            bytes: rewritten.bytes,
            model: Some(model),
        })
    } else {
        // At most so much of it goes into a log.
        Err(BodyError::Model(model.chars().take(128).collect()))
    }
}

/// Whether a policy's list has a model.
#[must_use]
pub fn allows(models: &[ModelPattern], model: &str) -> bool {
    models.iter().any(|pattern| pattern.allows(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<ModelPattern> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn inference(body: &str) -> Result<Judged, BodyError> {
        judge(Class::Inference, body.as_bytes(), &list(&["smollm2:135m"]))
    }

    #[test]
    fn the_policys_model_passes_in_our_own_serialisation() {
        let judged =
            inference("{ \"model\" : \"smollm2:135m\",\n \"prompt\": \"Gr\\u00fcezi\\n\" }").unwrap();
        assert_eq!(
            judged.bytes,
            "{\"model\":\"smollm2:135m\",\"prompt\":\"Grüezi\\n\"}".as_bytes()
        );
        // Escapes in the name are understood before it is compared.
        assert!(inference("{\"model\":\"smollm2:135\\u006d\"}").is_ok());
    }

    #[test]
    fn other_models_are_denied() {
        for model in ["other", "SMOLLM2:135m", "smollm2:135m ", "smollm2", "*", ""] {
            let error = inference(&format!("{{\"model\":{model:?}}}")).unwrap_err();
            assert_eq!(error.refusal(), Refusal::ModelDenied, "{model}");
        }
        assert_eq!(inference("{}").unwrap_err(), BodyError::NoModel);
        assert_eq!(
            inference("{\"model\":7}").unwrap_err().refusal(),
            Refusal::RequestMalformed
        );
    }

    #[test]
    fn two_meanings_are_refused() {
        for body in [
            r#"{"model":"smollm2:135m","model":"other"}"#,
            r#"{"model":"smollm2:135m","MODEL":"other"}"#,
            r#"{"model":"smollm2:135m","modeL":"other"}"#,
            r#"{"MODEL":"smollm2:135m"}"#,
            r#"{"model":"smollm2:135m","\u006dodel":"other"}"#,
            r#"{"model":"smollm2:135m","ſystem":"x"}"#,
            r#"{"model":"smollm2:135m","\u212Aeep_alive":-1}"#,
            r#"{"model":"smollm2:135m","options":{"num_ctx":1,"num_ctx":2}}"#,
            r#"{"model":"smollm2:135m","options":{"Num_Ctx":2}}"#,
            r#"{"model":"smollm2:135m"}{"model":"other"}"#,
            r#"{"model":"smollm2:135m"} x"#,
            r#"[{"model":"smollm2:135m"}]"#,
            "\"smollm2:135m\"",
            "",
            "{\"model\":\"smollm2:135m\",}",
            "{\"model\":\"smollm2:135m\",\"a\":NaN}",
            "{\"model\":\"smollm2:135m\",\"a\":1e999}",
            "\u{feff}{\"model\":\"smollm2:135m\"}",
        ] {
            assert_eq!(
                inference(body).unwrap_err().refusal(),
                Refusal::RequestMalformed,
                "{body}"
            );
        }
        assert!(
            judge(
                Class::Inference,
                b"{\"model\":\"smollm2:135m\",\"p\":\"\xff\"}",
                &list(&["*"])
            )
            .is_err()
        );
    }

    #[test]
    fn a_star_is_any_model_of_the_house() {
        let any = list(&["*"]);
        assert!(allows(&any, "llama3:8b"));
        // Ollama trims its names and does not mind their case (its `parseSourceSuffix`).
        for cloud in [
            "gpt-oss:120b-cloud",
            "x:cloud",
            "x:CLOUD",
            "x:1b-Cloud",
            "x:cloud ",
            "x: cloud",
            "x:cloud\u{a0}",
            "x:cloud\n",
            "x\u{17f}",
            "",
        ] {
            assert!(!allows(&any, cloud), "{cloud}");
        }
        assert!(allows(&list(&["x:cloud"]), "x:cloud"));
        assert!(!allows(&[], "x"));
    }

    #[test]
    fn show_takes_one_name() {
        let show = |body: &str| judge(Class::Show, body.as_bytes(), &list(&["a"]));
        assert!(show(r#"{"model":"a"}"#).is_ok());
        assert!(show(r#"{"name":"a"}"#).is_ok());
        assert_eq!(
            show(r#"{"name":"b"}"#).unwrap_err().refusal(),
            Refusal::ModelDenied
        );
        assert!(show(r#"{"model":"a","name":"b"}"#).is_err());
    }

    #[test]
    fn a_list_forwards_no_body() {
        assert_eq!(judge(Class::List, b"x", &[]).unwrap().bytes, b"");
    }
}
