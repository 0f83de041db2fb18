//! The TPM 2.0: endorsement key, attestation key, sealing, quotes. The only user of tss-esapi.
//!
//! Owns: the connection, and every transient object and session that it opens on the TPM: each is flushed on every
//! path, because a TPM has three slots of either kind and an edge device often no resource manager.
//! Refuses: to seal to PCRs into which nothing was measured, and to hand out an AK whose qualified name does not show
//! it to be a child of the EK.
//! Who may call: `provisioner` and `edge-client`. Everything blocks: async code uses `spawn_blocking`.
//! An attacker may sit on the bus between CPU and TPM: secrets cross it in salted sessions with parameter encryption
//! (AES-128-CFB). Limits: the salting key is what the TPM says it is, it is not pinned yet, so this holds against a
//! listener and not against an interposer; hierarchies have empty passwords.
//! tpm2-tss writes to stderr on its own: see [`quiet`].

mod ak;
mod code;
mod ek;
mod error;
mod handle;
mod info;
mod leftover;
mod object;
mod pcrs;
pub mod quiet;
mod quote;
mod seal;
mod session;
mod tcti;
mod template;
mod unseal;

pub use ak::AkInfo;
pub use code::{Cause, ResponseCode};
pub use ek::EkInfo;
pub use error::TpmError;
pub use evidence::{Counters, ek::EkAlg};
pub use handle::{AkHandle, InvalidHandle};
pub use info::Identity;
pub use object::{InvalidPrimaryAlg, PrimaryAlg, SealedObject};
pub use quote::Quote;
pub use seal::SealError;
pub use session::Tpm;
pub use tcti::{InvalidTcti, Tcti};
pub use unseal::UnsealError;
