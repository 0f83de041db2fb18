//! Did-you-mean: the known word that is nearest to one that is not.
//!
//! Owns: how near is near enough. The words come from the manifest's author; they are short.

/// "did you mean `x`?", or the list of what there is.
pub(crate) fn nearest_or_list<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(word) = nearest(found, &known) {
        return Some(format!("did you mean `{word}`?"));
    }
    match known.as_slice() {
        [] => None,
        [only] => Some(format!("known here: `{only}`")),
        several => Some(format!("known here: `{}`", several.join("`, `"))),
    }
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    // Names have at most 63 bytes; what is far longer is no slip of the finger, and comparing is quadratic.
    if found.len() > 128 {
        return None;
    }
    known
        .iter()
        .map(|word| (strsim::jaro_winkler(found, word), *word))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest() {
        let hint = nearest_or_list("modles", ["models", "evidence"]);
        assert_eq!(hint.as_deref(), Some("did you mean `models`?"));
    }

    #[test]
    fn lists_when_nothing_is_near() {
        let hint = nearest_or_list("colour", ["models", "evidence"]);
        assert_eq!(hint.as_deref(), Some("known here: `models`, `evidence`"));
        assert_eq!(nearest_or_list("x", []), None);
        assert_eq!(
            nearest_or_list(&"m".repeat(1000), ["models"]).as_deref(),
            Some("known here: `models`")
        );
    }
}
