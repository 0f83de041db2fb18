//! One connection, from its first byte to its last.
//!
//! Owns: what comes before HTTP (a PROXY header, TLS), whose place the connection takes, and which HTTP it is: by ALPN
//! under TLS, by HTTP/2's preface without.
//! Refuses: to keep anything of a client waiting without a deadline.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    Place, Stream, http1,
    http1::Woken,
    http2,
    pace::Pace,
    proxy_header::{self, Announced, ReadError},
};
use crate::{
    metrics::Cut,
    service::Proxy,
    tls::{self, Acceptor},
    wire::{Conn, Guarded, Peer},
};

/// What the connections of a listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) proxy: Arc<Proxy>,
    /// TLS handshakes at one time.
    pub(crate) handshakes: Turns,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves a connection to its end.
pub(crate) async fn run(
    stream: TcpStream,
    peer: Peer,
    place: Place,
    tls: Option<Arc<Acceptor>>,
    shared: &Shared,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some((stream, peer)) = announced(stream, peer, shared).await else {
        return;
    };
    let proxy = &shared.proxy;
    let (trusted, http2) = {
        let tuned = proxy.tuned.load();
        (tuned.peers.trusts(peer.address()), tuned.http2)
    };
    let place = if trusted {
        Some(place)
    } else {
        place.belongs_to(peer.group())
    };
    let Some(place) = place else {
        return turn_away(&stream, proxy, tls.is_some());
    };
    match tls {
        // In boxes of their own: what waits without TLS has no room for it.
        None => Box::pin(drive(stream, peer, shared, http2)).await,
        Some(tls) => Box::pin(secured(stream, peer, tls, shared)).await,
    }
    drop(place);
}

/// Reads the PROXY header of a peer whose connections begin with one.
async fn announced(mut stream: TcpStream, peer: Peer, shared: &Shared) -> Option<(TcpStream, Peer)> {
    let proxy = &shared.proxy;
    let patience = {
        let tuned = proxy.tuned.load();
        if !tuned.peers.announces(peer.address()) {
            return Some((stream, peer));
        }
        tuned.limits.handshake_timeout
    };
    match timeout(patience, proxy_header::read(&mut stream)).await {
        Ok(Ok(Announced::Itself)) => Some((stream, peer)),
        Ok(Ok(Announced::Client(address))) => Some((stream, Peer::at(address))),
        Ok(Err(ReadError::Header(error))) => {
            let peer = peer.address();
            tracing::warn!(target: "server", %peer, %error, "a connection that should begin with a PROXY header does not");
            proxy.metrics.cut(Cut::ProxyHeader);
            None
        }
        // It left.
        Ok(Err(ReadError::Io(_))) => None,
        Err(_) => {
            proxy.metrics.cut(Cut::ProxyHeader);
            None
        }
    }
}

/// TLS, then what it protects.
async fn secured(stream: TcpStream, peer: Peer, tls: Arc<Acceptor>, shared: &Shared) {
    let Some(stream) = Box::pin(handshake(stream, tls, shared)).await else {
        return;
    };
    let peer = match tls::client_key(stream.get_ref().1) {
        Some(key) => peer.certified(key),
        None => peer,
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let proxy = &shared.proxy;
        let conn = Conn::one_by_one(peer);
        let pace = Pace::new(Arc::clone(&conn), &proxy.tuned.load().limits, shared.stop.clone());
        Box::pin(http2::serve(stream, Bytes::new(), &conn, pace, proxy)).await;
    } else {
        Box::pin(drive(stream, peer, shared, false)).await;
    }
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

/// A TLS handshake, its turn included, within its time.
async fn handshake(stream: TcpStream, tls: Arc<Acceptor>, shared: &Shared) -> Option<Tls> {
    let (turns, patience) = {
        let limits = &shared.proxy.tuned.load().limits;
        (shared.handshakes.of(limits.handshakes), limits.handshake_timeout)
    };
    let shaken = async {
        let turn = turns.free.acquire().await.ok()?;
        let stream = tls.accept(stream).await.ok()?;
        drop(turn);
        Some(stream)
    };
    let shaken = timeout(patience, shaken).await.ok().flatten();
    if shaken.is_none() {
        shared.proxy.metrics.cut(Cut::Handshake);
    }
    shaken
}

/// Turns, as many as the settings say at the moment.
#[derive(Debug)]
pub(crate) struct Turns(ArcSwap<Fixed>);

/// So many turns.
#[derive(Debug)]
struct Fixed {
    many: usize,
    free: Semaphore,
}

impl Fixed {
    fn new(many: usize) -> Self {
        Self {
            many,
            free: Semaphore::new(many.min(Semaphore::MAX_PERMITS)),
        }
    }
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::from_pointee(Fixed::new(0)))
    }

    /// The turns of a listener that has so many. Those who wait for, or have, one of before keep it.
    fn of(&self, many: usize) -> Arc<Fixed> {
        let now = self.0.load_full();
        if now.many == many {
            return now;
        }
        let new = Arc::new(Fixed::new(many));
        let before = self.0.compare_and_swap(&now, Arc::clone(&new));
        // Somebody else may have been faster; for the same reason.
        if Arc::ptr_eq(&before, &now) {
            new
        } else {
            self.0.load_full()
        }
    }
}

/// Turns of waiting and serving. `preface`: whether it may turn out to be HTTP/2.
async fn drive<S: Stream>(stream: S, peer: Peer, shared: &Shared, preface: bool) {
    let proxy = &shared.proxy;
    let conn = Conn::one_by_one(peer);
    let mut pace = Pace::new(Arc::clone(&conn), &proxy.tuned.load().limits, shared.stop.clone());
    let mut io = Guarded::new(stream, Arc::clone(&conn));
    let mut preface = preface;
    loop {
        io = match http1::wait(io, &mut pace, proxy, preface).await {
            Woken::Over => return,
            Woken::Bytes(io) => io,
            Woken::Preface(io) => {
                let (stream, read) = io.into_parts();
                return Box::pin(http2::serve(stream, read, &conn, pace, proxy)).await;
            }
        };
        // Only at its very beginning.
        preface = false;
        let Some(quiet) = Box::pin(http1::serve(io, &conn, &mut pace, proxy)).await else {
            return;
        };
        io = quiet;
    }
}

/// Says 503, if that takes no time, and closes.
pub(crate) fn turn_away(stream: &TcpStream, proxy: &Proxy, tls: bool) {
    use protocol::{ErrorShape, Refusal};
    let refusal = Refusal::Overloaded;
    proxy.metrics.turned_away();
    if tls {
        return;
    }
    let body = refusal.body(ErrorShape::Ollama);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: {}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        refusal.retry_after().unwrap_or(1),
        body.len(),
    );
    // A fresh socket has room for so little; if not, closing says enough.
    let _ = stream.try_write(answer.as_bytes());
}
