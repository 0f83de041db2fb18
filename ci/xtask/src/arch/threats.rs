//! Every threat in THREAT_MODEL.md names at least one test, and that test exists.
//!
//! A row is `| id | threat | defence | test |`; a test is written in backticks as `crate::path::test_name` or `file.rs::test_name`. "Exists" means:
//! a function of that name with a test attribute above it, in that crate or that file.

use std::collections::BTreeSet;

use crate::arch::source::{SourceFile, Workspace, rows};
use crate::arch::{ArchError, Finding, Report};

const DOCUMENT: &str = "THREAT_MODEL.md";

pub(crate) fn check(workspace: &Workspace) -> Result<Report, ArchError> {
    let document = workspace.document(DOCUMENT)?;
    let threats = threats(&document);
    let mut findings = Vec::new();
    let mut ids = BTreeSet::new();
    let mut tests = 0;
    for threat in &threats {
        let place = format!("{DOCUMENT}:{}", threat.line);
        if !ids.insert(threat.id) {
            findings.push(Finding::new(
                &place,
                format!("the id {} is there twice", threat.id),
            ));
        }
        if threat.tests.is_empty() {
            findings.push(Finding::new(
                &place,
                format!("the threat {} names no test", threat.id),
            ));
        }
        tests += threat.tests.len();
        let missing = threat.tests.iter().filter_map(|test| find(workspace, test).err());
        findings.extend(missing.map(|message| Finding::new(&place, message)));
    }
    if threats.is_empty() {
        findings.push(Finding::new(
            DOCUMENT,
            "no row with an id, a threat, a defence and a test",
        ));
    }
    Ok((
        format!(
            "threats: {} threats are held by {tests} named tests",
            threats.len()
        ),
        findings,
    ))
}

struct Threat<'a> {
    line: usize,
    id: &'a str,
    tests: Vec<&'a str>,
}

/// Rows of four cells below a header whose last cell says `test`.
fn threats(document: &str) -> Vec<Threat<'_>> {
    let mut found = Vec::new();
    let mut in_table = false;
    let mut last = 0;
    for (line, cells) in rows(document) {
        // A gap between two rows ends a table.
        in_table &= line == last + 1;
        last = line;
        let [id, _, _, test] = cells.as_slice() else {
            in_table = false;
            continue;
        };
        if test.to_lowercase().starts_with("test") && !in_table {
            in_table = true;
        } else if in_table && !id.starts_with("--") && !id.starts_with(":-") {
            found.push(Threat {
                line,
                id,
                tests: test.split('`').skip(1).step_by(2).collect(),
            });
        }
    }
    found
}

fn find(workspace: &Workspace, test: &str) -> Result<(), String> {
    let (place, name) = test
        .rsplit_once("::")
        .ok_or_else(|| format!("`{test}` is not crate::path::test or file.rs::test"))?;
    let first = place.split("::").next().unwrap_or_default();
    let every = || workspace.crates.iter().flat_map(|each| &each.files);
    let files: Vec<&SourceFile> = if first.ends_with(".rs") {
        every()
            .filter(|file| file.path == first || file.path.ends_with(&format!("/{first}")))
            .collect()
    } else {
        let owner = workspace
            .crates
            .iter()
            .find(|each| each.name.replace('-', "_") == first.replace('-', "_"));
        let owner = owner.ok_or_else(|| format!("`{test}`: there is no crate {first}"))?;
        owner.files.iter().collect()
    };
    if files.is_empty() {
        return Err(format!("`{test}`: there is no file {first}"));
    }
    if files.iter().any(|file| has_test(&file.text, name)) {
        Ok(())
    } else {
        Err(format!("`{test}`: there is no such test"))
    }
}

/// A function of this name with a test attribute between it and whatever stands before it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().any(|(number, line)| {
        let declares = line.contains(&format!("fn {name}(")) || line.contains(&format!("fn {name}<"));
        let above = lines.get(..number).unwrap_or_default();
        let own = above
            .iter()
            .rev()
            .map(|line| line.trim())
            .take_while(|line| !line.contains("fn ") && *line != "}");
        declares
            && own
                .into_iter()
                .any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::source::Crate;

    fn workspace() -> Workspace {
        let file = |path: &str, text: &str| SourceFile {
            path: format!("crates/core/{path}"),
            within: path.to_owned(),
            text: text.to_owned(),
        };
        let files = vec![
            file(
                "src/quote.rs",
                "#[test]\nfn magic_is_checked() {}\nfn helper() {}\n",
            ),
            file(
                "tests/kill.rs",
                "#[tokio::test(flavor = \"multi_thread\")]\nasync fn a_kill_is_survived() {}\n",
            ),
        ];
        Workspace {
            root: "/".into(),
            crates: vec![Crate {
                name: "the-core".to_owned(),
                files,
                dependencies: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_test_that_exists_is_found_by_crate_and_by_file() {
        for test in [
            "the_core::quote::tests::magic_is_checked",
            "the-core::magic_is_checked",
            "kill.rs::a_kill_is_survived",
        ] {
            assert_eq!(find(&workspace(), test), Ok(()), "{test}");
        }
    }

    #[test]
    fn what_is_no_test_is_not_found() {
        for (test, why) in [
            ("the_core::helper_that_is_gone", "no such test"),
            ("the_core::helper", "no such test"),
            ("other::magic_is_checked", "no crate"),
            ("gone.rs::magic_is_checked", "no file"),
            ("magic_is_checked", "is not crate::path::test"),
        ] {
            assert!(find(&workspace(), test).unwrap_err().contains(why), "{test}");
        }
    }

    #[test]
    fn threats_are_the_rows_under_a_header_that_ends_in_test() {
        let document = "| a | b |\n|---|---|\n\n| id | threat | defence | test |\n|---|---|---|---|\n| T1 | x | y | `a::b`, `c::d` |\n| T2 | x | y | |\n";
        let found: Vec<_> = threats(document)
            .iter()
            .map(|threat| (threat.line, threat.id, threat.tests.len()))
            .collect();
        assert_eq!(found, [(6, "T1", 2), (7, "T2", 0)]);
    }
}
