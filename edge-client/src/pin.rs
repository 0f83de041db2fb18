//! Where the PIN of a volume comes from: a file, a pipe, or the person at the terminal. Never an argument or a variable.
//!
//! Owns: reading it with a bound into memory that is wiped, and taking one line end off. What is wrong with it is told without it.
//! Limits: a file keeps what is in it; a pipe (`/dev/fd/3`, or `-` for standard input) does not.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use domain::{Pin, secret::InvalidPin};
use opening::terminal::{self, AskError};
use zeroize::Zeroizing;

/// More than the longest PIN and a line end, in bytes.
const MAX_LEN: usize = 512;

/// Where the PIN is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) enum PinSource {
    /// On the terminal.
    #[default]
    Person,
    /// In this file or pipe.
    File(PathBuf),
}

/// Why there is no PIN.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("the volume wants a PIN, and nobody can be asked for it")]
    Nobody(#[source] AskError),
    #[error("cannot read the PIN in {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("what was given is no PIN")]
    Invalid(#[from] InvalidPin),
}

impl PinError {
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Nobody(_) => Some("give it with --pin-file FILE: a pipe, `-` for stdin, /dev/fd/3"),
            Self::Unreadable { .. } | Self::Invalid(_) => None,
        }
    }
}

impl PinSource {
    /// `file` as on the command line.
    pub(crate) fn new(file: Option<&Path>) -> Self {
        file.map_or(Self::Person, |file| {
            Self::File(if file == Path::new("-") {
                "/dev/stdin".into()
            } else {
                file.to_owned()
            })
        })
    }

    /// The PIN.
    pub(crate) fn pin(&self) -> Result<Pin, PinError> {
        let line = match self {
            Self::Person => terminal::ask("PIN: ").map_err(PinError::Nobody)?,
            Self::File(path) => read(path).map_err(|source| PinError::Unreadable {
                path: path.clone(),
                source,
            })?,
        };
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        Ok(Pin::parse(line.strip_suffix(b"\r").unwrap_or(line))?)
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    let mut bytes = Zeroizing::new(vec![0; MAX_LEN]);
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len = len.saturating_add(more),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_pin_and_one_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        for (text, pin) in [("1234", "1234"), ("1234\n", "1234"), ("12 34\r\n", "12 34")] {
            std::fs::write(&path, text).unwrap();
            let read = PinSource::new(Some(&path)).pin().unwrap();
            assert!(read.expose(|read| read == pin.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_pin_is_told_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let source = PinSource::new(Some(&path));
        assert!(matches!(source.pin(), Err(PinError::Unreadable { .. })));
        for bad in [
            "".to_owned(),
            "\n".to_owned(),
            "canary\0".to_owned(),
            "canary".repeat(100),
        ] {
            std::fs::write(&path, bad).unwrap();
            let Err(refused) = source.pin() else {
                panic!("it is none");
            };
            assert!(matches!(refused, PinError::Invalid(_)));
            assert!(!crate::report::chain(&refused).contains("canary"));
        }
        // Whatever the length of what is there.
        assert!(PinSource::new(Some(Path::new("/dev/zero"))).pin().is_err());
    }
}
