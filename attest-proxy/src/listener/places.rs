//! How many connections may be open: of all, and of one stranger.
//!
//! Owns: the two counts; how high they may be is looked up each time. A [`Place`] is one of them, taken until it is dropped.
//! An attacker controls how often it connects, and from how many addresses: the table of strangers never holds more rows
//! than there are connections. The lock is held for one look-up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{service::Proxy, wire::PeerGroup};

/// The places of one listener.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: AtomicUsize,
    by_peer: Mutex<HashMap<PeerGroup, usize>>,
}

/// One of the connections that may be open.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    proxy: Arc<Proxy>,
    peer: Option<PeerGroup>,
}

impl Places {
    /// A place, if there is one left.
    pub(crate) fn take(self: &Arc<Self>, proxy: &Arc<Proxy>) -> Option<Place> {
        let limit = proxy.tuned.load().limits.connections;
        if self.taken.fetch_add(1, Ordering::Relaxed) < limit {
            proxy.metrics.connected();
            return Some(Place {
                places: Arc::clone(self),
                proxy: Arc::clone(proxy),
                peer: None,
            });
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PeerGroup, usize>> {
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the place as this stranger's, if it may have one more.
    pub(crate) fn belongs_to(mut self, peer: PeerGroup) -> Option<Self> {
        let limit = self.proxy.tuned.load().limits.connections_per_peer;
        {
            let mut by_peer = self.places.lock();
            let taken = by_peer.entry(peer).or_insert(0);
            if *taken >= limit {
                return None;
            }
            *taken = taken.saturating_add(1);
        }
        self.peer = Some(peer);
        Some(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            let mut by_peer = self.places.lock();
            if let Some(taken) = by_peer.get_mut(&peer) {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    by_peer.remove(&peer);
                }
            }
            // A flood that is over leaves no table behind.
            if by_peer.capacity() > 1024 && by_peer.len() < by_peer.capacity() / 8 {
                by_peer.shrink_to_fit();
            }
        }
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        self.proxy.metrics.disconnected();
    }
}
