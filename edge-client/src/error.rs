//! What ends a command before it is done, with what a person can do about it and the exit code.
//!
//! Owns: the one enum over all modules' errors, hints and exit codes. [`report`](crate::report) prints it.

use std::process::ExitCode;

use crate::{
    answer::AnswerError,
    call::CallError,
    commands::{quote::QuoteError, unlock::UnlockError},
    device::DeviceError,
    hardening::HardeningError,
    origin::OriginError,
    refused::Refused,
    settings::SettingsError,
};

/// The exit codes of every Signalbox program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong use, or a configuration that is not valid.
    Usage = 2,
    /// Refused.
    Refused = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::from(0),
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Refused => Self::from(3),
        }
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Quote(#[from] QuoteError),
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    #[error("no model is named")]
    NoModel,
    #[error("cannot read the question")]
    Prompt(#[source] std::io::Error),
    #[error("the question is empty")]
    NoPrompt,
    #[error("cannot write to stdout")]
    Stdout(#[source] std::io::Error),
}

impl Error {
    /// What a person can do about it, where something can be done.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Origin(error) => error.hint().map(str::to_owned),
            Self::Device(error) => error.hint(),
            Self::Call(error) => error.hint(),
            Self::Quote(error) => error.hint(),
            Self::Unlock(error) => error.hint(),
            Self::NoModel => Some("name one with --model, or with `model` in the configuration".to_owned()),
            Self::NoPrompt => Some("put the question behind `ask`, or `-` to read it from stdin".to_owned()),
            Self::Hardening(_) | Self::Runtime(_) | Self::Answer(_) | Self::Prompt(_) | Self::Stdout(_) => {
                None
            }
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::NoModel | Self::NoPrompt => Exit::Usage,
            Self::Origin(error) => error.exit(),
            Self::Device(error) => error.exit(),
            Self::Call(error) => error.exit(),
            Self::Quote(error) => error.exit(),
            Self::Unlock(error) => error.exit(),
            Self::Hardening(_) | Self::Runtime(_) | Self::Answer(_) | Self::Prompt(_) | Self::Stdout(_) => {
                Exit::Failed
            }
        }
    }

    /// The proxy's own words, where it refused.
    pub(crate) fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Call(error) => error.refused(),
            Self::Quote(QuoteError::Call(error)) => error.refused(),
            _ => None,
        }
    }
}
