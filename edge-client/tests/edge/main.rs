//! The program as its users meet it: run as a process, on a software TPM with a real sealed volume.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod ask;
mod cli;
mod conditions;
mod doctor;
mod expected;
mod otp;
mod quote;
mod support;
mod unlock;
