//! The parts of the soak: who takes part, what is shared, and what is made of it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

pub mod clients;
pub mod curve;
pub mod field;
pub mod report;
pub mod server;
pub mod strangers;
