//! Sealing a secret to this TPM and the values of its PCRs.
//!
//! Owns: the refusal to seal to PCRs into which nothing was measured, and that a secret is unsealed once and compared
//! before anyone relies on it. The object is under systemd's own primary, because the token that carries it names no SRK
//! handle, and systemd then looks there.

use domain::{PcrIndex, PcrSelection, SealedSecret};
use tss_esapi::{
    constants::SessionType,
    handles::KeyHandle,
    interface_types::resource_handles::Hierarchy,
    structures::{Public, SensitiveData},
};

use crate::{
    PrimaryAlg, SealedObject, Tpm, TpmError, UnsealError,
    error::Doing as _,
    object::pcr_policy,
    template::{self, StorageParent},
};

/// Where the TCG's storage root key is persistent (TCG Provisioning Guidance 7.8).
const SRK_HANDLE: u32 = 0x8100_0001;

/// Why a secret was not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A PCR is all zero or all ones: nothing measured into it, so the seal would protect nothing.
    #[error("PCR {0} is uninitialised (all zero or all ones): sealing to it protects nothing")]
    Uninitialised(PcrIndex),
    /// The TPM sealed it and does not release the same secret again.
    #[error("the secret does not come back out of the TPM as it went in")]
    ReadBack(#[source] Option<UnsealError>),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl SealError {
    /// What a person can do about it, where something can be done.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Uninitialised(_) => Some(
                "does the firmware measure the boot into this PCR? choose PCRs that it extends, or force it by name",
            ),
            Self::ReadBack(_) => None,
            Self::Tpm(error) => error.hint(),
        }
    }
}

impl Tpm {
    /// Seals `secret` under the present values of the PCRs, unseals it once and compares. Sent encrypted in a salted
    /// session.
    ///
    /// # Errors
    /// [`SealError::Uninitialised`] unless `force_uninitialised`; [`SealError::ReadBack`]; [`SealError::Tpm`].
    pub fn seal(
        &mut self,
        secret: &SealedSecret,
        to: &PcrSelection,
        force_uninitialised: bool,
    ) -> Result<SealedObject, SealError> {
        self.seal_between(secret, to, force_uninitialised, |_| Ok(()))
    }

    /// As [`Tpm::seal`]; `between` runs after it is sealed and before it is unsealed.
    fn seal_between(
        &mut self,
        secret: &SealedSecret,
        to: &PcrSelection,
        force_uninitialised: bool,
        between: impl FnOnce(&mut Self) -> Result<(), TpmError>,
    ) -> Result<SealedObject, SealError> {
        let pcrs = self.read_pcrs(to)?;
        if let Some((index, _)) = pcrs.iter().find(|(_, value)| value.is_uninitialised())
            && !force_uninitialised
        {
            return Err(SealError::Uninitialised(index));
        }
        let policy = pcr_policy(&pcrs);
        let template = template::sealed(&policy)?;
        // The copy that the command takes is wiped on drop.
        let data = secret
            .expose(|bytes| SensitiveData::try_from(bytes.as_slice()))
            .doing("seal")?;
        let object = self.with_storage_parent(StorageParent::Systemd(PrimaryAlg::Ecc), |tpm, parent| {
            let made = tpm.with_salted_session(parent, SessionType::Hmac, |tpm, session| {
                tpm.context
                    .execute_with_session(Some(session), |c| {
                        c.create(parent, template, None, Some(data), None, None)
                    })
                    .doing("seal")
            })?;
            SealedObject::new(&made.out_private, &made.out_public, policy, PrimaryAlg::Ecc)
        })?;
        between(self)?;
        match self.unseal(&object, to) {
            Ok(back) if back.ct_eq(secret) => Ok(object),
            Ok(_) => Err(SealError::ReadBack(None)),
            Err(error) => Err(SealError::ReadBack(Some(error))),
        }
    }

    /// Loads a storage primary for `f` and flushes it; the TCG's SRK is used where it is persistent.
    pub(crate) fn with_storage_parent<T, E: From<TpmError>>(
        &mut self,
        parent: StorageParent,
        f: impl FnOnce(&mut Self, KeyHandle) -> Result<T, E>,
    ) -> Result<T, E> {
        let template = template::storage_parent(parent)?;
        if parent == StorageParent::TcgSrk && self.srk_is_persistent(&template)? {
            let done = self.with_persistent(SRK_HANDLE, f)?;
            return done.ok_or_else(|| TpmError::Nonsense("a storage root key that came and went").into());
        }
        let primary = self
            .with_password(|c| c.create_primary(Hierarchy::Owner, template, None, None, None, None))
            .doing("make the storage primary")?;
        self.flush_after(primary.key_handle.into(), |tpm| f(tpm, primary.key_handle))
    }

    /// Whether the key at [`SRK_HANDLE`] is of the template, whatever its point.
    fn srk_is_persistent(&mut self, template: &Public) -> Result<bool, TpmError> {
        let found = self.with_persistent(SRK_HANDLE, |tpm, srk| {
            tpm.plain(|c| c.read_public(srk))
                .doing("read the storage root key")
        })?;
        let (
            Some((
                Public::Ecc {
                    object_attributes,
                    name_hashing_algorithm,
                    auth_policy,
                    parameters,
                    ..
                },
                _,
                _,
            )),
            Public::Ecc {
                object_attributes: wanted_attributes,
                name_hashing_algorithm: wanted_hash,
                auth_policy: wanted_policy,
                parameters: wanted_parameters,
                ..
            },
        ) = (found, template)
        else {
            return Ok(false);
        };
        Ok(object_attributes == *wanted_attributes
            && name_hashing_algorithm == *wanted_hash
            && auth_policy == *wanted_policy
            && parameters == *wanted_parameters)
    }
}

#[cfg(test)]
mod tests {
    use domain::{HashAlg, PcrValue};
    use testkit::Swtpm;

    use super::*;

    #[test]
    fn a_secret_that_does_not_come_back_is_not_called_sealed() {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"measured");
        let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
        let seven = PcrIndex::try_from(7).unwrap();
        let pcrs = PcrSelection::new(HashAlg::Sha256, [seven]).unwrap();
        let secret = SealedSecret::copy_from(&[1; 32]).unwrap();
        let error = tpm
            .seal_between(&secret, &pcrs, false, |tpm| {
                tpm.extend(
                    seven,
                    HashAlg::Sha256,
                    &PcrValue::new(HashAlg::Sha256, &[2; 32]).unwrap(),
                )
            })
            .err();
        assert_eq!(
            error,
            Some(SealError::ReadBack(Some(UnsealError::PolicyMismatch(pcrs))))
        );
    }
}
