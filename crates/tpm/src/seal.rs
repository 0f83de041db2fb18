//! Sealing a secret to this TPM: to the values of its PCRs, to a key that approves of values, to a PIN.
//!
//! Owns: the refusal to seal to PCRs into which nothing was measured, and to nothing at all; and that a secret is unsealed
//! once and compared before anyone relies on it. The object is under the storage key that the caller names, see
//! [`crate::srk_to_token`] for what its token must then say.

use domain::{PcrIndex, PcrSelection, PcrValues, SealedSecret};
use evidence::StorageTemplate;
use tss_esapi::{constants::SessionType, structures::SensitiveData};

use crate::{
    Conditions, KeyForm, PinAuth, PrimaryAlg, SealedObject, Tpm, TpmError, UnsealError, error::Doing as _,
    template,
};

/// How something is sealed, beside what releases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// Under which storage key. systemd 252 finds an object only under its own.
    pub parent: StorageTemplate,
    /// In which form the policy key is named, where there is one.
    pub form: KeyForm,
    /// Seals although a PCR is all zero or all ones.
    pub force_uninitialised: bool,
    /// This PCR is extended once the secret was released ([`Tpm::cap`]), so it may be zero now: that it still is zero is
    /// what it stands for. Some other PCR must have been measured into.
    pub cap: Option<PcrIndex>,
}

impl Default for SealOptions {
    /// What systemd 252 opens, without force.
    fn default() -> Self {
        Self {
            parent: StorageTemplate::SystemdEcc,
            form: KeyForm::Explicit,
            force_uninitialised: false,
            cap: None,
        }
    }
}

/// Whether what was sealed came back out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    /// It was unsealed and is the same.
    Compared,
    /// No signature approves of the state in which this machine is, so the TPM cannot release it now. That the TPM loads
    /// the object was seen.
    NotApprovedNow,
}

/// Why a secret was not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A PCR is all zero or all ones: nothing measured into it, so the seal would protect nothing.
    #[error("PCR {0} is uninitialised (all zero or all ones): sealing to it protects nothing")]
    Uninitialised(PcrIndex),
    /// No PCR, no key and no PIN.
    #[error("sealing to nothing protects nothing: PCRs, a signed policy or a PIN is needed")]
    Unprotected,
    /// The TPM sealed it and does not release the same secret again.
    #[error("the secret does not come back out of the TPM as it went in")]
    ReadBack(#[source] Option<UnsealError>),
    /// The bytes given as random cannot be.
    #[error("the entropy given is not usable as a private key, it cannot be random")]
    Entropy,
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
            Self::ReadBack(_) | Self::Unprotected | Self::Entropy => None,
            Self::Tpm(error) => error.hint(),
        }
    }
}

impl Tpm {
    /// Seals `secret` under the present values of the PCRs, under systemd's own storage key, unseals it once and compares.
    /// Sent encrypted in a salted session.
    ///
    /// # Errors
    /// [`SealError::Uninitialised`] unless `force_uninitialised`; [`SealError::ReadBack`]; [`SealError::Tpm`].
    pub fn seal(
        &mut self,
        secret: &SealedSecret,
        to: &PcrSelection,
        force_uninitialised: bool,
    ) -> Result<SealedObject, SealError> {
        let options = SealOptions {
            force_uninitialised,
            ..SealOptions::default()
        };
        self.seal_with(secret, &Conditions::from(*to), options)
            .map(|(object, _)| object)
    }

    /// Seals `secret`, unseals it once and compares. Where a signed policy comes without signatures, or with none over the
    /// present values of its PCRs, that cannot be: then the object is loaded once, and [`ReadBack`] says so.
    ///
    /// # Errors
    /// [`SealError`]. A signature that is there and wrong is a [`SealError::ReadBack`].
    pub fn seal_with(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        options: SealOptions,
    ) -> Result<(SealedObject, ReadBack), SealError> {
        self.seal_between(secret, conditions, options, |_| Ok(()))
    }

    /// As [`Tpm::seal_with`]; `between` runs after it is sealed and before it is unsealed.
    fn seal_between(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        options: SealOptions,
        between: impl FnOnce(&mut Self) -> Result<(), TpmError>,
    ) -> Result<(SealedObject, ReadBack), SealError> {
        if conditions.is_empty() {
            return Err(SealError::Unprotected);
        }
        let exact = match &conditions.exact {
            Some(exact) => Some(self.read_pcrs(exact)?),
            None => None,
        };
        if let Some(values) = &exact {
            measured(values, &options)?;
        }
        let approved_now = match &conditions.signed {
            // The present values of signed PCRs matter if they are those that the key approved of.
            Some(signed) => {
                let values = self.read_pcrs(&signed.pcrs)?;
                let approved = signed.approves(&values);
                if approved {
                    measured(&values, &options)?;
                }
                approved
            }
            None => true,
        };
        let policy = conditions.policy(exact.as_ref(), options.form).bytes();
        let object = self.create_sealed(secret, conditions, options.parent, policy)?;
        between(self)?;
        if !approved_now {
            self.load_once(&object)
                .map_err(|e| SealError::ReadBack(Some(e)))?;
            return Ok((object, ReadBack::NotApprovedNow));
        }
        match self.unseal_with(&object, conditions) {
            Ok(back) if back.ct_eq(secret) => Ok((object, ReadBack::Compared)),
            Ok(_) => Err(SealError::ReadBack(None)),
            Err(error) => Err(SealError::ReadBack(Some(error))),
        }
    }

    fn create_sealed(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        parent: StorageTemplate,
        policy: [u8; 32],
    ) -> Result<SealedObject, TpmError> {
        let template = template::sealed(&policy)?;
        // The copies that the command takes are wiped on drop.
        let data = secret
            .expose(|bytes| SensitiveData::try_from(bytes.as_slice()))
            .doing("seal")?;
        let auth = conditions.pin.as_ref().map(PinAuth::auth).transpose()?;
        self.with_storage_parent(parent, |tpm, handle| {
            let made = tpm.with_salted_session(handle, SessionType::Hmac, |tpm, session| {
                tpm.context
                    .execute_with_session(Some(session), |c| {
                        c.create(handle, template, auth, Some(data), None, None)
                    })
                    .doing("seal")
            })?;
            SealedObject::new(
                &made.out_private,
                &made.out_public,
                policy,
                PrimaryAlg::of(parent),
            )
        })
    }
}

/// Refuses values that nobody measured.
pub(crate) fn measured(values: &PcrValues, options: &SealOptions) -> Result<(), SealError> {
    if options.force_uninitialised {
        return Ok(());
    }
    let mut cap = None;
    let mut others = 0_usize;
    for (index, value) in values.iter() {
        match (value.is_uninitialised(), options.cap == Some(index)) {
            (true, true) => cap = Some(index),
            (true, false) => return Err(SealError::Uninitialised(index)),
            (false, _) => others = others.saturating_add(1),
        }
    }
    match cap {
        Some(index) if others == 0 => Err(SealError::Uninitialised(index)),
        _ => Ok(()),
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
            .seal_between(&secret, &pcrs.into(), SealOptions::default(), |tpm| {
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

    #[test]
    fn only_the_pcr_that_caps_may_be_zero_and_not_alone() {
        let of = |numbers: &[u64], bytes: &[u8], cap: Option<u64>| {
            let indices: Vec<_> = numbers.iter().map(|n| PcrIndex::try_from(*n).unwrap()).collect();
            let values: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 32]).collect();
            let selection = PcrSelection::new(HashAlg::Sha256, indices).unwrap();
            let options = SealOptions {
                cap: cap.map(|n| PcrIndex::try_from(n).unwrap()),
                ..SealOptions::default()
            };
            measured(&PcrValues::new(selection, values).unwrap(), &options)
        };
        let bare = |number: u64| Err(SealError::Uninitialised(PcrIndex::try_from(number).unwrap()));
        assert_eq!(of(&[7, 15], &[1, 0], Some(15)), Ok(()));
        assert_eq!(of(&[7, 15], &[1, 0], None), bare(15));
        assert_eq!(of(&[7, 15], &[0, 0], Some(15)), bare(7));
        assert_eq!(of(&[15], &[0], Some(15)), bare(15));
        assert_eq!(of(&[7], &[0xff], None), bare(7));
    }
}
