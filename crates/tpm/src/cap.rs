//! Closing the door behind a volume: a PCR that the seal covers is extended once it was opened, and after a failure too,
//! so that whatever runs next cannot have the TPM release the secret again before a restart.
//!
//! Owns: what is measured, and that it goes into every bank that the TPM keeps. Two events, so that a log tells them apart.
//! Limits: the seal must cover the PCR ([`crate::SealOptions::cap`]); who may reach the TPM in between may unseal.

use domain::{PcrIndex, SealedSecret};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tss_esapi::{
    constants::CapabilityType,
    handles::PcrHandle,
    interface_types::algorithm::HashingAlgorithm,
    structures::{CapabilityData, Digest, DigestValues},
};

use crate::{Conditions, SealedObject, Tpm, TpmError, UnsealError, error::Doing as _};

/// What became of opening a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The TPM released the secret.
    Released,
    /// It did not.
    Failed,
}

impl Opening {
    /// What is hashed into the PCR.
    #[must_use]
    pub const fn event(self) -> &'static [u8] {
        match self {
            Self::Released => b"signalbox: sealed volume opened",
            Self::Failed => b"signalbox: sealed volume not opened",
        }
    }
}

impl Tpm {
    /// Extends `pcr` in every bank by the hash of [`Opening::event`]. systemd measures volumes into PCR 15.
    ///
    /// # Errors
    /// [`TpmError::Refused`]. What was released must then not be used.
    pub fn cap(&mut self, pcr: PcrIndex, opening: Opening) -> Result<(), TpmError> {
        let doing = "extend a PCR after opening";
        let (data, _) = self
            .plain(|c| c.get_capability(CapabilityType::AssignedPcr, 0, 1))
            .doing(doing)?;
        let CapabilityData::AssignedPcr(banks) = data else {
            return Err(TpmError::Nonsense("another capability than the PCR banks"));
        };
        let event = opening.event();
        let mut values = DigestValues::new();
        for bank in banks.get_selections().iter().filter(|bank| !bank.is_empty()) {
            let alg = bank.hashing_algorithm();
            let digest = match alg {
                HashingAlgorithm::Sha256 => Sha256::digest(event).to_vec(),
                HashingAlgorithm::Sha384 => Sha384::digest(event).to_vec(),
                HashingAlgorithm::Sha512 => Sha512::digest(event).to_vec(),
                HashingAlgorithm::Sha1 => {
                    ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, event)
                        .as_ref()
                        .to_vec()
                }
                // Nothing here is ever sealed to another bank.
                _ => continue,
            };
            values.set(alg, Digest::try_from(digest).doing(doing)?);
        }
        let handle = PcrHandle::try_from(u32::from(pcr.get())).doing(doing)?;
        self.with_password(|c| c.pcr_extend(handle, values)).doing(doing)
    }

    /// Unseals, and extends `pcr` whatever came of it. A secret that the TPM released and whose PCR could not be extended is
    /// not handed out.
    ///
    /// # Errors
    /// Each of [`UnsealError`].
    pub fn unseal_and_cap(
        &mut self,
        object: &SealedObject,
        conditions: &Conditions<'_>,
        pcr: PcrIndex,
    ) -> Result<SealedSecret, UnsealError> {
        match self.unseal_with(object, conditions) {
            Ok(secret) => {
                self.cap(pcr, Opening::Released)?;
                Ok(secret)
            }
            Err(error) => {
                self.cap(pcr, Opening::Failed)?;
                Err(error)
            }
        }
    }
}
