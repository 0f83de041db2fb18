//! Signatures for Secure Boot, with Debian's snakeoil key.
//!
//! Owns: the one key that the machines' firmware trusts. Its private half is in a Debian package and is known to all: it protects nothing
//! outside of these machines.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::error::VmError;
use crate::run::succeed;

/// Signs images.
#[derive(Debug)]
pub struct Signer {
    key: PathBuf,
    certificate: PathBuf,
}

impl Signer {
    /// Takes the passphrase off the key, since sbsign asks for it on a terminal; the key is put into `folder`.
    ///
    /// # Errors
    /// openssl fails.
    pub fn new(arch: Arch, folder: &Path) -> Result<Self, VmError> {
        let (locked, certificate) = arch.snakeoil();
        let key = folder.join("snakeoil.key");
        succeed(
            Command::new("openssl")
                .args(["pkey", "-passin", "pass:snakeoil", "-in", locked, "-out"])
                .arg(&key),
        )?;
        Ok(Self {
            key,
            certificate: certificate.into(),
        })
    }

    /// Signs `image` into `out`.
    ///
    /// # Errors
    /// sbsign refuses.
    pub fn sign(&self, image: &Path, out: &Path) -> Result<(), VmError> {
        succeed(
            Command::new("sbsign")
                .arg("--key")
                .arg(&self.key)
                .arg("--cert")
                .arg(&self.certificate)
                .arg("--output")
                .args([out, image]),
        )
        .map(drop)
    }
}
