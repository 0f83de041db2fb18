//! The attestation key: a restricted signing key, child of the EK, persistent.
//!
//! A child of the EK dies with `TPM2_Clear`, and the TPM tells true counters in its quotes (under the owner hierarchy it
//! obfuscates them). Its qualified name proves whose child it is; it is computed here, outside the TPM, and compared.
//! Owns: making, reading, removing it, and the device's side of credential activation.

use domain::{CredentialSecret, TpmName, TpmPublic};
use tss_esapi::{
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle},
    interface_types::{
        dynamic_handles::Persistent, resource_handles::Provision, session_handles::AuthSession,
    },
    structures::{EncryptedSecret, IdObject, Name, Public},
};

use crate::{AkHandle, EkAlg, Tpm, TpmError, code::Cause, ek::marshalled, error::Doing as _, template};

/// The attestation key as the TPM shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AkInfo {
    /// The marshalled `TPMT_PUBLIC`.
    pub public: TpmPublic,
    /// The digest of the public area, its hash algorithm in front.
    pub name: TpmName,
    /// The digest of the parent's qualified name and this name (TPM 2.0 Library part 1, 26.5).
    pub qualified_name: TpmName,
}

impl Tpm {
    /// Makes an AK under the EK (ECDSA P-256 with SHA-256) and makes it persistent at `handle`, where stock tools find
    /// it. What is at `handle` already is left alone.
    ///
    /// # Errors
    /// [`TpmError::AkHandleInUse`]; [`TpmError::NotChildOfEk`], and then nothing stays behind; [`TpmError::Refused`].
    pub fn create_ak(&mut self, ek: EkAlg, handle: AkHandle) -> Result<AkInfo, TpmError> {
        if self.exists(handle.get())? {
            return Err(TpmError::AkHandleInUse(handle));
        }
        self.with_ek(ek, |tpm, ek, ek_public| {
            let template = template::attestation_key()?;
            let made = tpm.with_ek_policy(ek, |tpm, session| {
                tpm.context
                    .execute_with_session(Some(session), |c| c.create(ek, template, None, None, None, None))
                    .doing("make the attestation key")
            })?;
            let ak = tpm.with_ek_policy(ek, |tpm, session| {
                tpm.context
                    .execute_with_session(Some(session), |c| c.load(ek, made.out_private, made.out_public))
                    .doing("load the attestation key")
            })?;
            tpm.flush_after(ak.into(), |tpm| {
                let info = tpm.ak_info(ak)?;
                check_parentage(ek_public, &info)?;
                tpm.persist(ak, handle)?;
                Ok(info)
            })
        })
    }

    /// Reads the AK; `None` when nothing is at `handle`.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn read_ak(&mut self, handle: AkHandle) -> Result<Option<AkInfo>, TpmError> {
        self.with_persistent(handle.get(), Self::ak_info)
    }

    /// Removes the AK. This cannot be undone: the key is gone.
    ///
    /// # Errors
    /// [`TpmError::NoAk`], [`TpmError::Refused`].
    pub fn evict_ak(&mut self, handle: AkHandle) -> Result<(), TpmError> {
        let doing = "remove the attestation key";
        if !self.exists(handle.get())? {
            return Err(TpmError::NoAk(handle));
        }
        let persistent = PersistentTpmHandle::new(handle.get()).doing(doing)?;
        let mut object = self
            .plain(|c| c.tr_from_tpm_public(persistent.into()))
            .doing(doing)?;
        self.evict_control(object, persistent, doing)?;
        // tpm2-tss keeps what it knew of the key and would refuse another one at this handle ("name mismatch");
        // tss-esapi has forgotten it already, and says so. Neither is a failure.
        let _ = self.context.tr_close(&mut object);
        Ok(())
    }

    /// The device's half of credential activation (TPM 2.0 Library part 1, 24): opens a credential that was made for this EK and this AK.
    /// `id_object` and `encrypted_secret` are the marshalled `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`.
    ///
    /// # Errors
    /// [`TpmError::Malformed`]; [`TpmError::NoAk`]; [`TpmError::Refused`] when the credential was made for another EK or
    /// another AK.
    pub fn activate_credential(
        &mut self,
        ek: EkAlg,
        ak: AkHandle,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<CredentialSecret, TpmError> {
        let doing = "activate the credential";
        let blob =
            IdObject::try_from(unsized_2b(id_object).ok_or(TpmError::Malformed("the credential blob"))?)
                .map_err(|_| TpmError::Malformed("the credential blob"))?;
        let secret = unsized_2b(encrypted_secret)
            .and_then(|bytes| EncryptedSecret::try_from(bytes).ok())
            .ok_or(TpmError::Malformed("the credential's encrypted secret"))?;
        let opened = self.with_persistent(ak.get(), |tpm, ak| {
            tpm.with_ek(ek, |tpm, ek, _| {
                tpm.with_ek_policy(ek, |tpm, session| {
                    tpm.context
                        .execute_with_sessions((Some(AuthSession::Password), Some(session), None), |c| {
                            c.activate_credential(ak, ek, blob, secret)
                        })
                        .doing(doing)
                })
            })
        })?;
        let digest = opened.ok_or(TpmError::NoAk(ak))?;
        CredentialSecret::copy_from(digest.value())
            .ok_or(TpmError::Malformed("the credential (not 32 bytes)"))
    }

    fn ak_info(&mut self, ak: KeyHandle) -> Result<AkInfo, TpmError> {
        let (public, name, qualified) = self
            .plain(|c| c.read_public(ak))
            .doing("read the attestation key")?;
        Ok(AkInfo {
            public: marshalled(&public)?,
            name: tpm_name(&name)?,
            qualified_name: tpm_name(&qualified)?,
        })
    }

    fn persist(&mut self, ak: KeyHandle, handle: AkHandle) -> Result<(), TpmError> {
        let doing = "make the attestation key persistent";
        let persistent = PersistentTpmHandle::new(handle.get()).doing(doing)?;
        match self.evict_control(ak.into(), persistent, doing) {
            // Someone took it since we looked.
            Err(error) if error.cause() == Some(Cause::HandleInUse) => Err(TpmError::AkHandleInUse(handle)),
            other => other,
        }
    }

    /// `TPM2_EvictControl`: makes a transient key persistent, or removes a persistent one.
    fn evict_control(
        &mut self,
        object: ObjectHandle,
        persistent: PersistentTpmHandle,
        doing: &'static str,
    ) -> Result<(), TpmError> {
        let mut made = self
            .with_password(|c| c.evict_control(Provision::Owner, object, Persistent::Persistent(persistent)))
            .doing(doing)?;
        if made == ObjectHandle::None {
            return Ok(());
        }
        self.context.tr_close(&mut made).doing(doing)
    }
}

/// Computes the AK's name and qualified name from the EK's and its own public area and compares them with the TPM's.
fn check_parentage(ek: &Public, ak: &AkInfo) -> Result<(), TpmError> {
    let ek = evidence::ek::EndorsementKey::new(&marshalled(ek)?)
        .map_err(|_| TpmError::Nonsense("an endorsement key that is not of its template"))?;
    let (name, qualified) = evidence::ak_names(&ek, &ak.public)
        .map_err(|_| TpmError::Nonsense("an attestation key that is not as it was asked for"))?;
    if (name, qualified) == (ak.name.clone(), ak.qualified_name.clone()) {
        Ok(())
    } else {
        Err(TpmError::NotChildOfEk)
    }
}

fn tpm_name(name: &Name) -> Result<TpmName, TpmError> {
    TpmName::try_from(name.value().to_vec()).map_err(|_| TpmError::Nonsense("a name of that size"))
}

/// The content of a `TPM2B`, whose size must be exact.
pub(crate) fn unsized_2b(bytes: &[u8]) -> Option<&[u8]> {
    let (size, content) = bytes.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*size)) == content.len()).then_some(content)
}

#[cfg(test)]
mod tests {
    use testkit::Swtpm;

    use super::*;

    #[test]
    fn a_key_with_another_parents_qualified_name_is_no_child_of_the_ek() {
        let swtpm = Swtpm::start();
        let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
        let ak = tpm.create_ak(EkAlg::EccP256, AkHandle::default()).unwrap();
        let check = |tpm: &mut Tpm, alg, ak: &AkInfo| tpm.with_ek(alg, |_, _, ek| check_parentage(ek, ak));
        assert_eq!(check(&mut tpm, EkAlg::EccP256, &ak), Ok(()));
        assert_eq!(check(&mut tpm, EkAlg::Rsa2048, &ak), Err(TpmError::NotChildOfEk));
        let renamed = AkInfo {
            name: ak.qualified_name.clone(),
            ..ak
        };
        assert_eq!(
            check(&mut tpm, EkAlg::EccP256, &renamed),
            Err(TpmError::NotChildOfEk)
        );
    }
}
