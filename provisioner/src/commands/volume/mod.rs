//! `provisioner volume`: sealed volumes in a person's hands.
//!
//! Owns: one file for each thing that can be asked, and what they share: `opening` (what opens a volume) and `entropy`; what
//! seals a new one, and where PINs and keys come from, they share with `apply`.
//! Secrets go from wiped memory into a volume, a TPM, an escrow file or, where somebody asks for it by name, to stdout; never
//! into arguments, the environment, logs or errors. An attacker may control every byte of a volume that is opened.

mod create;
mod entropy;
mod generation;
mod info;
mod opening;
mod read;
mod recover;
mod reseal;
mod rotation;
mod targets;
mod verify;

use std::{fs::File, path::Path};

use volume::{Header, inspect};

use super::Answer;
use crate::{cli::VolumeCommand, failure::Failure, ports::VolumeFault, report::Reporter};

pub(super) fn run(command: VolumeCommand, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    match command {
        VolumeCommand::Create(args) => create::run(&args, reporter),
        VolumeCommand::Info { file } => info::run(&file, reporter),
        VolumeCommand::Ls(args) => read::ls(&args, reporter),
        VolumeCommand::Cat(args) => read::cat(&args, reporter),
        VolumeCommand::Verify(args) => return verify::run(&args, reporter),
        VolumeCommand::Reseal(args) => reseal::run(&args, reporter),
        VolumeCommand::Recover(args) => recover::run(&args, reporter),
    }?;
    Ok(Answer::Done)
}

/// A volume that is only read, and its header.
fn header(path: &Path) -> Result<(File, Header), Failure> {
    let file = File::open(path).map_err(file_fault("open", path))?;
    let header = inspect(&file).map_err(|e| unopened(path, e))?;
    Ok((file, header))
}

fn file_fault(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |source| VolumeFault::File { doing, path, source }.into()
}

fn unopened(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    VolumeFault::Open {
        path: path.to_owned(),
        source: source.into(),
    }
    .into()
}

fn uncreated(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    VolumeFault::Create {
        path: path.to_owned(),
        source: source.into(),
    }
    .into()
}

fn unchanged(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    VolumeFault::Change {
        path: path.to_owned(),
        source: source.into(),
    }
    .into()
}

fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::Usage(what.into(), Some(hint.to_owned()))
}
