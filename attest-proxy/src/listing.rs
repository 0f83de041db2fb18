//! Answers that tell of models, cut down to those that the device may use.
//!
//! Owns: `/api/tags`, `/api/ps` and `/v1/models` (lists), and `/api/show`, out of which the model's prompt and template
//! are taken. Pure. The upstream is trusted; what it says of other models is not for this device.

use domain::ModelPattern;
use serde_json::Value;

use crate::{body::allows, routes::Class};

/// The longest answer that is cut down, in bytes; a longer one is not passed on.
pub const MAX_LEN: usize = 8 << 20;

/// Cuts an answer down. `None`: it is not what such an answer looks like, and nothing of it is passed on.
#[must_use]
pub fn cut(class: Class, answer: &[u8], models: &[ModelPattern]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(answer).ok()?;
    let object = value.as_object_mut()?;
    match class {
        Class::List => {
            let list = match object.get_mut("models") {
                Some(list) => list,
                None => object.get_mut("data")?,
            };
            // Ollama answers null where there is nothing.
            if !list.is_null() {
                list.as_array_mut()?.retain(|item| {
                    let name = ["model", "name", "id"]
                        .iter()
                        .find_map(|key| item.get(key)?.as_str());
                    name.is_some_and(|name| allows(models, name))
                });
            }
        }
        Class::Show => {
            for secret in ["modelfile", "template", "system", "messages"] {
                object.remove(secret);
            }
        }
        Class::Plain | Class::Inference => return None,
    }
    serde_json::to_vec(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(class: Class, answer: &str, models: &[&str]) -> Option<String> {
        let models: Vec<ModelPattern> = models.iter().map(|m| m.parse().unwrap()).collect();
        cut(class, answer.as_bytes(), &models).map(|b| String::from_utf8(b).unwrap())
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
    fn show_leaks_no_prompt() {
        let answer = r#"{"modelfile":"FROM x","template":"t","system":"s","details":{}}"#;
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
