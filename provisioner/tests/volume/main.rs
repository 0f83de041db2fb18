//! `volume` and `inventory` on software TPMs, with cryptsetup, systemd, age and tpm2-tools as judges.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

#[path = "../common/mod.rs"]
mod common;

mod away;
mod bench;
mod create;
mod generation;
mod otp;
mod recover;
mod refused;
mod reseal;
mod secret;
mod traced;
mod two_tokens;
