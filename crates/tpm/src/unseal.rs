//! Getting a sealed secret back.
//!
//! Owns: telling apart why not, before the TPM is asked to release anything. The secret comes back encrypted in the salted
//! policy session. What to do about a refusal (extend a PCR, fall back to recovery) is the caller's business. The sealed
//! object, the signatures and the token around them may come from an attacker's disk.

use domain::{PcrSelection, SealedSecret};
use evidence::StorageTemplate;
use tss_esapi::{
    attributes::SessionAttributesBuilder, constants::SessionType, handles::KeyHandle,
    interface_types::session_handles::AuthSession,
};

use crate::{
    Conditions, PrimaryAlg, SealedObject, Tpm, TpmError, code::Cause, conditions::Approved, error::Doing as _,
};

/// Why a secret did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The PCRs are not what the secret was sealed to. The object keeps only a digest over all of them.
    #[error(
        "at least one of the PCRs {0} is not what the secret was sealed to; the seal does not tell which"
    )]
    PolicyMismatch(PcrSelection),
    /// No signature by the policy's key approves of the present values.
    #[error("no signature by the policy key approves of the present values of the PCRs {0}")]
    NotApproved(PcrSelection),
    /// The TPM found the signature over the PCR policy wrong.
    #[error("the signature over the PCR policy is wrong")]
    BadSignature,
    /// The PIN is not the one that the secret was sealed under. The TPM counts it.
    #[error("the PIN is wrong")]
    WrongPin,
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
            Self::NotApproved(_) => Some(
                "was the image that runs signed with this key, is its tpm2-pcr-signature.json the one at hand, and is the \
                 boot in the phase that was signed?",
            ),
            Self::BadSignature => Some("the file of signatures was damaged or made with another key"),
            Self::WrongPin => Some(
                "after some wrong ones the TPM answers none for a while; tpm2_getcap properties-variable shows the limit",
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
        self.unseal_with(object, &Conditions::from(*pcrs))
    }

    /// Unseals where the conditions hold. What waits for import is imported on the way.
    ///
    /// # Errors
    /// Each of [`UnsealError`]; [`TpmError::Refused`] with [`Cause::Lockout`] after too many wrong PINs.
    pub fn unseal_with(
        &mut self,
        object: &SealedObject,
        conditions: &Conditions<'_>,
    ) -> Result<SealedSecret, UnsealError> {
        let mut approved = self.approve(conditions, &object.policy_hash)?;
        self.with_loaded(object, |tpm, parent, sealed| {
            tpm.release(parent, sealed, object, conditions, approved.take())
        })
    }

    /// Loads the object and flushes it: this TPM could release it.
    pub(crate) fn load_once(&mut self, object: &SealedObject) -> Result<(), UnsealError> {
        self.with_loaded(object, |_, _, _| Ok(()))
    }

    /// Loads the object under the storage key that it belongs to. A token without an SRK handle means systemd's own
    /// primary; objects under the TCG's are opened too.
    pub(crate) fn with_loaded<T>(
        &mut self,
        object: &SealedObject,
        mut f: impl FnMut(&mut Self, KeyHandle, KeyHandle) -> Result<T, UnsealError>,
    ) -> Result<T, UnsealError> {
        let parents = self.templates(&object.primary_alg.templates());
        let Some(first) = object.primary_alg.templates().first().copied() else {
            return Err(UnsealError::Malformed);
        };
        if parents.is_empty() {
            return Err(TpmError::AnotherSrk(first).into());
        }
        let mut result = Err(UnsealError::NotThisTpm);
        for template in parents {
            result = self.with_storage_parent(template, |tpm, parent| {
                let sealed = tpm.load_sealed(parent, object)?;
                tpm.flush_after(sealed.into(), |tpm| f(tpm, parent, sealed))
            });
            if result.as_ref().err() != Some(&UnsealError::NotThisTpm) {
                break;
            }
        }
        result
    }

    fn load_sealed(&mut self, parent: KeyHandle, object: &SealedObject) -> Result<KeyHandle, UnsealError> {
        let parts = object.parts().ok_or(UnsealError::Malformed)?;
        let private = match parts.seed {
            None => parts.private,
            Some(seed) => self.import_under(parent, &parts.public, parts.private, seed)?,
        };
        match self
            .with_password(|c| c.load(parent, private, parts.public))
            .doing("load the sealed secret")
        {
            Err(error) if error.cause() == Some(Cause::Integrity) => Err(UnsealError::NotThisTpm),
            other => Ok(other?),
        }
    }

    fn release(
        &mut self,
        parent: KeyHandle,
        sealed: KeyHandle,
        object: &SealedObject,
        conditions: &Conditions<'_>,
        approved: Option<Approved>,
    ) -> Result<SealedSecret, UnsealError> {
        if let Some(pin) = &conditions.pin {
            let auth = pin.auth()?;
            self.context
                .tr_set_auth(sealed.into(), auth)
                .doing("take the PIN")?;
        }
        self.with_salted_session(parent, SessionType::Policy, |tpm, session| {
            tpm.fulfil(session, conditions, approved, &object.policy_hash)?;
            tpm.encrypt_only(session)?;
            let released = tpm
                .context
                .execute_with_session(Some(session), |c| c.unseal(sealed.into()))
                .doing("unseal");
            let data = match released {
                // A PCR moved after we looked.
                Err(error) if matches!(error.cause(), Some(Cause::PolicyFailed | Cause::PcrChanged)) => {
                    return Err(moved(conditions));
                }
                Err(error) if conditions.pin.is_some() && error.cause() == Some(Cause::AuthFailed) => {
                    return Err(UnsealError::WrongPin);
                }
                other => other?,
            };
            SealedSecret::copy_from(data.value()).ok_or(UnsealError::Malformed)
        })
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

impl PrimaryAlg {
    /// The algorithm of a template.
    #[must_use]
    pub const fn of(template: StorageTemplate) -> Self {
        match template {
            StorageTemplate::SystemdRsa => Self::Rsa,
            StorageTemplate::SystemdEcc | StorageTemplate::TcgEcc => Self::Ecc,
        }
    }

    /// Under which storage keys an object may be whose token names this algorithm.
    pub(crate) const fn templates(self) -> [StorageTemplate; 2] {
        match self {
            Self::Ecc => [StorageTemplate::SystemdEcc, StorageTemplate::TcgEcc],
            Self::Rsa => [StorageTemplate::SystemdRsa, StorageTemplate::TcgEcc],
        }
    }
}

const fn moved(conditions: &Conditions<'_>) -> UnsealError {
    match (&conditions.exact, &conditions.signed) {
        (Some(exact), _) => UnsealError::PolicyMismatch(*exact),
        (None, Some(signed)) => UnsealError::NotApproved(signed.pcrs),
        (None, None) => UnsealError::Malformed,
    }
}
