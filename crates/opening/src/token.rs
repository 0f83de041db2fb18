//! What a volume's token asks for, in the words of the TPM.

use domain::Pin;
use tpm::{
    Conditions, InvalidPolicyKey, PinAuth, PinSalt, PolicyKey, PolicySignatures, SealedObject, SignedPcrs,
};
use volume::{TokenPin, Tpm2Token};

/// The key that a token with a signed policy names; `None` where it has none.
///
/// # Errors
/// [`InvalidPolicyKey`].
pub fn policy_key(token: &Tpm2Token) -> Result<Option<PolicyKey>, InvalidPolicyKey> {
    let signed = token.signed.as_ref();
    signed
        .map(|signed| PolicyKey::from_pem(&signed.key_pem))
        .transpose()
}

/// What a token asks for. `key`: that of [`policy_key`]. A PIN is taken where the token wants one.
#[must_use]
pub fn conditions<'a>(
    token: &Tpm2Token,
    key: Option<&'a PolicyKey>,
    signatures: Option<&'a PolicySignatures>,
    pin: Option<&'a Pin>,
) -> Conditions<'a> {
    let salt = match token.pin {
        TokenPin::Salted(salt) => Some(PinSalt(salt)),
        TokenPin::None | TokenPin::Plain => None,
    };
    let signed = token.signed.as_ref().zip(key);
    Conditions {
        exact: token.exact,
        signed: signed.map(|(signed, key)| SignedPcrs {
            key,
            pcrs: signed.pcrs,
            signatures,
        }),
        pin: pin
            .filter(|_| token.pin != TokenPin::None)
            .map(|pin| PinAuth { pin, salt }),
    }
}

/// The object in a token, as the TPM takes it.
#[must_use]
pub fn object(token: &Tpm2Token) -> SealedObject {
    SealedObject {
        private_then_public: token.blob.clone(),
        policy_hash: token.policy_hash,
        primary_alg: match token.primary_alg {
            volume::PrimaryAlg::Ecc => tpm::PrimaryAlg::Ecc,
            volume::PrimaryAlg::Rsa => tpm::PrimaryAlg::Rsa,
        },
    }
}
