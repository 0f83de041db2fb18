//! The parts of the simulations.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod events;
mod model;
mod quotes;
mod random;
mod requests;

pub use model::Sim;
pub use quotes::Quotes;
