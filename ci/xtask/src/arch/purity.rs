//! Pure crates do no I/O and know no clock and no randomness.
//!
//! Owns: the list of pure crates and of what they may not name, in code or as a dependency. Comments and tests are exempt: a test may read a
//! golden file.

use crate::arch::source::{Crate, Workspace, shipped};
use crate::arch::{Finding, Report};

const PURE: [&str; 4] = ["domain", "manifest", "evidence", "protocol"];

/// Paths under `std::`, whether written out or in a `use std::{..}` list.
const STD: [&str; 9] = [
    "fs",
    "net",
    "process",
    "env",
    "io::stdin",
    "io::stdout",
    "thread",
    "time::Instant",
    "time::SystemTime",
];

/// Anything else that reaches out of the program.
const NAMES: [&str; 9] = [
    "SystemTime::now",
    "Instant::now",
    "tokio::",
    "rand::",
    "getrandom",
    "thread_rng",
    "SystemRandom",
    "OsRng",
    "UNIX_EPOCH",
];

/// Crates that a pure crate does not even ask for.
const CRATES: [&str; 9] = [
    "tokio",
    "rand",
    "getrandom",
    "chrono",
    "time",
    "jiff",
    "hyper",
    "reqwest",
    "tempfile",
];

pub(crate) fn check(workspace: &Workspace) -> Report {
    let pure: Vec<&Crate> = workspace
        .crates
        .iter()
        .filter(|each| PURE.contains(&each.name.as_str()))
        .collect();
    let mut findings = Vec::new();
    for each in &pure {
        for dependency in each.dependencies.iter().filter(|dependency| !dependency.dev) {
            if CRATES.contains(&dependency.name.as_str()) {
                let message = format!("{} is pure and depends on {}", each.name, dependency.name);
                findings.push(Finding::new(format!("crate {}", each.name), message));
            }
        }
        for file in each.files.iter().filter(|file| shipped(&file.within)) {
            for (line, name) in impurities(&file.text) {
                let message = format!("{} is pure and names {name}", each.name);
                findings.push(Finding::new(format!("{}:{line}", file.path), message));
            }
        }
    }
    (
        format!("purity: {} do no I/O and know no clock", PURE.join(", ")),
        findings,
    )
}

fn impurities(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut list = false;
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        list |= line.contains("std::{");
        for name in STD {
            let spelled = line.contains(&format!("std::{name}"));
            if spelled || (list && has_word(line, name)) {
                found.push((number + 1, format!("std::{name}")));
            }
        }
        list &= !line.contains("};");
        for name in NAMES.iter().filter(|name| has_word(line, name)) {
            found.push((number + 1, (*name).to_owned()));
        }
    }
    found
}

/// The name, not as the tail of a longer one: `rand::` is not in `operand::`.
fn has_word(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + name.len()..).and_then(|text| text.chars().next());
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (name.ends_with(':') || !joins(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        impurities(text).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn clean_code_is_clean() {
        let text = "use std::{collections::BTreeMap, fmt, time::Duration};\nlet operand = operand::new(environment);\n";
        assert_eq!(names(text), Vec::<String>::new());
    }

    #[test]
    fn every_way_out_is_found() {
        assert_eq!(names("let f = std::fs::read(p);"), ["std::fs"]);
        assert_eq!(names("use std::{\n    env,\n    fmt,\n};"), ["std::env"]);
        assert_eq!(names("let now = SystemTime::now();"), ["SystemTime::now"]);
        assert_eq!(names("let x = rand::random();"), ["rand::"]);
        assert_eq!(
            names("use std::time::{Duration};\nuse std::time::Instant;"),
            ["std::time::Instant"]
        );
        assert_eq!(names("tokio::spawn(x)"), ["tokio::"]);
    }

    #[test]
    fn comments_and_tests_are_exempt() {
        assert_eq!(
            names("// std::fs is not for us\n#[cfg(test)]\nmod tests { use std::fs; }"),
            Vec::<String>::new()
        );
        assert!(!shipped("src/wire/tests.rs") && !shipped("tests/golden.rs") && shipped("src/lib.rs"));
    }
}
