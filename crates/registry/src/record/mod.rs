//! The records that the registry holds, as JSON: devices, policies, what was last seen of a device, and what it spent.
//!
//! Owns: their shape (wire contract, "Registry layout") and the reading of it. A record is understood wholly or not at
//! all: an unknown field, another version or a value out of bounds makes it [`Unreadable`], and whoever reads refuses
//! the device. Pure. Any reader of the registry may call it.
//! An attacker who can write to the registry controls the bytes; every length is bounded, and no text of a record
//! reaches a log unescaped.

mod bounds;
mod decode;
mod device;
mod policy;
mod seen;
mod spent;

pub(crate) use decode::{decode, encode, encode_seen};

pub use decode::{MAX_RECORD_LEN, Unreadable, Version1};
pub use device::{CertifiedTpm, DeviceRecord, DeviceState, EkTrust, PreviousPsk, PskSlots, TpmIdentity};
pub use policy::{CertificateRule, PolicyRecord, SESSION_TTL_MAX, SESSION_TTL_MIN};
pub use seen::SeenRecord;
pub use spent::{Day, ReplicaId, Running, SpentRecord};

#[cfg(test)]
mod tests;
