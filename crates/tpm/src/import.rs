//! Sealing to a TPM that is not here, and that TPM's import of what was sealed so.
//!
//! Owns: the sealed object's public and sensitive area made in software (TPM 2.0 Library part 2, 12.2 and 12.3), its policy
//! over PCR values that are expected, and TPM2_Import. The wrapping for the storage key is `evidence`'s. The object has the
//! form of systemd 255's `--tpm2-device-key`.
//! An object that was made outside has neither fixedTPM nor fixedParent; nothing but its policy releases it, and no policy
//! that is made here lets it be duplicated.
//! Limits: whether the storage key is in a TPM at all is the word of whoever collected it. Sealing here is not compared
//! by unsealing: the device does that when it imports or first opens.

use domain::{PcrValues, SealedSecret};
use evidence::StorageKey;
use sha2::{Digest as _, Sha256};
use tss_esapi::{
    handles::KeyHandle,
    structures::{EncryptedSecret, Private, Public, SymmetricDefinitionObject},
};
use zeroize::Zeroizing;

use crate::{
    Conditions, PinAuth, PrimaryAlg, SealError, SealOptions, SealedObject, Tpm, TpmError, UnsealError,
    code::Cause, error::Doing as _, seal::measured, srk::put_2b,
};

/// `TPM_ALG_KEYEDHASH`.
const KEYEDHASH: [u8; 2] = [0, 8];
const SHA256: [u8; 2] = [0, 0x0b];
/// No attribute at all: not bound to one TPM by the TPM itself, no password, and guesses at a PIN are counted.
const ATTRIBUTES: [u8; 4] = [0; 4];
/// `TPM_ALG_NULL`: a sealed object has no scheme.
const NO_SCHEME: [u8; 2] = [0, 0x10];

/// Random bytes for one object, used for nothing else.
pub struct SealEntropy {
    /// For the seed of the wrapper, as `evidence::make_credential` takes it.
    pub seed: Zeroizing<[u8; 64]>,
    /// What keeps the public area from telling of the secret (part 1, 27.3.3).
    pub obfuscation: Zeroizing<[u8; 32]>,
}

/// Seals `secret` for the TPM that has `srk`. `exact` are the values that its exact PCRs will have; it must be there
/// exactly if the conditions have exact PCRs. The template in `options` is not looked at: `srk` has one.
///
/// # Errors
/// [`SealError::Uninitialised`], [`SealError::Unprotected`], [`SealError::Entropy`]; [`TpmError::Malformed`] where `exact` are
/// values of other PCRs than the conditions name.
pub fn seal_for(
    srk: &StorageKey,
    secret: &SealedSecret,
    conditions: &Conditions<'_>,
    exact: Option<&PcrValues>,
    options: SealOptions,
    entropy: SealEntropy,
) -> Result<SealedObject, SealError> {
    let SealEntropy { seed, obfuscation } = entropy;
    if conditions.is_empty() {
        return Err(SealError::Unprotected);
    }
    if exact.map(PcrValues::selection) != conditions.exact.as_ref() {
        return Err(TpmError::Malformed("the expected PCR values (they are of other PCRs)").into());
    }
    if let Some(values) = exact {
        measured(values, &options)?;
    }
    let policy = conditions.policy(exact, options.form).bytes();
    let auth = conditions.pin.as_ref().map(PinAuth::value).unwrap_or_default();
    let public = public_area(&policy, secret, &obfuscation)?;
    let sensitive = sensitive_area(secret, &auth, &obfuscation)?;
    let made = srk
        .duplicate(&public, sensitive, &seed)
        .map_err(|_| SealError::Entropy)?;
    let mut blob = made.private;
    put_2b(&mut blob, &public)?;
    blob.extend_from_slice(&made.encrypted_seed);
    Ok(SealedObject {
        private_then_public: blob,
        policy_hash: policy,
        primary_alg: PrimaryAlg::of(srk.template()),
    })
}

/// `TPMT_PUBLIC`.
fn public_area(
    policy: &[u8; 32],
    secret: &SealedSecret,
    obfuscation: &[u8; 32],
) -> Result<Vec<u8>, TpmError> {
    let unique = secret.expose(|bytes| {
        Sha256::new()
            .chain_update(obfuscation)
            .chain_update(bytes)
            .finalize()
    });
    let mut area = [&KEYEDHASH[..], &SHA256, &ATTRIBUTES].concat();
    put_2b(&mut area, policy)?;
    area.extend_from_slice(&NO_SCHEME);
    put_2b(&mut area, &unique)?;
    Ok(area)
}

/// `TPM2B_SENSITIVE`.
fn sensitive_area(
    secret: &SealedSecret,
    auth: &[u8],
    obfuscation: &[u8; 32],
) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    // Type and three sized fields of at most 32 bytes: a growing vector would leave copies behind.
    let mut area = Zeroizing::new(Vec::with_capacity(128));
    area.extend_from_slice(&KEYEDHASH);
    put_2b(&mut area, auth)?;
    put_2b(&mut area, obfuscation)?;
    secret.expose(|bytes| put_2b(&mut area, bytes))?;
    let mut sized = Zeroizing::new(Vec::with_capacity(130));
    put_2b(&mut sized, &area)?;
    Ok(sized)
}

impl Tpm {
    /// Turns what was sealed without this TPM into what only this TPM loads: a token's blob from now on, which older
    /// systemd opens too. The TPM loads it once. An object that does not wait for import comes back as it is.
    ///
    /// # Errors
    /// [`UnsealError::NotThisTpm`] when it was sealed to another storage key, or changed; [`UnsealError::Malformed`];
    /// [`UnsealError::Tpm`].
    pub fn import(&mut self, object: &SealedObject) -> Result<SealedObject, UnsealError> {
        let parts = object.parts().ok_or(UnsealError::Malformed)?;
        let Some(seed) = parts.seed else {
            self.load_once(object)?;
            return Ok(object.clone());
        };
        let mut result = Err(UnsealError::NotThisTpm);
        for template in self.templates(&object.primary_alg.templates()) {
            let (public, private, seed) = (&parts.public, parts.private.clone(), seed.clone());
            result = self.with_storage_parent(template, |tpm, parent| {
                let private = tpm.import_under(parent, public, private, seed)?;
                Ok::<_, UnsealError>(SealedObject::new(
                    &private,
                    public,
                    object.policy_hash,
                    object.primary_alg,
                )?)
            });
            if result.as_ref().err() != Some(&UnsealError::NotThisTpm) {
                break;
            }
        }
        let imported = result?;
        self.load_once(&imported)?;
        Ok(imported)
    }

    pub(crate) fn import_under(
        &mut self,
        parent: KeyHandle,
        public: &Public,
        private: Private,
        seed: EncryptedSecret,
    ) -> Result<Private, UnsealError> {
        let public = public.clone();
        let imported = self
            .with_password(|c| {
                c.import(
                    parent.into(),
                    None,
                    public,
                    private,
                    seed,
                    SymmetricDefinitionObject::Null,
                )
            })
            .doing("import the sealed secret");
        match imported {
            // A seed for another key does not decrypt (RSA; swtpm calls that a failure, and goes on), is no point
            // (P-256) or gives another HMAC key.
            Err(error)
                if matches!(
                    error.cause(),
                    Some(Cause::Integrity | Cause::BadParameter | Cause::Unsupported | Cause::FailureMode)
                ) =>
            {
                Err(UnsealError::NotThisTpm)
            }
            other => Ok(other?),
        }
    }
}
