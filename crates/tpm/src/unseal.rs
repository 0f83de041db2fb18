//! Getting a sealed secret back.
//!
//! Owns: telling a changed PCR from a foreign object, before the TPM is asked to release anything. The secret comes back
//! encrypted in the salted policy session. What to do about a refusal (extend a PCR, fall back to recovery) is the
//! caller's business. The sealed object may come from an attacker's disk.

use domain::{PcrSelection, SealedSecret};
use tss_esapi::{
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::KeyHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::Digest,
};

use crate::{
    SealedObject, Tpm, TpmError, code::Cause, error::Doing as _, pcrs::tss_selection, template::StorageParent,
};

/// Why a secret did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The PCRs are not what the secret was sealed to. The object keeps only a digest over all of them.
    #[error(
        "at least one of the PCRs {0} is not what the secret was sealed to; the seal does not tell which"
    )]
    PolicyMismatch(PcrSelection),
    /// Made by another TPM, or by this one before it was cleared, or changed since.
    #[error("the sealed secret does not belong to this TPM")]
    NotThisTpm,
    /// Not a sealed object with that policy, or not 32 bytes in it.
    #[error("the sealed object is malformed")]
    Malformed,
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl UnsealError {
    /// What a person can do about it, where something can be done.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::PolicyMismatch(_) => Some(
                "firmware, boot loader, Secure Boot keys or kernel changed, or the volume was opened once already since \
                 the boot; restart the machine, or seal it anew",
            ),
            Self::NotThisTpm => Cause::Integrity.hint(),
            Self::Malformed => None,
            Self::Tpm(error) => error.hint(),
        }
    }
}

impl Tpm {
    /// Unseals under the present values of the PCRs.
    ///
    /// # Errors
    /// Each of [`UnsealError`].
    pub fn unseal(
        &mut self,
        object: &SealedObject,
        pcrs: &PcrSelection,
    ) -> Result<SealedSecret, UnsealError> {
        // A token without an SRK handle means systemd's own primary; objects under the TCG's are opened too.
        let parents = [StorageParent::Systemd(object.primary_alg), StorageParent::TcgSrk];
        let mut result = Err(UnsealError::NotThisTpm);
        for parent in parents {
            result = self.with_storage_parent(parent, |tpm, parent| tpm.unseal_under(parent, object, pcrs));
            if result.as_ref().err() != Some(&UnsealError::NotThisTpm) {
                break;
            }
        }
        result
    }

    fn unseal_under(
        &mut self,
        parent: KeyHandle,
        object: &SealedObject,
        pcrs: &PcrSelection,
    ) -> Result<SealedSecret, UnsealError> {
        let (private, public) = object.parts().ok_or(UnsealError::Malformed)?;
        let sealed = match self
            .with_password(|c| c.load(parent, private, public))
            .doing("load the sealed secret")
        {
            Err(error) if error.cause() == Some(Cause::Integrity) => return Err(UnsealError::NotThisTpm),
            other => other?,
        };
        self.flush_after(sealed.into(), |tpm| {
            tpm.with_salted_session(parent, SessionType::Policy, |tpm, session| {
                tpm.fulfil(session, object, pcrs)?;
                tpm.encrypt_only(session)?;
                let released = tpm
                    .context
                    .execute_with_session(Some(session), |c| c.unseal(sealed.into()))
                    .doing("unseal");
                let data = match released {
                    // A PCR moved after we looked.
                    Err(error) if matches!(error.cause(), Some(Cause::PolicyFailed | Cause::PcrChanged)) => {
                        return Err(UnsealError::PolicyMismatch(*pcrs));
                    }
                    other => other?,
                };
                SealedSecret::copy_from(data.value()).ok_or(UnsealError::Malformed)
            })
        })
    }

    /// Runs PolicyPCR and compares the digest that came of it with the one that the object wants.
    fn fulfil(
        &mut self,
        session: AuthSession,
        object: &SealedObject,
        pcrs: &PcrSelection,
    ) -> Result<(), UnsealError> {
        let doing = "show the PCRs to the policy";
        let policy = PolicySession::try_from(session).doing(doing)?;
        let selection = tss_selection(pcrs)?;
        self.plain(|c| c.policy_pcr(policy, Digest::default(), selection))
            .doing(doing)?;
        let digest = self.plain(|c| c.policy_get_digest(policy)).doing(doing)?;
        if digest.value() == object.policy_hash {
            Ok(())
        } else {
            Err(UnsealError::PolicyMismatch(*pcrs))
        }
    }

    /// Lets a session encrypt answers alone, for commands without a parameter that could be decrypted.
    pub(crate) fn encrypt_only(&mut self, session: AuthSession) -> Result<(), TpmError> {
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_decrypt(false)
            .with_encrypt(true)
            .build();
        self.context
            .tr_sess_set_attributes(session, attributes, mask)
            .doing("encrypt the TPM's answers")
    }
}
