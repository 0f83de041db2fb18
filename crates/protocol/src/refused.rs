//! Which refusal each error of this crate becomes.
//!
//! Owns: the step from what the operator reads to what the client gets. The errors are many and precise, the refusals
//! few: what a client could learn from the difference is of use to an attacker alone.

use crate::{
    Refusal, credentials::CredentialsError, nonce, replay::ReplayError, signature::KeyError,
    signature::SignatureError, token,
};

impl From<CredentialsError> for Refusal {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::PskMissing => Self::PskMissing,
            CredentialsError::PskImpossible => Self::PskUnknown,
            CredentialsError::Repeated(_)
            | CredentialsError::TwoPsks
            | CredentialsError::NotBearer
            | CredentialsError::Twin(_)
            | CredentialsError::Half { .. }
            | CredentialsError::Both
            | CredentialsError::Value(_) => Self::RequestMalformed,
        }
    }
}

impl From<nonce::Invalid> for Refusal {
    fn from(_: nonce::Invalid) -> Self {
        Self::EvidenceStale
    }
}

impl From<token::OpenError> for Refusal {
    fn from(error: token::OpenError) -> Self {
        match error {
            token::OpenError::Expired(_) => Self::SessionExpired,
            token::OpenError::Malformed | token::OpenError::UnknownKey | token::OpenError::Forged => {
                Self::SessionInvalid
            }
        }
    }
}

impl From<token::Mismatch> for Refusal {
    fn from(_: token::Mismatch) -> Self {
        Self::SessionInvalid
    }
}

impl From<KeyError> for Refusal {
    fn from(_: KeyError) -> Self {
        Self::EvidenceInvalid
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Syntax(_) => Self::RequestMalformed,
            SignatureError::Digest
            | SignatureError::Label(_)
            | SignatureError::Components
            | SignatureError::Parameters
            | SignatureError::Created { .. }
            | SignatureError::Key(_)
            | SignatureError::Forged
            | SignatureError::Body => Self::SignatureInvalid,
        }
    }
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::NonceSeen | ReplayError::NonceLate { .. } => Self::EvidenceStale,
            ReplayError::RequestLate { .. } => Self::SignatureInvalid,
            ReplayError::RequestSeen | ReplayError::BeforeStart { .. } => Self::RequestReplayed,
            ReplayError::Full => Self::Overloaded,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::UnixTime;

    use super::*;

    #[test]
    fn sessions_and_evidence_end_as_the_contract_says() {
        let then = UnixTime::from_secs(1);
        let cases: [(Refusal, Refusal); 12] = [
            (nonce::Invalid::Forged.into(), Refusal::EvidenceStale),
            (nonce::Invalid::Length.into(), Refusal::EvidenceStale),
            (token::OpenError::Expired(then).into(), Refusal::SessionExpired),
            (token::OpenError::Malformed.into(), Refusal::SessionInvalid),
            (token::OpenError::UnknownKey.into(), Refusal::SessionInvalid),
            (token::OpenError::Forged.into(), Refusal::SessionInvalid),
            (
                token::Mismatch { claim: "device" }.into(),
                Refusal::SessionInvalid,
            ),
            (KeyError::SmallOrder.into(), Refusal::EvidenceInvalid),
            (
                SignatureError::Key(KeyError::SmallOrder).into(),
                Refusal::SignatureInvalid,
            ),
            (SignatureError::Body.into(), Refusal::SignatureInvalid),
            (SignatureError::Forged.into(), Refusal::SignatureInvalid),
            (
                SignatureError::Syntax("signature").into(),
                Refusal::RequestMalformed,
            ),
        ];
        for (refusal, expected) in cases {
            assert_eq!(refusal, expected);
        }
    }
}
