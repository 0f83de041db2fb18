//! `edge-client unlock`: the passphrase of the sealed keyslot, through a pipe to what opens the volume for dm-crypt.
//!
//! Owns: that it leaves only after the volume's header proved authentic under what the TPM released, and only into a pipe or
//! socket, never onto a terminal or into a file, and only for the volume that the configuration expects; that the way is closed
//! afterwards, whether the volume opened or not, so that whatever runs next unseals nothing ([`crate::closing`]). Called by an initramfs, as root.
//! An attacker may have written the volume, and may change it while we read: what opens it must read the same bytes, see the
//! documentation for how.

use std::io::Write as _;

use rustix::fs::FileType;
use tpm::Opening;
use zeroize::Zeroizing;

use super::Common;
use crate::{
    attest,
    cli::Unlock as Arguments,
    closing::{Extend, close},
    device::{self, DeviceError},
    error::{Error, Exit},
    report,
};

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnlockError {
    #[error("stdout is not a pipe")]
    NotAPipe,
    #[error("the way cannot be closed behind the volume, so the passphrase is kept back")]
    Close(#[source] DeviceError),
}

impl UnlockError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotAPipe => {
                Some("the passphrase is for a program, see `edge-client unlock --help`".to_owned())
            }
            Self::Close(error) => error.hint(),
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NotAPipe => Exit::Usage,
            Self::Close(_) => Exit::Failed,
        }
    }
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<Exit, Error> {
    if !is_pipe() {
        return Err(UnlockError::NotAPipe.into());
    }
    let (path, mut keys) = (common.settings.volume.clone(), common.settings.keys());
    let expected = common.settings.expected.clone();
    let pcr = Extend::pcr(arguments.extend.or(common.settings.extend));
    let (released, closed) = attest::blocking(move || {
        let released = device::release(&path, &mut keys, &expected);
        let opening = if released.is_ok() {
            Opening::Released
        } else {
            Opening::Failed
        };
        Ok((released, pcr.map_or(Ok(()), |pcr| close(&mut keys, pcr, opening))))
    })
    .await?;
    match (&released, closed) {
        (Ok(_), Err(why)) => return Err(UnlockError::Close(why).into()),
        (Err(_), Err(why)) => report::note(&format!(
            "warning: the way cannot be closed either: {}",
            report::chain(&why)
        )),
        (_, Ok(())) => {}
    }
    write(&released?)?;
    Ok(Exit::Done)
}

fn is_pipe() -> bool {
    rustix::fs::fstat(std::io::stdout()).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket
        )
    })
}

/// Straight to the descriptor: the buffer of [`std::io::stdout`] would keep a copy that nobody wipes.
fn write(passphrase: &Zeroizing<Vec<u8>>) -> Result<(), Error> {
    let stdout = rustix::io::dup(std::io::stdout()).map_err(|error| Error::Stdout(error.into()))?;
    std::fs::File::from(stdout)
        .write_all(passphrase)
        .map_err(Error::Stdout)
}
