//! The tests from outside of the crate, in one binary: linking one takes longer than running it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod credentials;
mod docs;
mod limits;
mod replay;
mod signature;
mod vectors;
