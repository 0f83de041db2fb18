//! Every module says what it is: the first line of each `.rs` file under a `src` folder is a `//!` comment with words in it. A module of
//! tests is exempt: what it is, the module above it says.

use crate::arch::source::{SourceFile, Workspace, shipped};
use crate::arch::{Finding, Report};

pub(crate) fn check(workspace: &Workspace) -> Report {
    let files: Vec<&SourceFile> = workspace
        .crates
        .iter()
        .flat_map(|each| &each.files)
        .filter(|file| shipped(&file.within))
        .collect();
    let findings = files
        .iter()
        .filter_map(|file| judge(&file.path, &file.text))
        .collect();
    (
        format!("headers: {} modules say what they are", files.len()),
        findings,
    )
}

fn judge(path: &str, text: &str) -> Option<Finding> {
    let place = format!("{path}:1");
    let first = text.lines().next().unwrap_or_default();
    let Some(words) = first.strip_prefix("//!") else {
        return Some(Finding::new(
            place,
            "the module has no `//!` header on its first line",
        ));
    };
    // A name alone says nothing.
    (words.split_whitespace().count() < 2).then(|| Finding::new(place, "the module's header says nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_words() {
        assert_eq!(judge("a.rs", "//! What it owns.\n"), None);
        assert!(judge("a.rs", "//! a\n").unwrap().message.contains("says nothing"));
        assert!(
            judge("a.rs", "use std::fmt;\n")
                .unwrap()
                .message
                .contains("no `//!` header")
        );
        assert!(judge("a.rs", "").is_some());
    }
}
