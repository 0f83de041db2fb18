//! Sealing in all its kinds against a real software TPM, and against the stock tools that know the same kinds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod absent;
mod cap;
mod interposer;
mod inventory;
mod pin;
mod rollback;
mod signed;
mod support;
mod systemd;
