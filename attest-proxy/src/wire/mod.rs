//! The client's connection below hyper: bytes are looked at as they came, and time is kept.
//!
//! Owns: the framing rules that hyper does not have ([`vet`] for HTTP/1, [`frames`] for HTTP/2), the marks by which the listener knows that a client takes
//! too long for a head, for the next request, or to take its answer ([`conn`]), and who that client is ([`peer`]).

mod conn;
mod framed;
mod frames;
mod guarded;
mod peer;
mod vet;

pub use conn::{Busy, Conn, Overdue};
pub use framed::Framed;
pub use guarded::Guarded;
pub use peer::{Peer, PeerGroup};
pub use vet::Violation;
