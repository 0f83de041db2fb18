//! The secret of a volume out of the TPM: one token after the other, until one is released.
//!
//! Owns: that nothing is read and nobody is asked before a token wants it, and then once; and that one typing
//! mistake does not use up the TPM's patience: a header may have many tokens with PINs, and each that is tried counts.

use domain::{Pin, SealedSecret};
use tpm::{Cause, InvalidPolicyKey, PolicySignatures, Tpm, UnsealError};
use volume::{TokenPin, Tpm2Token};

use crate::{conditions, object, policy_key};

/// To how many tokens a PIN is shown that is not theirs. Several people may have each their own.
const MAX_WRONG: usize = 3;

/// Where the answers to a token's questions come from. Each is asked for at most once.
pub struct Answers<'a, E> {
    /// What approves of PCR values, if there is anything.
    pub signatures: &'a mut dyn FnMut() -> Result<Option<PolicySignatures>, E>,
    /// The PIN.
    pub pin: &'a mut dyn FnMut() -> Result<Pin, E>,
}

/// What the TPM released.
pub struct Released {
    /// The secret.
    pub secret: SealedSecret,
    /// The token under which it did. No MAC covers tokens: of all that are there, this one's conditions are believed.
    pub token: Tpm2Token,
    /// The PIN, where that token wants one.
    pub pin: Option<Pin>,
}

/// Why no token was released: a wrong PIN, or else the first one's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReleased {
    /// There is none.
    #[error("the volume has no token of a TPM")]
    NoToken,
    /// A token names no key that could approve of PCR values.
    #[error("the volume's token cannot be used")]
    PolicyKey(#[source] InvalidPolicyKey),
    /// The TPM.
    #[error("the TPM does not release the volume's secret")]
    Unseal(#[source] UnsealError),
}

/// Has the TPM release the secret of the first of these tokens that it can.
///
/// # Errors
/// [`NotReleased`], and whatever an answer fails with.
pub fn release<E: From<NotReleased>>(
    tpm: &mut Tpm,
    tokens: &[Tpm2Token],
    answers: Answers<'_, E>,
) -> Result<Released, E> {
    let Answers {
        signatures: find,
        pin: ask,
    } = answers;
    let mut refused = None;
    let mut signatures = None;
    let mut pin = None;
    let mut wrong: usize = 0;
    for token in tokens {
        let key = match policy_key(token) {
            Ok(key) => key,
            Err(error) => {
                refused = refused.or(Some(NotReleased::PolicyKey(error)));
                continue;
            }
        };
        if key.is_some() && signatures.is_none() {
            signatures = Some(find()?);
        }
        if token.pin != TokenPin::None && pin.is_none() {
            pin = Some(ask()?);
        }
        let approved = signatures.as_ref().and_then(Option::as_ref);
        let shown = conditions(token, key.as_ref(), approved, pin.as_ref());
        match tpm.unseal_with(&object(token), &shown) {
            Ok(secret) => {
                return Ok(Released {
                    secret,
                    token: token.clone(),
                    pin: pin.filter(|_| token.pin != TokenPin::None),
                });
            }
            Err(UnsealError::WrongPin) => {
                wrong = wrong.saturating_add(1);
                refused = Some(NotReleased::Unseal(UnsealError::WrongPin));
                if wrong >= MAX_WRONG {
                    break;
                }
            }
            // Nothing else will be released either.
            Err(UnsealError::Tpm(error)) if error.cause() == Some(Cause::Lockout) => {
                refused = Some(NotReleased::Unseal(error.into()));
                break;
            }
            Err(error) => refused = refused.or(Some(NotReleased::Unseal(error))),
        }
    }
    Err(refused.unwrap_or(NotReleased::NoToken).into())
}
