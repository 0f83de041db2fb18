//! The mailbox device of the kernel.
//!
//! Owns: which device file. Newer kernels have `/dev/vcio_crypto`, which lets nothing but the cryptographic tags
//! through, so that is asked for first; older ones have `/dev/vcio` alone, behind which is all of the firmware.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::{ioctl, mailbox::Mailbox};

/// In the order of preference.
const DEVICES: [&str; 2] = ["/dev/vcio_crypto", "/dev/vcio"];

/// The mailbox of this machine, opened when it is first used.
#[derive(Debug)]
pub struct Vcio {
    paths: Vec<PathBuf>,
    open: Option<(PathBuf, File)>,
}

impl Default for Vcio {
    fn default() -> Self {
        Self::at(DEVICES.map(PathBuf::from))
    }
}

impl Vcio {
    /// A mailbox at the first of these paths that is there.
    pub fn at(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            open: None,
        }
    }

    fn device(&mut self) -> io::Result<&(PathBuf, File)> {
        if self.open.is_none() {
            self.open = Some(open(&self.paths)?);
        }
        self.open.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Mailbox for Vcio {
    fn property(&mut self, message: &mut [u32]) -> io::Result<()> {
        let (path, device) = self.device()?;
        ioctl::property(device, message).map_err(|source| named(path, &source))
    }
}

fn open(paths: &[PathBuf]) -> io::Result<(PathBuf, File)> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for path in paths {
        // Reading is enough: the driver asks for no more, and the vendor's library opens it so.
        match File::open(path) {
            Ok(file) => return Ok((path.clone(), file)),
            Err(source) => failed = named(path, &source),
        }
        // One that is there and may not be opened is no reason to look for another door.
        if failed.kind() != io::ErrorKind::NotFound {
            break;
        }
    }
    Err(failed)
}

fn named(path: &Path, source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("{}: {source}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(paths: &[&str]) -> io::Error {
        let mut message = [28, 0, 1, 4, 0, 0, 0];
        Vcio::at(paths.iter().map(PathBuf::from))
            .property(&mut message)
            .unwrap_err()
    }

    #[test]
    fn a_machine_without_a_mailbox_has_none() {
        let missing = ask(&["/nonexistent/vcio_crypto", "/nonexistent/vcio"]);
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("/nonexistent/vcio:"), "{missing}");
        assert_eq!(ask(&[]).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_first_that_is_there_is_used_and_named() {
        let other = ask(&["/nonexistent/vcio", "/dev/null", "/dev/zero"]);
        assert!(other.to_string().contains("/dev/null: "), "{other}");
        assert_ne!(other.kind(), io::ErrorKind::NotFound);
    }
}
