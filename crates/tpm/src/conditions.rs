//! What must hold before a TPM releases a secret, and showing it to the TPM.
//!
//! Owns: [`Conditions`], the policy that comes of them, and running it in a policy session, in systemd's order: signed
//! PCRs, exact PCRs, PIN. The digest that the TPM arrives at is compared with the object's before it is asked to release
//! anything, so that a changed PCR, a missing signature and a foreign object are told apart, and no PIN is tried in vain.

use domain::{PcrSelection, PcrValues};
use tss_esapi::{
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, Name, Nonce, PublicKeyRsa, RsaSignature, Signature, VerifiedTicket},
};

use crate::{
    KeyForm, PinAuth, PolicyKey, PolicySignatures, Tpm, TpmError, UnsealError, error::Doing as _,
    pcrs::tss_selection, policy::PolicyDigest,
};
use sha2::{Digest as _, Sha256};

/// What must hold before a TPM releases a secret: each one that is there.
#[derive(Clone, Copy, Default)]
pub struct Conditions<'a> {
    /// These PCRs have the values that they had when it was sealed.
    pub exact: Option<PcrSelection>,
    /// These PCRs have values that a key approved of.
    pub signed: Option<SignedPcrs<'a>>,
    /// The PIN.
    pub pin: Option<PinAuth<'a>>,
}

/// A signed PCR policy.
#[derive(Clone, Copy)]
pub struct SignedPcrs<'a> {
    /// Who approves.
    pub key: &'a PolicyKey,
    /// Of which PCRs; systemd's default is 11 of the SHA-256 bank.
    pub pcrs: PcrSelection,
    /// What it approved of. Without any, something can be sealed and nothing unsealed.
    pub signatures: Option<&'a PolicySignatures>,
}

impl From<PcrSelection> for Conditions<'_> {
    fn from(exact: PcrSelection) -> Self {
        Self {
            exact: Some(exact),
            ..Self::default()
        }
    }
}

impl Conditions<'_> {
    /// The policy; `exact` are the values of the exact PCRs.
    pub(crate) fn policy(&self, exact: Option<&PcrValues>, form: KeyForm) -> PolicyDigest {
        let mut digest = PolicyDigest::START;
        if let Some(signed) = &self.signed {
            digest = PolicyDigest::authorized_by(&signed.key.name(form));
        }
        if let Some(exact) = exact {
            digest = digest.pcr(exact);
        }
        if self.pin.is_some() {
            digest = digest.auth_value();
        }
        digest
    }

    /// Whether nothing at all is asked for.
    pub(crate) const fn is_empty(&self) -> bool {
        self.exact.is_none() && self.signed.is_none() && self.pin.is_none()
    }
}

/// A signed policy whose signature the TPM has verified.
pub(crate) struct Approved {
    policy: Digest,
    key: Name,
    ticket: VerifiedTicket,
}

impl Tpm {
    /// Finds the signature over the present values and lets the TPM verify it, for the form of the key that the policy
    /// has. `None` where no signature is asked for.
    pub(crate) fn approve(
        &mut self,
        conditions: &Conditions<'_>,
        policy_hash: &[u8; 32],
    ) -> Result<Option<Approved>, UnsealError> {
        let Some(signed) = &conditions.signed else {
            return Ok(None);
        };
        let exact = match &conditions.exact {
            Some(exact) => Some(self.read_pcrs(exact)?),
            None => None,
        };
        let form = [KeyForm::Explicit, KeyForm::Default]
            .into_iter()
            .find(|form| conditions.policy(exact.as_ref(), *form).bytes() == *policy_hash)
            .ok_or(match conditions.exact {
                // One of the exact PCRs, or the object is of another key: the digest does not tell which.
                Some(exact) => UnsealError::PolicyMismatch(exact),
                None => UnsealError::Malformed,
            })?;
        let approved = PolicyDigest::START.pcr(&self.read_pcrs(&signed.pcrs)?).bytes();
        let signature = signed
            .signatures
            .and_then(|signatures| signatures.find(&signed.pcrs, signed.key, &approved))
            .ok_or(UnsealError::NotApproved(signed.pcrs))?;
        self.verify(signed.key, form, approved, signature).map(Some)
    }

    fn verify(
        &mut self,
        key: &PolicyKey,
        form: KeyForm,
        approved: [u8; 32],
        signature: &[u8],
    ) -> Result<Approved, UnsealError> {
        let doing = "check the signature over the PCR policy";
        let public = key.public(form)?;
        let name = Name::try_from(key.name(form).as_bytes().to_vec()).doing(doing)?;
        let signature = PublicKeyRsa::try_from(signature)
            .and_then(|bytes| RsaSignature::create(HashingAlgorithm::Sha256, bytes))
            .map(Signature::RsaSsa)
            .doing(doing)?;
        let signed = Digest::try_from(Sha256::digest(approved).as_slice()).doing(doing)?;
        let loaded = self
            .plain(|c| c.load_external_public(public, Hierarchy::Owner))
            .doing("load the policy key")?;
        let ticket = self.flush_after::<_, UnsealError>(loaded.into(), |tpm| {
            match tpm
                .plain(|c| c.verify_signature(loaded, signed, signature))
                .doing(doing)
            {
                Err(TpmError::Refused { code, .. }) if code.is_bad_signature() => {
                    Err(UnsealError::BadSignature)
                }
                other => Ok(other?),
            }
        })?;
        Ok(Approved {
            policy: Digest::try_from(approved.as_slice()).doing(doing)?,
            key: name,
            ticket,
        })
    }

    /// Runs the policy in `session` and compares the digest that came of it with the one that the object wants.
    pub(crate) fn fulfil(
        &mut self,
        session: AuthSession,
        conditions: &Conditions<'_>,
        approved: Option<Approved>,
        policy_hash: &[u8; 32],
    ) -> Result<(), UnsealError> {
        let doing = "show the PCRs to the policy";
        let policy = PolicySession::try_from(session).doing(doing)?;
        if let (Some(signed), Some(approved)) = (&conditions.signed, approved) {
            self.show_pcrs(policy, &signed.pcrs)?;
            let digest = self.plain(|c| c.policy_get_digest(policy)).doing(doing)?;
            if digest != approved.policy {
                // A PCR moved since we read it.
                return Err(UnsealError::NotApproved(signed.pcrs));
            }
            let Approved {
                policy: approved,
                key,
                ticket,
            } = approved;
            self.plain(|c| c.policy_authorize(policy, approved, Nonce::default(), &key, ticket))
                .doing("show the signature to the policy")?;
        }
        if let Some(exact) = &conditions.exact {
            self.show_pcrs(policy, exact)?;
        }
        if conditions.pin.is_some() {
            self.plain(|c| c.policy_auth_value(policy))
                .doing("show the PIN to the policy")?;
        }
        let digest = self.plain(|c| c.policy_get_digest(policy)).doing(doing)?;
        if digest.value() == policy_hash {
            return Ok(());
        }
        Err(match conditions.exact {
            Some(exact) => UnsealError::PolicyMismatch(exact),
            // Other conditions than it was sealed under: no state of this machine changes that.
            None => UnsealError::Malformed,
        })
    }

    fn show_pcrs(&mut self, policy: PolicySession, pcrs: &PcrSelection) -> Result<(), TpmError> {
        let selection = tss_selection(pcrs)?;
        self.plain(|c| c.policy_pcr(policy, Digest::default(), selection))
            .doing("show the PCRs to the policy")
    }
}

impl SignedPcrs<'_> {
    /// Whether there is a signature over these values, be it good or bad.
    pub(crate) fn approves(&self, values: &PcrValues) -> bool {
        let policy = PolicyDigest::START.pcr(values).bytes();
        self.signatures
            .is_some_and(|signatures| signatures.find(&self.pcrs, self.key, &policy).is_some())
    }
}
