//! What a factory must know of a TPM to seal to it while it is away.
//!
//! Owns: collecting it in one go. All of it is the TPM's own word, or that of whoever answers in its place: the EK
//! certificate is for `evidence` to verify, and that the storage keys are in the same TPM for activation.

use domain::EkDigest;
use evidence::{EndorsementKey, StorageKey, StorageTemplate};

use crate::{Cause, EkAlg, EkInfo, Identity, SRK_HANDLE, Tpm, TpmError};

/// A TPM as it is found on a device.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Maker, model and firmware.
    pub identity: Identity,
    /// Its endorsement keys, of those algorithms that it has.
    pub endorsement: Vec<InventoryEk>,
    /// Its storage keys, of those templates that it makes.
    pub storage: Vec<InventorySrk>,
}

/// An endorsement key with what names it.
#[derive(Debug, Clone)]
pub struct InventoryEk {
    /// Which template.
    pub alg: EkAlg,
    /// SHA-256 of its SubjectPublicKeyInfo: what the registry knows it by.
    pub digest: EkDigest,
    /// Public area, and the manufacturer's certificate where there is one.
    pub info: EkInfo,
}

/// A storage key.
#[derive(Debug, Clone)]
pub struct InventorySrk {
    /// Public area, Name and template.
    pub key: StorageKey,
    /// Where it is persistent, if it is.
    pub handle: Option<u32>,
}

impl Tpm {
    /// Collects the inventory. What the TPM does not support is left out.
    ///
    /// # Errors
    /// [`TpmError::Refused`]; [`TpmError::Nonsense`] where its endorsement key is not of the template that it was made from.
    pub fn inventory(&mut self) -> Result<Inventory, TpmError> {
        let identity = self.identity()?;
        let mut endorsement = Vec::new();
        for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
            let Some(info) = supported(self.endorsement_key(alg))? else {
                continue;
            };
            let digest = EndorsementKey::new(&info.public)
                .map_err(|_| TpmError::Nonsense("an endorsement key that is not of its template"))?
                .digest();
            endorsement.push(InventoryEk { alg, digest, info });
        }
        let persistent = self.persistent_storage_key()?;
        let mut storage = Vec::new();
        for template in [
            StorageTemplate::TcgEcc,
            StorageTemplate::SystemdEcc,
            StorageTemplate::SystemdRsa,
        ] {
            // At the TCG's handle may be a key of its template with another point: then that is the one that is used.
            match persistent.as_ref().filter(|key| key.template() == template) {
                Some(key) => storage.push(InventorySrk {
                    key: key.clone(),
                    handle: Some(SRK_HANDLE),
                }),
                None => storage.extend(
                    supported(self.storage_key(template))?.map(|key| InventorySrk { key, handle: None }),
                ),
            }
        }
        Ok(Inventory {
            identity,
            endorsement,
            storage,
        })
    }
}

/// `None` where the TPM has not that algorithm.
fn supported<T>(result: Result<T, TpmError>) -> Result<Option<T>, TpmError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.cause() == Some(Cause::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}
