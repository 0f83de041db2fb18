//! Why a machine was not made, did not boot, or did not do what it must.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file or folder.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A program that cannot be started.
    #[error("cannot run {0}: {1} (ci/setup installs what is missing)")]
    Start(String, #[source] io::Error),
    /// A program that failed, with its last words.
    #[error("{program} failed ({status}):\n{words}")]
    Failed {
        /// The program and its first argument.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        words: String,
    },
    /// A program of ours that is not built.
    #[error("{0} is not built; ci/vm does that first")]
    NotBuilt(PathBuf),
    /// Something that a package, an image or a kernel does not have.
    #[error("there is no {0}")]
    Missing(String),
    /// A stub that is not a PE image with room for more sections.
    #[error("the stub cannot become an image: {0}")]
    Image(&'static str),
    /// A machine or a program that took too long.
    #[error("{what} took longer than {0} s", .limit.as_secs())]
    TooLong {
        /// Which.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// What a scenario expects and did not see.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What must be.
        expected: String,
        /// What is.
        found: String,
    },
    /// One of our crates refuses.
    #[error("{0}")]
    Ours(String),
}

impl VmError {
    /// For `map_err` on file operations.
    pub fn file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |why| Self::File(path.as_ref().to_owned(), why)
    }

    /// An error of one of our crates with its causes, each said once.
    pub fn ours(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let said = cause.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            next = cause.source();
        }
        Self::Ours(text)
    }
}
