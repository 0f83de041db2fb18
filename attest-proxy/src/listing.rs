//! Answers that tell of models, cut down to those that the device may use.
//!
//! Owns: `/api/tags`, `/api/ps` and `/v1/models` (lists), and `/api/show`, out of which the model's prompt and template
//! are taken. Pure. The upstream is trusted; what it says of other models is not for this device.

use domain::ModelPattern;
use serde_json::{Value, json};

use crate::routes::Class;

/// The longest answer that is cut down, in bytes; a longer one is not passed on.
pub const MAX_LEN: usize = 8 << 20;

/// What `/api/show` may tell: what a client needs to use a model. Its prompt, its template, the messages before the first,
/// its Modelfile, and where a remote model runs, stay here, and so does whatever else Ollama will tell one day.
const SHOWN: [&str; 7] = [
    "capabilities",
    "details",
    "license",
    "model_info",
    "modified_at",
    "parameters",
    "projector_info",
];

/// An answer, cut down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The answer's body.
    pub bytes: Vec<u8>,
    /// Whether what was asked for is there; if not, the answer is 404.
    pub found: bool,
}

/// Cuts an answer down. `None`: it is not what such an answer looks like, and nothing of it is passed on.
/// For [`Class::One`], `models` is the one that was asked for.
#[must_use]
pub fn cut(class: Class, answer: &[u8], models: &[ModelPattern]) -> Option<Cut> {
    let mut value: Value = serde_json::from_slice(answer).ok()?;
    let object = value.as_object_mut()?;
    let mut found = true;
    match class {
        Class::List | Class::One => {
            let list = match object.get_mut("models") {
                Some(list) => list,
                None => object.get_mut("data")?,
            };
            // Ollama answers null where there is nothing.
            if !list.is_null() {
                list.as_array_mut()?.retain(|item| may_know(item, models));
            }
            if class == Class::One {
                let one = list.as_array_mut().and_then(Vec::pop);
                found = one.is_some();
                value = one.unwrap_or_else(no_such_model);
            }
        }
        Class::Show => object.retain(|key, _| SHOWN.contains(&key.as_str())),
        Class::Plain | Class::Inference => return None,
    }
    let bytes = serde_json::to_vec(&value).ok()?;
    Some(Cut { bytes, found })
}

/// Whether a policy's models have what an item of a list is about. A model that runs elsewhere under a name of this house
/// is known only to whom its literal name is allowed.
fn may_know(item: &Value, models: &[ModelPattern]) -> bool {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    // Ollama says a model's name twice; two names are two models, and both must be allowed.
    let names: Vec<&str> = ["model", "name", "id"].into_iter().filter_map(text).collect();
    let remote = ["remote_host", "remote_model"]
        .into_iter()
        .any(|key| text(key).is_some_and(|told| !told.is_empty()));
    !names.is_empty()
        && names.iter().all(|name| {
            models
                .iter()
                .any(|pattern| pattern.allows(name) && !(remote && pattern.is_wild()))
        })
}

/// In OpenAI's shape.
fn no_such_model() -> Value {
    json!({ "error": {
        "message": "there is no such model", "type": "invalid_request_error", "param": null, "code": "model_not_found"
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(class: Class, answer: &str, models: &[&str]) -> Option<String> {
        let models: Vec<ModelPattern> = models.iter().map(|m| m.parse().unwrap()).collect();
        cut(class, answer.as_bytes(), &models).map(|cut| String::from_utf8(cut.bytes).unwrap())
    }

    #[test]
    fn lists_show_the_devices_models() {
        let tags = r#"{"models":[{"name":"a","model":"a"},{"name":"b","model":"b"},{"size":1}]}"#;
        assert_eq!(
            cut_text(Class::List, tags, &["b"]).unwrap(),
            r#"{"models":[{"model":"b","name":"b"}]}"#
        );
        assert_eq!(cut_text(Class::List, tags, &["c"]).unwrap(), r#"{"models":[]}"#);
        let openai = r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#;
        assert_eq!(
            cut_text(Class::List, openai, &["a"]).unwrap(),
            r#"{"data":[{"id":"a"}],"object":"list"}"#
        );
        assert_eq!(
            cut_text(Class::List, r#"{"models":null}"#, &["a"]).unwrap(),
            r#"{"models":null}"#
        );
    }

    #[test]
    fn what_runs_elsewhere_is_known_by_its_literal_name() {
        let tags = r#"{"models":[{"name":"a","model":"a","remote_host":"https://cloud"},{"name":"b","model":"b","remote_host":""},{"name":"c","model":"secret"}]}"#;
        assert_eq!(
            cut_text(Class::List, tags, &["?"]).unwrap(),
            r#"{"models":[{"model":"b","name":"b","remote_host":""}]}"#
        );
        assert!(cut_text(Class::List, tags, &["a"]).unwrap().contains("cloud"));
    }

    #[test]
    fn one_model_is_shown_or_none() {
        let list = r#"{"object":"list","data":[{"id":"a:latest"},{"id":"b"}]}"#;
        assert_eq!(
            cut_text(Class::One, list, &["a"]).unwrap(),
            r#"{"id":"a:latest"}"#
        );
        let models = ["c".parse().unwrap()];
        let none = cut(Class::One, list.as_bytes(), &models).unwrap();
        assert!(!none.found && String::from_utf8(none.bytes).unwrap().contains("model_not_found"));
        assert!(!cut(Class::One, br#"{"data":null}"#, &models).unwrap().found);
    }

    #[test]
    fn show_leaks_no_prompt() {
        let answer = r#"{"modelfile":"FROM x","template":"t","system":"s","messages":[],"remote_host":"h","new":1,"details":{}}"#;
        assert_eq!(
            cut_text(Class::Show, answer, &["a"]).unwrap(),
            r#"{"details":{}}"#
        );
    }

    #[test]
    fn what_is_no_such_answer_is_not_passed_on() {
        for answer in ["", "[]", "{}", r#"{"models":7}"#, "x"] {
            assert_eq!(cut_text(Class::List, answer, &["*"]), None, "{answer}");
        }
        assert_eq!(cut_text(Class::Inference, "{}", &["*"]), None);
    }
}
