//! A sealed object outside the TPM: the two parts that the TPM needs back, and the policy under which it releases it.
//!
//! Owns: the marshalled form that a `systemd-tpm2` token carries (`TPM2B_PRIVATE`, then `TPM2B_PUBLIC`), its parsing, and
//! the computation of a PCR policy outside the TPM. An attacker may have written the bytes: a sealed object that releases
//! under less than its PCR policy is refused.

use std::{fmt, str::FromStr};

use domain::{PcrSelection, PcrValues};
use sha2::{Digest as _, Sha256};
use tss_esapi::{
    interface_types::algorithm::HashingAlgorithm,
    structures::{Private, Public},
    traits::{Marshall as _, UnMarshall as _},
};

use crate::{TpmError, ak::unsized_2b, error::Doing as _};

/// `TPM_CC_PolicyPCR` (TPM 2.0 Library part 2, 6.5.2).
const CC_POLICY_PCR: u32 = 0x0000_017f;

/// A secret that only one TPM opens, and only while its PCRs are what they were. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    /// `TPM2B_PRIVATE`, then `TPM2B_PUBLIC`, marshalled: a token's `tpm2-blob`.
    pub private_then_public: Vec<u8>,
    /// The digest of the policy, PolicyPCR alone: a token's `tpm2-policy-hash`.
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

    /// Takes the parts apart. `None`: malformed, or not a sealed object that `policy_hash` alone releases.
    pub(crate) fn parts(&self) -> Option<(Private, Public)> {
        let blob = self.private_then_public.as_slice();
        let size = blob
            .first_chunk()
            .map(|size| usize::from(u16::from_be_bytes(*size)))?;
        let (private, public) = blob.split_at_checked(size.checked_add(2)?)?;
        let private = Private::try_from(unsized_2b(private)?).ok()?;
        let area = unsized_2b(public)?;
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
        let sound = *name_hashing_algorithm == HashingAlgorithm::Sha256
            && auth_policy.value() == self.policy_hash
            && object_attributes.fixed_tpm()
            && object_attributes.fixed_parent()
            && !object_attributes.user_with_auth();
        sound.then_some((private, public))
    }
}

/// The digest of a policy session after PolicyPCR over these values (TPM 2.0 Library part 3, 23.7).
pub(crate) fn pcr_policy(pcrs: &PcrValues) -> [u8; 32] {
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(CC_POLICY_PCR.to_be_bytes())
        .chain_update(marshalled_selection(pcrs.selection()))
        // The hash of the policy session, not that of the bank.
        .chain_update(Sha256::digest(pcrs.as_bytes()))
        .finalize()
        .into()
}

/// `TPML_PCR_SELECTION` with one entry of three octets.
fn marshalled_selection(selection: &PcrSelection) -> Vec<u8> {
    let [high, low] = selection.bank().tpm_id().to_be_bytes();
    let [a, b, c] = selection.bitmap();
    vec![0, 0, 0, 1, high, low, 3, a, b, c]
}

#[cfg(test)]
mod tests {
    use domain::{HashAlg, PcrIndex};

    use super::*;

    #[test]
    fn pcr_policy_has_systemds_value() {
        let seven = PcrIndex::try_from(7).unwrap();
        let selection = PcrSelection::new(HashAlg::Sha256, [seven]).unwrap();
        let policy = pcr_policy(&PcrValues::new(selection, vec![0; 32]).unwrap());
        let hex = policy.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex,
            "8b5682d81b29435d08d79278150611dc7e5923b2fefcce684a09577b40130a8b"
        );
    }

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
