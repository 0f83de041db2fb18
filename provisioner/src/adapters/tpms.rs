//! The TPM port over `tpm`: every call is passed on.

use domain::{CredentialSecret, PcrSelection, PcrValues, SealedSecret};
use tpm::{AkHandle, AkInfo, EkAlg, EkInfo, Identity, SealError, SealedObject, Tcti, TpmError, UnsealError};

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

    fn seal(
        &mut self,
        secret: &SealedSecret,
        to: &PcrSelection,
        force_uninitialised: bool,
    ) -> Result<SealedObject, SealError> {
        Self::seal(self, secret, to, force_uninitialised)
    }

    fn unseal(&mut self, object: &SealedObject, pcrs: &PcrSelection) -> Result<SealedSecret, UnsealError> {
        Self::unseal(self, object, pcrs)
    }
}
