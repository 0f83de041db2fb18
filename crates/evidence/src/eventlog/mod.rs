//! Measured-boot event logs: what the firmware and boot loaders say that they measured.
//!
//! Owns: reading the kernel's `binary_bios_measurements` in both of the TCG's formats (PC Client Platform Firmware Profile,
//! section 10: crypto-agile with its `Spec ID Event03` header, and the SHA-1 format without), and the replay to quoted
//! PCR values. [`EventLog::prove`] is the only way to a [`ProvenLog`]: a log that does not replay is worth nothing.
//! An attacker controls every byte. What a proof covers is the digests and their order in each quoted PCR, and data that
//! hashes to its digest; **never** an event's type, its number, events of PCRs that are not quoted, nor the header.
//! Refuses to judge what an event means: that is a policy's business.
//! Limits today: data is not decoded beyond text and UEFI variables.

mod event;
mod parse;
mod replay;

pub use event::{Digests, Event, EventType, UefiVariable};
pub use parse::{EventLog, LogError, LogFormat, MAX_LOG_LEN};
pub(crate) use replay::extend;
pub use replay::{Broken, ProvenLog, Unproven};
