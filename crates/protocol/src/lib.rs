//! The wire contract between a device and the proxy, version 1, both ends. `docs/protocol.md` is its twin in prose,
//! `vectors/v1.json` its twin in bytes.
//!
//! Owns: headers, nonces, what a quote is bound to, session tokens, request signatures, the table of refusals.
//! Refuses: to know a clock, randomness, a file or a socket: `now`, nonces and keys are arguments.
//! Called by the proxy (issue, check, mint, open, verify) and the edge client (read, bind, sign).
//! An attacker controls every header, every message and its time of arrival; nothing here takes an identity from a
//! request, only the digest of its PSK, by which the caller finds the record that says whom it is about.

pub mod binding;
pub mod credentials;
pub mod headers;
pub mod keys;
mod lp;
pub mod messages;
pub mod nonce;
pub mod refusal;
mod refused;
pub mod replay;
pub mod signature;
mod spans;
mod subject;
pub mod token;

pub use keys::{FleetKeys, KeyRing};
pub use lp::{Fields, TooLong, lp};
pub use refusal::{ErrorShape, Refusal};
pub use subject::Subject;
