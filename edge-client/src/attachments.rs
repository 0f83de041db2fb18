//! What goes beside a quote into a session request: the boot's event log and the image's statement, where this machine has them.
//!
//! Owns: where they are looked for and how much of them is read. Both are sent to the proxy of this device alone, and in session
//! requests alone. A file that is not there is not sent; one that cannot be read or is too long is not sent either, and
//! `doctor` and `--verbose` say so: whether the policy wants it, only the proxy knows.
//! Neither is a secret, and neither is believed here: the proxy checks both against the quote.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use protocol::messages::{MAX_EVENT_LOG, MAX_IMAGE_STATEMENT};
use tpm::Tcti;

/// Where an image has its statement.
const IMAGE_STATEMENT: &str = "/usr/lib/signalbox/image-statement.json";

/// Where they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachments {
    /// The event log; `None`: this TPM has none that we know of.
    pub(crate) event_log: Option<PathBuf>,
    /// The image statement.
    pub(crate) image_statement: PathBuf,
}

/// What came of looking for a file.
#[derive(Debug)]
pub(crate) enum Found {
    /// No such file.
    Absent,
    /// All of it.
    Read(Vec<u8>),
    /// More than the contract takes, in bytes.
    TooLong(usize),
    /// It is there and cannot be read.
    Unreadable(io::Error),
}

impl Attachments {
    /// What the configuration names, else where Linux and our images have them.
    pub(crate) fn new(tcti: &Tcti, event_log: Option<PathBuf>, image_statement: Option<PathBuf>) -> Self {
        Self {
            event_log: event_log.or_else(|| event_log_of(&tcti.to_string())),
            image_statement: image_statement.unwrap_or_else(|| IMAGE_STATEMENT.into()),
        }
    }

    /// Looks for the event log. Blocks for a moment: the kernel copies it.
    pub(crate) fn event_log(&self) -> Found {
        let path = self.event_log.as_deref();
        path.map_or(Found::Absent, |path| find(path, MAX_EVENT_LOG))
    }

    /// Looks for the image statement.
    pub(crate) fn image_statement(&self) -> Found {
        find(&self.image_statement, MAX_IMAGE_STATEMENT)
    }
}

impl Found {
    /// What is sent.
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Read(bytes) => Some(bytes),
            Self::Absent | Self::TooLong(_) | Self::Unreadable(_) => None,
        }
    }

    /// Why a file that is there is not sent.
    pub(crate) fn trouble(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Read(_) => None,
            Self::TooLong(most) => Some(format!("it has more than {most} bytes")),
            Self::Unreadable(error) => Some(format!("it cannot be read: {error}")),
        }
    }
}

/// The kernel's log of the TPM with the same number. A TPM in software was measured into by no firmware of this machine.
fn event_log_of(tcti: &str) -> Option<PathBuf> {
    let number = match tcti.split_once(':') {
        Some(("device", path)) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            let number = name.strip_prefix("tpmrm").or_else(|| name.strip_prefix("tpm"))?;
            number.parse::<u8>().ok()?
        }
        Some(("swtpm" | "mssim", _)) => return None,
        _ => 0,
    };
    Some(format!("/sys/kernel/security/tpm{number}/binary_bios_measurements").into())
}

/// The kernel gives the length of its log as 0, so that only reading tells.
fn find(path: &Path, most: usize) -> Found {
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Absent,
        Err(error) => Found::Unreadable(error),
        Ok(_) if bytes.len() > most => Found::TooLong(most),
        // A machine whose firmware measured nothing.
        Ok(0) => Found::Absent,
        Ok(_) => Found::Read(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_that_of_the_tpm_that_quotes() {
        let log = |tcti: &str| event_log_of(tcti).map(|path| path.display().to_string());
        let path = |n| Some(format!("/sys/kernel/security/tpm{n}/binary_bios_measurements"));
        assert_eq!(log("device:/dev/tpmrm0"), path(0));
        assert_eq!(log("device:/dev/tpm1"), path(1));
        assert_eq!(log("tabrmd"), path(0));
        assert_eq!(log("swtpm:host=127.0.0.1,port=2321"), None);
        assert_eq!(log("device:/dev/other"), None);
    }

    #[test]
    fn what_is_configured_wins() {
        let tcti: Tcti = "device:/dev/tpmrm0".parse().unwrap();
        let own = Attachments::new(&tcti, Some("/log".into()), Some("/statement".into()));
        assert_eq!(own.event_log.as_deref(), Some(Path::new("/log")));
        assert_eq!(own.image_statement, Path::new("/statement"));
        let default = Attachments::new(&tcti, None, None);
        assert_eq!(default.image_statement, Path::new(IMAGE_STATEMENT));
    }

    #[test]
    fn no_more_is_read_than_the_contract_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statement");
        let at = |bytes: usize| {
            std::fs::write(&path, vec![b'x'; bytes]).unwrap();
            find(&path, MAX_IMAGE_STATEMENT)
        };
        assert!(matches!(find(&path, 10), Found::Absent));
        assert!(matches!(at(0), Found::Absent));
        assert!(matches!(at(MAX_IMAGE_STATEMENT), Found::Read(bytes) if bytes.len() == 4096));
        let long = at(MAX_IMAGE_STATEMENT + 1);
        assert_eq!(long.trouble().unwrap(), "it has more than 4096 bytes");
        assert!(long.into_bytes().is_none());
        // A folder is there, and is no file.
        let folder = find(dir.path(), 10);
        assert!(folder.trouble().unwrap().starts_with("it cannot be read: "));
        assert!(folder.into_bytes().is_none());
    }
}
