//! `provisioner evidence`: evidence looked at by a person, on files, without a registry and without a proxy.
//!
//! Owns: the reading of files, with bounds. What is judged is judged by `evidence`; nothing that is found here admits
//! anybody anywhere.

mod check;
mod ek;
mod golden;
mod log;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::Answer;
use crate::{cli::EvidenceCommand, failure::Failure, report::Reporter};

/// The longest file that is read, in bytes: more than an event log may have.
const MAX_FILE: u64 = 4 << 20;

pub(super) fn run(command: EvidenceCommand, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    match command {
        EvidenceCommand::Check(args) => check::run(&args, reporter),
        EvidenceCommand::Log { file, yaml } => log::run(&file, yaml, reporter),
        EvidenceCommand::Ek(args) => ek::run(&args, reporter),
        EvidenceCommand::Golden(args) => golden::run(&args, reporter),
    }
}

/// The bytes of a file.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unread = |source| Failure::ReadFile {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let most = MAX_FILE.saturating_add(1);
    let file = File::open(path).map_err(unread)?;
    let len = file.take(most).read_to_end(&mut bytes).map_err(unread)?;
    if u64::try_from(len).is_ok_and(|len| len < most) {
        return Ok(bytes);
    }
    Err(not_evidence("file", path, TooLong))
}

/// The file at `path` is not the `what` that it was given as.
fn not_evidence(
    what: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Failure {
    Failure::NotEvidence {
        what,
        path: PathBuf::from(path),
        source: source.into(),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_FILE} bytes")]
struct TooLong;
