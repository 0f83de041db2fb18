//! The key store: the firmware first, the raw key where the firmware has no cryptography and the caller allows it.
//!
//! Owns: when the fallback is taken: only when there is no firmware cryptography at all. A firmware that answers and refuses has the last word;
//! a locked key is never fetched by another door.

use std::path::PathBuf;

use domain::SealedSecret;

use crate::{
    Vcio,
    error::{DeriveError, FirmwareError},
    firmware::{self, KeyId, KeyStatus, Locks},
    mailbox::Mailbox,
    nvmem, recipe,
    recipe::Recipe,
};

/// A Raspberry Pi's OTP keys.
pub struct KeyStore {
    mailbox: Box<dyn Mailbox>,
    fallback: Vec<PathBuf>,
}

/// A volume's secret, and how it came to be.
pub struct Derived {
    /// What opens the volume's keyslot.
    pub secret: SealedSecret,
    /// Who computed it: a caller shows [`Source::warning`].
    pub source: Source,
}

/// Who computed a secret. The secret is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The firmware: the key did not leave it.
    Firmware,
    /// This process, from the raw key: whatever runs as root here can have the key, and with it every secret there will ever be.
    NvmemFallback,
}

impl Source {
    /// What the operator must be told.
    #[must_use]
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Firmware => None,
            Self::NvmemFallback => Some(
                "the firmware has no HMAC, so the raw device key was read: whoever is root on this device can copy it; \
                 update the bootloader and set lock_device_private_key=1 in the signed config.txt",
            ),
        }
    }
}

impl KeyStore {
    /// The keys behind a mailbox, without a fallback.
    #[must_use]
    pub fn new(mailbox: Box<dyn Mailbox>) -> Self {
        Self {
            mailbox,
            fallback: Vec::new(),
        }
    }

    /// The keys of this machine, with the nvmem files as fallback. Nothing is opened before it is used.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(Box::new(Vcio::default())).with_fallback(nvmem::FILES.map(PathBuf::from))
    }

    /// Allows the raw key, out of the first of these files that is there.
    #[must_use]
    pub fn with_fallback(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.fallback = files.into_iter().collect();
        self
    }

    /// Derives the secret of a volume.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn derive(&mut self, key: KeyId, recipe: &Recipe<'_>) -> Result<Derived, DeriveError> {
        let message = recipe.message();
        let (hmac, source) = match firmware::hmac(&mut *self.mailbox, key, &message) {
            Ok(hmac) => (hmac, Source::Firmware),
            // The nvmem file holds the device key and no other.
            Err(firmware) if firmware.is_absent() && key == KeyId::DEVICE && !self.fallback.is_empty() => {
                let hmac = nvmem::hmac(&self.fallback, &message)
                    .map_err(|nvmem| DeriveError::Fallback { firmware, nvmem })?;
                (hmac, Source::NvmemFallback)
            }
            Err(firmware) => return Err(firmware.into()),
        };
        let secret = recipe::expand(&hmac)?;
        Ok(Derived { secret, source })
    }

    /// What the firmware says of a key.
    ///
    /// # Errors
    /// [`FirmwareError`].
    pub fn status(&mut self, key: KeyId) -> Result<KeyStatus, FirmwareError> {
        firmware::status(&mut *self.mailbox, key)
    }

    /// Forbids uses of a key until the next reboot, and sees that they are forbidden. There is no way back.
    ///
    /// # Errors
    /// [`FirmwareError`]; [`FirmwareError::LocksIgnored`] when the firmware says yes and does nothing.
    pub fn lock(&mut self, key: KeyId, locks: Locks) -> Result<KeyStatus, FirmwareError> {
        firmware::lock(&mut *self.mailbox, key, locks)
    }
}
