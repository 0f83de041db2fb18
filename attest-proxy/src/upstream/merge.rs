//! One list of models out of those of several servers. Pure.
//!
//! Owns: what is one entry: a model that several servers have is listed once, as the first of them lists it. An answer
//! that is no list is left out; whether anything is left is for the caller to see.

use std::collections::HashSet;

use serde_json::Value;

use super::inventory::canonical;

/// Merges `/api/tags`, `/api/ps` or `/v1/models` of several servers. `None`: not one of them is such a list.
pub(super) fn merge<'a>(answers: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut whole: Option<Value> = None;
    let mut known = HashSet::new();
    for answer in answers {
        let Ok(mut value) = serde_json::from_slice::<Value>(answer) else {
            continue;
        };
        let Some(items) = items(&mut value) else { continue };
        items.retain(|item| name(item).is_none_or(|name| known.insert(name)));
        match &mut whole {
            None => whole = Some(value),
            Some(whole) => {
                let more = std::mem::take(items);
                if let Some(list) = self::items(whole) {
                    list.extend(more);
                }
            }
        }
    }
    serde_json::to_vec(&whole?).ok()
}

/// The list in an answer; Ollama writes null for an empty one.
fn items(value: &mut Value) -> Option<&mut Vec<Value>> {
    let object = value.as_object_mut()?;
    let key = ["models", "data"]
        .into_iter()
        .find(|key| object.contains_key(*key))?;
    let list = object.get_mut(key)?;
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

fn name(item: &Value) -> Option<String> {
    let name = ["model", "name", "id"]
        .iter()
        .find_map(|key| item.get(key)?.as_str())?;
    Some(canonical(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(answers: &[&str]) -> Option<String> {
        merge(answers.iter().map(|a| a.as_bytes())).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_two_have_is_listed_once() {
        let one = r#"{"models":[{"model":"a:1","size":1},{"model":"b:1"}]}"#;
        let two = r#"{"models":[{"model":"A:1","size":2},{"model":"c:1"}]}"#;
        assert_eq!(
            merged(&[one, two]).unwrap(),
            r#"{"models":[{"model":"a:1","size":1},{"model":"b:1"},{"model":"c:1"}]}"#
        );
        let one = r#"{"object":"list","data":[{"id":"a"}]}"#;
        let two = r#"{"object":"list","data":[{"id":"b"},{"id":"a:latest"}]}"#;
        assert_eq!(
            merged(&[one, two]).unwrap(),
            r#"{"data":[{"id":"a"},{"id":"b"}],"object":"list"}"#
        );
    }

    #[test]
    fn what_is_no_list_is_left_out() {
        let list = r#"{"models":[{"model":"a"}]}"#;
        for other in ["x", "[]", "{}", r#"{"models":7}"#, r#"{"models":null}"#] {
            assert_eq!(merged(&[list, other]).unwrap(), list, "{other}");
            assert_eq!(merged(&[other, list]).unwrap(), list, "{other}");
        }
        assert_eq!(merged(&[r#"{"models":null}"#]).unwrap(), r#"{"models":[]}"#);
        assert_eq!(merged(&["x", "{}"]), None);
        assert_eq!(merged(&[]), None);
    }
}
