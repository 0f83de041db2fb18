//! What a measured boot means to a person: event data decoded, PCRs explained. Pure.
//!
//! Owns: the field names, which are those of `tpm2_eventlog` (tpm2-tools 5.4, `--eventlog-version=2`), so that scripts
//! for it read ours too; and the words for what a PCR holds. Judges nothing: a log is its firmware's word until it
//! replays to a quote, and even then an event's type is never proven.
//! An attacker controls every byte of a log; what cannot be decoded is shown as hexadecimal, and text is escaped.
//! Limits today: device paths are shown as hexadecimal.

mod decode;
mod log;
mod meaning;
mod node;
mod summary;
mod uefi;

pub(crate) use log::{as_node, as_table};
pub(crate) use meaning::pcr_meaning;
pub(crate) use summary::summary;
