//! `edge-client unlock`: the passphrase of the sealed keyslot, through a pipe to what opens the volume for dm-crypt.
//!
//! Owns: that it leaves only after the volume's header proved authentic under what the TPM released, and only into a pipe or
//! socket, never onto a terminal or into a file; and the PCR that is extended afterwards, whether the volume opened or not, so
//! that whatever runs next unseals nothing. Called by an initramfs, as root.
//! An attacker may have written the volume, and may change it while we read: what opens it must read the same bytes, see the
//! documentation for how. Limits today: the first TPM token is used.

use std::io::Write as _;

use domain::{HashAlg, PcrIndex, PcrValue};
use ring::digest::{SHA256, SHA384, digest};
use rustix::fs::FileType;
use tpm::{Tcti, Tpm, TpmError};
use zeroize::Zeroizing;

use super::Common;
use crate::{
    attest,
    cli::Unlock as Arguments,
    device::{self, DeviceError},
    error::{Error, Exit},
    report,
};

/// What is measured when a volume was opened or refused.
const CLOSED: &[u8] = b"signalbox: the volume's key was asked for v1";

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnlockError {
    #[error("stdout is not a pipe")]
    NotAPipe,
    #[error("the PCR cannot be extended, so the passphrase is kept back")]
    Extend(#[source] DeviceError),
}

impl UnlockError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotAPipe => {
                Some("the passphrase is for a program, see `edge-client unlock --help`".to_owned())
            }
            Self::Extend(error) => error.hint(),
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NotAPipe => Exit::Usage,
            Self::Extend(_) => Exit::Failed,
        }
    }
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<Exit, Error> {
    if !is_pipe() {
        return Err(UnlockError::NotAPipe.into());
    }
    let (path, mut keys) = (common.settings.volume.clone(), common.settings.keys());
    let released = attest::blocking(move || device::release(&path, &mut keys)).await;
    if let Some(pcr) = arguments.extend {
        let tcti = common.settings.tcti.clone();
        let extended = attest::blocking(move || extend(&tcti, pcr)).await;
        match (&released, extended) {
            (Ok(_), Err(why)) => return Err(UnlockError::Extend(why).into()),
            (Err(_), Err(why)) => report::note(&format!(
                "warning: the PCR cannot be extended either: {}",
                report::chain(&why)
            )),
            (_, Ok(())) => {}
        }
    }
    write(&released?)?;
    Ok(Exit::Done)
}

/// Extends the PCR in every bank that a volume may be sealed to; the TPM passes over a bank that it does not have.
fn extend(tcti: &Tcti, pcr: PcrIndex) -> Result<(), DeviceError> {
    let mut tpm = Tpm::open(tcti)?;
    for (bank, algorithm) in [(HashAlg::Sha256, &SHA256), (HashAlg::Sha384, &SHA384)] {
        let value = PcrValue::new(bank, digest(algorithm, CLOSED).as_ref());
        let value = value.map_err(|_| TpmError::Malformed("the digest (it is of another bank)"))?;
        tpm.extend(pcr, bank, &value)?;
    }
    Ok(())
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
