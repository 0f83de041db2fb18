//! Digests of policies, computed outside the TPM.
//!
//! Owns: the arithmetic of PolicyPCR, PolicyAuthorize and PolicyAuthValue (TPM 2.0 Library part 3, 23), in the order that
//! systemd gives them. A signed policy comes first, because PolicyAuthorize forgets what was before it; then exact PCRs,
//! then the PIN.
//! Who may call: this crate. Pure.

use domain::{PcrSelection, PcrValues, TpmName};
use sha2::{Digest as _, Sha256};

/// `TPM_CC` (TPM 2.0 Library part 2, 6.5.2).
const CC_POLICY_AUTHORIZE: u32 = 0x0000_016a;
const CC_POLICY_AUTH_VALUE: u32 = 0x0000_016b;
const CC_POLICY_PCR: u32 = 0x0000_017f;

/// A policy session's digest, SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyDigest([u8; 32]);

impl PolicyDigest {
    /// Of a session in which nothing was asked yet.
    pub(crate) const START: Self = Self([0; 32]);

    pub(crate) const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// After PolicyPCR (23.7).
    pub(crate) fn pcr(self, pcrs: &PcrValues) -> Self {
        Self(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(CC_POLICY_PCR.to_be_bytes())
                .chain_update(marshalled_selection(pcrs.selection()))
                // The hash of the policy session, not that of the bank.
                .chain_update(Sha256::digest(pcrs.as_bytes()))
                .finalize()
                .into(),
        )
    }

    /// After PolicyAuthorize (23.16) with an empty policyRef, whatever was before.
    pub(crate) fn authorized_by(key: &TpmName) -> Self {
        let named = Sha256::new()
            .chain_update([0; 32])
            .chain_update(CC_POLICY_AUTHORIZE.to_be_bytes())
            .chain_update(key.as_bytes())
            .finalize();
        Self(Sha256::digest(named).into())
    }

    /// After PolicyAuthValue (23.17).
    pub(crate) fn auth_value(self) -> Self {
        Self(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(CC_POLICY_AUTH_VALUE.to_be_bytes())
                .finalize()
                .into(),
        )
    }
}

/// `TPML_PCR_SELECTION` with one entry of three octets.
fn marshalled_selection(selection: &PcrSelection) -> Vec<u8> {
    let [high, low] = selection.bank().tpm_id().to_be_bytes();
    let [a, b, c] = selection.bitmap();
    vec![0, 0, 0, 1, high, low, 3, a, b, c]
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use domain::{HashAlg, PcrIndex};

    use super::*;

    #[test]
    fn pcr_policy_has_systemds_value() {
        let seven = PcrIndex::try_from(7).unwrap();
        let selection = PcrSelection::new(HashAlg::Sha256, [seven]).unwrap();
        let policy = PolicyDigest::START.pcr(&PcrValues::new(selection, vec![0; 32]).unwrap());
        assert_eq!(
            HEXLOWER.encode(&policy.bytes()),
            "8b5682d81b29435d08d79278150611dc7e5923b2fefcce684a09577b40130a8b"
        );
    }

    #[test]
    fn a_pin_alone_has_the_tcgs_value() {
        // As `tpm2_policyauthvalue -L` writes it in a trial session.
        assert_eq!(
            HEXLOWER.encode(&PolicyDigest::START.auth_value().bytes()),
            "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e"
        );
    }
}
