//! The TPM 2.0: endorsement key, attestation key, sealing, quotes. The only user of tss-esapi.
//!
//! Owns: the connection, and every transient object and session that it opens on the TPM: each is flushed on every
//! path, because a TPM has three slots of either kind and an edge device often no resource manager.
//! Refuses: to seal to PCRs into which nothing was measured, and to hand out an AK whose qualified name does not show
//! it to be a child of the EK.
//! Sealing: [`Conditions`] say what releases a secret (exact PCRs, a signed policy, a PIN, in systemd's order),
//! [`SealOptions`] under which storage key it is: systemd 252's own or the TCG's at 0x81000001. [`seal_for`] seals to a TPM
//! that is not here. [`Tpm::cap`] closes the door after opening, [`Tpm::check_generation`] refuses an older volume.
//! Who may call: `provisioner` and `edge-client`. Everything blocks: async code uses `spawn_blocking`.
//! An attacker may sit on the bus between CPU and TPM: secrets cross it in salted sessions with parameter encryption
//! (AES-128-CFB). That holds against a listener; against an interposer only where the caller has pinned the salting key
//! ([`Tpm::pin_storage_keys`]). Limits: the endorsement key, which salts activation, is not pinned here; hierarchies have
//! empty passwords.
//! tpm2-tss writes to stderr on its own: see [`quiet`].

mod ak;
mod cap;
mod code;
mod conditions;
mod ek;
mod error;
mod handle;
mod import;
mod info;
mod inventory;
mod leftover;
mod object;
mod pcrs;
mod pin;
mod policy;
pub mod quiet;
mod quote;
mod rollback;
mod seal;
mod session;
mod signed;
mod srk;
mod tcti;
mod template;
mod unseal;

pub use ak::AkInfo;
pub use cap::Opening;
pub use code::{Cause, ResponseCode};
pub use conditions::{Conditions, SignedPcrs};
pub use domain::Generation;
pub use ek::EkInfo;
pub use error::TpmError;
pub use evidence::{Counters, StorageKey, StorageTemplate, ek::EkAlg};
pub use handle::{AkHandle, InvalidHandle};
pub use import::{SealEntropy, seal_for};
pub use info::Identity;
pub use inventory::{Inventory, InventoryEk, InventorySrk};
pub use object::{InvalidPrimaryAlg, PrimaryAlg, SealedObject};
pub use pin::{PinAuth, PinSalt};
pub use quote::Quote;
pub use rollback::{InvalidIndex, NotRolledBack, RollbackError, RollbackIndex};
pub use seal::{ReadBack, SealError, SealOptions};
pub use session::Tpm;
pub use signed::{
    Approval, InvalidPolicyKey, InvalidSignatures, KeyForm, PolicyKey, PolicySignatures, UninitialisedPcr,
    approval,
};
pub use srk::{SRK_HANDLE, SrkPin, srk_from_token, srk_to_token};
pub use tcti::{InvalidTcti, Tcti};
pub use unseal::UnsealError;
