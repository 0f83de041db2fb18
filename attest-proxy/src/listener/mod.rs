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

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

pub(crate) use accept::{Trouble, accept};
pub(crate) use connection::{Shared, Turns, run, turn_away};
pub(crate) use open::open;
pub(crate) use places::{Place, Places};

/// What a connection's bytes come from and go to.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Has the kernel forget what its client does not take, when the connection is dropped: else it keeps it for as long as the client
    /// likes, counted by nobody.
    fn abandon(&self);
}

impl Stream for TcpStream {
    fn abandon(&self) {
        // A connection that is gone already is gone.
        let _ = self.set_zero_linger();
    }
}

impl Stream for TlsStream<TcpStream> {
    fn abandon(&self) {
        self.get_ref().0.abandon();
    }
}
