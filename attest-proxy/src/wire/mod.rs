//! The client's connection below hyper: bytes are looked at as they came, and time is kept.
//!
//! Owns: the framing rules that hyper does not have ([`vet`] for HTTP/1, [`frames`] for HTTP/2), that hyper is given one request
//! of HTTP/1 at a time ([`requests`]), the marks by which the listener knows that a client takes too long for a head, for the
//! next request, or to take its answer ([`conn`]), and who that client is ([`peer`]).

mod chunk;
mod conn;
mod framed;
mod frames;
mod io;
mod line;
mod peer;
mod requests;
mod vet;

pub(crate) use chunk::ChunkLine;
pub use conn::{Busy, Conn, Overdue};
pub use framed::Framed;
pub use peer::{Peer, PeerGroup};
pub use requests::Guarded;
pub use vet::Violation;
