//! Bounds of the values inside records, as serde's `deserialize_with` takes them.

use serde::{Deserialize, Deserializer, de::Error as _};

/// The longest free text in a record (a maker's name, a public key), in bytes.
const MAX_TEXT: usize = 128;

/// Free text of at most [`MAX_TEXT`] visible characters and spaces.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(D::Error::custom(format_args!(
            "a text longer than {MAX_TEXT} bytes or with a control character"
        )));
    }
    Ok(text)
}

/// [`text`], or nothing.
pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Text(#[serde(deserialize_with = "text")] String);

    Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(text)| text))
}
