//! The client's connection below hyper: bytes are looked at as they came, and time is kept.
//!
//! Owns: the framing rules that hyper does not have ([`vet`]), and the deadlines for head, body, idling and a client
//! that takes no bytes ([`guarded`]).

mod guarded;
mod vet;

pub use guarded::{Busy, Conn, Guarded};
pub use vet::Violation;
