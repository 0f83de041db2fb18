//! What clients that were killed left behind in a TPM that has no resource manager.
//!
//! Owns: flushing transient objects and loaded sessions when a connection to a TPM on a socket is opened. Such a TPM
//! (swtpm, the reference simulator) serves one client at a time, so when it answers us nobody else is connected, and
//! what is loaded belongs to nobody: without this, three killed runs fill its slots for good.
//! Untouched: saved sessions. A session file of tpm2-tools is one, lives on between two commands, and dies when it is
//! flushed; we never save any, so none is left over from us. The files of keys that tpm2-tools writes are whole
//! copies and load again. Only a bare handle (0x80000000) that somebody meant to use later is lost.
//! Never done behind a resource manager (`/dev/tpmrm0`, tabrmd), which flushes for clients that died, nor on other
//! devices, where others may have keys.

use tss_esapi::{constants::CapabilityType, structures::CapabilityData};

use crate::Tpm;

/// First handles of what takes a slot: loaded sessions of either kind, transient objects (TPM 2.0 Library part 2, 7.2
/// "`TPM_HT`").
const TAKES_A_SLOT: [u32; 2] = [0x0200_0000, 0x8000_0000];
/// More than any TPM has slots.
const MANY: u32 = 64;

impl Tpm {
    /// Flushes what is loaded. A TPM that refuses (not started, in failure mode) says so again to the first command
    /// that is wanted of it, with more sense.
    pub(crate) fn flush_leftovers(&mut self) {
        for first in TAKES_A_SLOT {
            let listed = self.plain(|c| c.get_capability(CapabilityType::Handles, first, MANY));
            let Ok((CapabilityData::Handles(list), _)) = listed else {
                continue;
            };
            for handle in list.into_inner() {
                // tss-esapi calls the flushing of a policy session an error after it is done.
                let _ = self
                    .plain(|c| c.tr_from_tpm_public(handle))
                    .and_then(|object| self.context.flush_context(object));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::Swtpm;
    use tss_esapi::{
        constants::SessionType,
        interface_types::{algorithm::HashingAlgorithm, resource_handles::Hierarchy},
        structures::SymmetricDefinition,
    };

    use super::*;
    use crate::{Cause, EkAlg, StorageTemplate, template};

    fn open(swtpm: &Swtpm) -> Tpm {
        Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap()
    }

    #[test]
    fn full_slots_are_explained() {
        let swtpm = Swtpm::start();
        let mut tpm = open(&swtpm);
        let storage = template::storage_parent(StorageTemplate::TcgEcc).unwrap();
        for _ in 0..3 {
            tpm.with_password(|c| {
                c.create_primary(Hierarchy::Owner, storage.clone(), None, None, None, None)
            })
            .unwrap();
        }
        let error = tpm.endorsement_key(EkAlg::EccP256).unwrap_err();
        assert_eq!(error.cause(), Some(Cause::ObjectSlotsFull), "{error}");
        assert!(error.hint().unwrap().contains("tpm2_flushcontext -t"));
        tpm.flush_leftovers();
        tpm.endorsement_key(EkAlg::EccP256).unwrap();
    }

    #[test]
    fn full_session_slots_are_explained() {
        let swtpm = Swtpm::start();
        let mut tpm = open(&swtpm);
        for kind in [SessionType::Hmac, SessionType::Policy, SessionType::Trial] {
            let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
            tpm.plain(|c| c.start_auth_session(None, None, None, kind, symmetric, hash))
                .unwrap();
        }
        let used = tpm.with_ek(EkAlg::EccP256, |tpm, ek, _| tpm.with_ek_policy(ek, |_, _| Ok(())));
        let error = used.unwrap_err();
        assert_eq!(error.cause(), Some(Cause::SessionSlotsFull), "{error}");
        assert!(error.hint().unwrap().contains("tpm2_flushcontext -l"));
        tpm.flush_leftovers();
        tpm.with_ek(EkAlg::EccP256, |tpm, ek, _| tpm.with_ek_policy(ek, |_, _| Ok(())))
            .unwrap();
    }
}
