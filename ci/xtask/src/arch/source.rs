//! The workspace as the checks see it: crates, their arrows, their sources.
//!
//! Owns: the one call of `cargo metadata` and the reading of files. Refuses: to judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::arch::ArchError;

/// Everything that is read once.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) crates: Vec<Crate>,
}

/// One member of the workspace.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Every `.rs` file of the crate, tests included; paths relative to the repository.
    pub(crate) files: Vec<SourceFile>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A text and where it is.
pub(crate) struct SourceFile {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    /// Relative to the crate, with `/`: `src/..` or `tests/..`.
    pub(crate) within: String,
    pub(crate) text: String,
}

/// One arrow out of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) dev: bool,
    /// A member of this workspace.
    pub(crate) ours: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo for the members and reads their sources.
    pub(crate) fn read(root: &Path) -> Result<Self, ArchError> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(root.join("Cargo.toml"))
            .output()
            .map_err(|why| ArchError::Metadata(why.to_string()))?;
        if !output.status.success() {
            return Err(ArchError::Metadata(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|why| ArchError::Metadata(why.to_string()))?;
        let crates = metadata
            .packages
            .into_iter()
            .map(|package| read_crate(root, package))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            root: root.to_owned(),
            crates,
        })
    }

    /// A document at the repository's top.
    pub(crate) fn document(&self, name: &str) -> Result<String, ArchError> {
        read_text(&self.root.join(name))
    }
}

fn read_crate(root: &Path, package: Package) -> Result<Crate, ArchError> {
    let folder = package
        .manifest_path
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    let mut files = Vec::new();
    for part in ["src", "tests", "benches", "examples"] {
        collect(root, &folder, &folder.join(part), &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let dependencies = package
        .dependencies
        .into_iter()
        .map(|raw| Dependency {
            ours: raw.path.is_some(),
            dev: raw.kind.as_deref() == Some("dev"),
            name: raw.name,
        })
        .collect();
    Ok(Crate {
        name: package.name,
        files,
        dependencies,
    })
}

fn collect(root: &Path, folder: &Path, at: &Path, files: &mut Vec<SourceFile>) -> Result<(), ArchError> {
    let Ok(entries) = std::fs::read_dir(at) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry
            .map_err(|why| ArchError::Read(at.display().to_string(), why))?
            .path();
        if path.is_dir() {
            collect(root, folder, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read_text(&path)?;
            files.push(SourceFile {
                path: relative(&path, root),
                within: relative(&path, folder),
                text,
            });
        }
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, ArchError> {
    std::fs::read_to_string(path).map_err(|why| ArchError::Read(path.display().to_string(), why))
}

fn relative(path: &Path, to: &Path) -> String {
    path.strip_prefix(to)
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

/// Of a path within a crate: not a module of tests, which is at the end of a file under `cfg(test)`, or a file called `tests.rs`, or below
/// a folder `tests`.
pub(crate) fn shipped(within: &str) -> bool {
    within.starts_with("src/") && !within.ends_with("/tests.rs") && !within.contains("/tests/")
}

/// The rows of a Markdown table: cells without their outer spaces, header and ruler rows included.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some((number + 1, inner.split('|').map(str::trim).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_lines_between_bars() {
        let found: Vec<_> = rows("text\n| a | b, c | |\n|---|---|---|\n").collect();
        assert_eq!(
            found,
            vec![(2, vec!["a", "b, c", ""]), (3, vec!["---", "---", "---"])]
        );
    }
}
