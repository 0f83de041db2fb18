//! A sealed object outside the TPM: the two parts that the TPM needs back, and the policy under which it releases it.
//!
//! Owns: the marshalled form that a `systemd-tpm2` token carries (`TPM2B_PRIVATE`, then `TPM2B_PUBLIC`, and a seed where it
//! waits to be imported), and its parsing. An attacker may have written the bytes: a sealed object that releases under
//! less than its policy is refused. One that was imported is neither fixedTPM nor fixedParent; it still cannot leave, because
//! TPM2_Duplicate wants a policy that names this command, and none that is made here does.

use std::{fmt, str::FromStr};

use tss_esapi::{
    interface_types::algorithm::HashingAlgorithm,
    structures::{EncryptedSecret, Private, Public},
    traits::{Marshall as _, UnMarshall as _},
};

use crate::{TpmError, ak::unsized_2b, error::Doing as _};

/// A secret that only one TPM opens, and only under its policy. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    /// `TPM2B_PRIVATE`, then `TPM2B_PUBLIC`, marshalled: a token's `tpm2-blob`. Where it was sealed without the TPM and
    /// that TPM has not imported it yet, a `TPM2B_ENCRYPTED_SECRET` follows, as systemd 255 writes it.
    pub private_then_public: Vec<u8>,
    /// The digest of the policy: a token's `tpm2-policy-hash`.
    pub policy_hash: [u8; 32],
    /// The template of the primary that it is sealed under: a token's `tpm2-primary-alg`.
    pub primary_alg: PrimaryAlg,
}

/// Which primary of systemd's a sealed object is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryAlg {
    /// P-256; what this crate seals under.
    Ecc,
    /// RSA-2048; systemd takes it where a TPM lacks P-256. Opened, never made.
    Rsa,
}

/// Why a text is no [`PrimaryAlg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a primary key's algorithm is ecc or rsa")]
pub struct InvalidPrimaryAlg;

impl PrimaryAlg {
    /// As a token has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ecc => "ecc",
            Self::Rsa => "rsa",
        }
    }
}

impl fmt::Display for PrimaryAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PrimaryAlg {
    type Err = InvalidPrimaryAlg;

    fn from_str(text: &str) -> Result<Self, InvalidPrimaryAlg> {
        match text {
            "ecc" => Ok(Self::Ecc),
            "rsa" => Ok(Self::Rsa),
            _ => Err(InvalidPrimaryAlg),
        }
    }
}

impl SealedObject {
    pub(crate) fn new(
        private: &Private,
        public: &Public,
        policy_hash: [u8; 32],
        primary_alg: PrimaryAlg,
    ) -> Result<Self, TpmError> {
        let public = public.marshall().doing("read a public area")?;
        let mut blob = Vec::new();
        for part in [private.value(), &public] {
            let size =
                u16::try_from(part.len()).map_err(|_| TpmError::Nonsense("a sealed object of that size"))?;
            blob.extend_from_slice(&size.to_be_bytes());
            blob.extend_from_slice(part);
        }
        Ok(Self {
            private_then_public: blob,
            policy_hash,
            primary_alg,
        })
    }

    /// Whether it was sealed without its TPM, and this has not imported it yet.
    #[must_use]
    pub fn waits_for_import(&self) -> bool {
        self.parts().is_some_and(|parts| parts.seed.is_some())
    }

    /// Takes the parts apart. `None`: malformed, or not a sealed object that `policy_hash` alone releases.
    pub(crate) fn parts(&self) -> Option<Parts> {
        let (private, rest) = first_2b(&self.private_then_public)?;
        let (area, rest) = first_2b(rest)?;
        let seed = match rest {
            [] => None,
            seed => Some(EncryptedSecret::try_from(unsized_2b(seed)?).ok()?),
        };
        let private = Private::try_from(private).ok()?;
        let public = Public::unmarshall(area).ok()?;
        // What tpm2-tss parsed must be all that was there.
        if public.marshall().ok()? != area {
            return None;
        }
        let Public::KeyedHash {
            object_attributes,
            name_hashing_algorithm,
            auth_policy,
            ..
        } = &public
        else {
            return None;
        };
        let fixed = (object_attributes.fixed_tpm(), object_attributes.fixed_parent());
        // Made here or imported, nothing between; and what waits for import was not made here.
        let origin = matches!((fixed, &seed), ((true, true), None) | ((false, false), _));
        let sound = *name_hashing_algorithm == HashingAlgorithm::Sha256
            && auth_policy.value() == self.policy_hash
            && origin
            && !object_attributes.user_with_auth();
        sound.then_some(Parts {
            private,
            public,
            seed,
        })
    }
}

/// What TPM2_Load takes, or TPM2_Import where there is a seed.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) private: Private,
    pub(crate) public: Public,
    pub(crate) seed: Option<EncryptedSecret>,
}

/// The content of the `TPM2B` at the beginning, and what follows it.
fn first_2b(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_that_its_policy_does_not_guard_is_refused() {
        let private = Private::try_from([1; 40].as_slice()).unwrap();
        let sealed = crate::template::sealed(&[7; 32]).unwrap();
        let good = SealedObject::new(&private, &sealed, [7; 32], PrimaryAlg::Ecc).unwrap();
        assert!(good.parts().is_some());
        let other_policy = SealedObject {
            policy_hash: [8; 32],
            ..good.clone()
        };
        assert!(other_policy.parts().is_none());
        let key = crate::template::attestation_key().unwrap();
        assert!(
            SealedObject::new(&private, &key, [7; 32], PrimaryAlg::Ecc)
                .unwrap()
                .parts()
                .is_none()
        );
        for cut in 0..good.private_then_public.len() {
            let blob = good.private_then_public.get(..cut).unwrap().to_vec();
            assert!(
                SealedObject {
                    private_then_public: blob,
                    ..good.clone()
                }
                .parts()
                .is_none(),
                "{cut}"
            );
        }
        let mut longer = good.clone();
        longer.private_then_public.push(0);
        assert!(longer.parts().is_none());
        let mut half_fixed = good.clone();
        // fixedTPM is bit 1, fixedParent bit 4.
        half_fixed.private_then_public[2 + 40 + 2 + 4 + 3] ^= 1 << 1;
        assert!(half_fixed.parts().is_none());
        half_fixed.private_then_public[2 + 40 + 2 + 4 + 3] ^= 1 << 4;
        assert!(half_fixed.parts().is_some() && !half_fixed.waits_for_import());
        half_fixed.private_then_public.extend([0, 1, 7]);
        assert!(half_fixed.waits_for_import());
        half_fixed.private_then_public[2 + 40 + 2 + 4 + 3] ^= 1 << 4 | 1 << 1;
        assert!(half_fixed.parts().is_none());
        let mut by_password = good;
        // userWithAuth is bit 6 of the attributes, which follow type and nameAlg.
        by_password.private_then_public[2 + 40 + 2 + 4 + 3] |= 1 << 6;
        assert!(by_password.parts().is_none());
    }

    #[test]
    fn primary_algorithms_have_their_token_names() {
        assert_eq!("ecc".parse(), Ok(PrimaryAlg::Ecc));
        assert_eq!("rsa".parse::<PrimaryAlg>().unwrap().to_string(), "rsa");
        assert_eq!("ECC".parse::<PrimaryAlg>(), Err(InvalidPrimaryAlg));
    }
}
