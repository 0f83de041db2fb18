//! Clients' connections.
//!
//! Owns: how many there may be ([`places`]), how one is served from its first byte to its last ([`connection`],
//! [`http1`], [`http2`]), for whom it speaks ([`proxy_header`]), and its one timer ([`pace`]).
//! An attacker controls how many come, from where, every byte of them and when it comes.

mod accept;
mod connection;
mod http1;
mod http2;
mod open;
mod pace;
mod places;
pub mod proxy_header;
mod streams;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use accept::{Trouble, accept};
pub(crate) use connection::{Shared, Turns, run, turn_away};
pub(crate) use open::open;
pub(crate) use places::{Place, Places};

/// What a connection's bytes come from and go to.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}
