//! The TPM port over `tpm`: every call is passed on.

use domain::{CredentialSecret, Generation, PcrSelection, PcrValues, SealedSecret};
use tpm::{
    AkHandle, AkInfo, Conditions, EkAlg, EkInfo, Identity, ReadBack, RollbackError, RollbackIndex, SealError,
    SealOptions, SealedObject, StorageKey, StorageTemplate, Tcti, TpmError, UnsealError,
};

use crate::ports::{Tpm, Tpms};

pub(super) struct RealTpms;

impl Tpms for RealTpms {
    fn open(&mut self, tcti: &Tcti) -> Result<Box<dyn Tpm>, TpmError> {
        Ok(Box::new(tpm::Tpm::open(tcti)?))
    }
}

impl Tpm for tpm::Tpm {
    fn identity(&mut self) -> Result<Identity, TpmError> {
        Self::identity(self)
    }

    fn endorsement_key(&mut self, alg: EkAlg) -> Result<EkInfo, TpmError> {
        Self::endorsement_key(self, alg)
    }

    fn read_ak(&mut self, handle: AkHandle) -> Result<Option<AkInfo>, TpmError> {
        Self::read_ak(self, handle)
    }

    fn create_ak(&mut self, alg: EkAlg, handle: AkHandle) -> Result<AkInfo, TpmError> {
        Self::create_ak(self, alg, handle)
    }

    fn evict_ak(&mut self, handle: AkHandle) -> Result<(), TpmError> {
        Self::evict_ak(self, handle)
    }

    fn activate_credential(
        &mut self,
        alg: EkAlg,
        handle: AkHandle,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<CredentialSecret, TpmError> {
        Self::activate_credential(self, alg, handle, id_object, encrypted_secret)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        Self::read_pcrs(self, selection)
    }

    fn seal_with(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        options: SealOptions,
    ) -> Result<(SealedObject, ReadBack), SealError> {
        Self::seal_with(self, secret, conditions, options)
    }

    fn unseal_with(
        &mut self,
        object: &SealedObject,
        conditions: &Conditions<'_>,
    ) -> Result<SealedSecret, UnsealError> {
        Self::unseal_with(self, object, conditions)
    }

    fn storage_key(&mut self, template: StorageTemplate) -> Result<StorageKey, TpmError> {
        Self::storage_key(self, template)
    }

    fn persistent_storage_key(&mut self) -> Result<Option<StorageKey>, TpmError> {
        Self::persistent_storage_key(self)
    }

    fn next_generation(&mut self, index: RollbackIndex) -> Result<Generation, RollbackError> {
        Ok(self.define_generation(index)?.next())
    }
}
