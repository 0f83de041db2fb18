//! What an appraisal takes: what was sent, and what is expected of it.
//!
//! Owns: the line between both. An attacker controls all of [`Evidence`] and [`Attachments`]; [`Expected`] is ours, from
//! the registry and our own challenge, and never from the request.

use crate::{ak::AttestationKey, freshness::Counters, policy::PcrPolicy};

/// Unverified bytes as they came.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// `TPMS_ATTEST`, without the size of a `TPM2B_ATTEST`.
    pub quote: &'a [u8],
    /// `TPMT_SIGNATURE` over it.
    pub signature: &'a [u8],
    /// The values of the quoted PCRs, concatenated in ascending index.
    pub pcrs: &'a [u8],
}

/// Unverified bytes that some policies want beside a quote. None by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attachments<'a> {
    /// The boot's event log, as the kernel's `binary_bios_measurements` has it.
    pub event_log: Option<&'a [u8]>,
    /// The file of a signed image statement.
    pub image_statement: Option<&'a [u8]>,
}

/// What the quote must be, from the registry and our own challenge.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The device's registered AK.
    pub ak: &'a AttestationKey,
    /// What the quote must be bound to: its `extraData`.
    pub qualifying_data: &'a [u8; 32],
    /// The counters of the quote that was accepted last from this AK.
    pub last: Option<&'a Counters>,
    /// What the PCRs must hold.
    pub policy: &'a PcrPolicy,
}
