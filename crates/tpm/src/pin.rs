//! From a PIN to a TPM object's authValue, as systemd does it.
//!
//! Owns: both recipes. systemd 252 hashes the PIN (`hash_pin`); later ones derive it with PBKDF2 over the salt in the token
//! first (`tpm2_util_pbkdf2_hmac_sha256`) and hash the base64 text of that. The TPM slows guessing down, by its lockout;
//! the salt keeps somebody who opens a TPM from looking PINs up in a table.

use std::num::NonZeroU32;

use data_encoding::BASE64;
use domain::Pin;
use ring::pbkdf2;
use sha2::{Digest as _, Sha256};
use tss_esapi::structures::Auth;
use zeroize::Zeroizing;

use crate::{TpmError, error::Doing as _};

/// systemd's `PBKDF2_HMAC_SHA256_ITERATIONS`.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// A token's `tpm2_salt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinSalt(pub [u8; 32]);

/// The PIN, and how it becomes an authValue.
#[derive(Clone, Copy)]
pub struct PinAuth<'a> {
    /// What was typed.
    pub pin: &'a Pin,
    /// systemd 252 has none.
    pub salt: Option<PinSalt>,
}

impl PinAuth<'_> {
    pub(crate) fn auth(&self) -> Result<Auth, TpmError> {
        Auth::try_from(self.value().as_slice()).doing("take the PIN")
    }

    /// Without trailing zeros, which the TPM takes off too (part 1, 17.6.4.3).
    pub(crate) fn value(&self) -> Zeroizing<Vec<u8>> {
        let digest: Zeroizing<[u8; 32]> = Zeroizing::new(self.pin.expose(|pin| {
            let Some(PinSalt(salt)) = self.salt else {
                return Sha256::digest(pin).into();
            };
            let mut key = Zeroizing::new([0; 32]);
            pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                ITERATIONS,
                &salt,
                pin,
                key.as_mut_slice(),
            );
            Sha256::digest(Zeroizing::new(BASE64.encode(key.as_slice())).as_bytes()).into()
        }));
        let zeros = digest.iter().rev().take_while(|byte| **byte == 0).count();
        let kept = digest.len().saturating_sub(zeros);
        Zeroizing::new(digest.iter().copied().take(kept).collect())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn value(pin: &str, salt: Option<PinSalt>) -> String {
        let pin = Pin::parse(pin.as_bytes()).unwrap();
        HEXLOWER.encode(&PinAuth { pin: &pin, salt }.value())
    }

    #[test]
    fn both_recipes_are_those_of_other_tools() {
        // printf 1234 | sha256sum
        assert_eq!(
            value("1234", None),
            "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"
        );
        // python3: sha256(b64encode(pbkdf2_hmac('sha256', b'1234', bytes([7]*32), 10000)))
        assert_eq!(
            value("1234", Some(PinSalt([7; 32]))),
            "96891797b8b6bad098faf71a06c0ef56e687b841b1eef0577da6d953efea8e87"
        );
    }

    #[test]
    fn trailing_zeros_are_taken_off() {
        assert_eq!(value("403", None).len(), 62);
    }
}
