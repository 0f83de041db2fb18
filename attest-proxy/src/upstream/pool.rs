//! Connections to one server, kept while they are idle.
//!
//! Owns: which connection a request goes on. The connection used last comes first, so that the others can age and be
//! closed. The lock is held to push, to pop or to look whether they are open, never across an await.
//! Tells apart what failed before anything was sent, on a kept connection before a byte came back (the server had
//! closed it, most likely), and in any other way: only the first two may be tried again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::{net::TcpStream, time::timeout};

use super::{
    UpstreamError,
    answer::{Head, HeadError},
    link::{Link, LinkError, Order},
    message::Message,
    tls::Secure,
};
use crate::config::Limits;

/// How long an idle connection is kept. Shorter than what servers commonly keep, so that we close first.
const KEEP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pool {
    address: Box<str>,
    secure: Option<Secure>,
    /// How long connecting may take, and how many idle connections are kept.
    bounds: ArcSwap<(Duration, usize)>,
    idle: Mutex<VecDeque<(Box<Link>, Instant)>>,
}

impl Pool {
    pub(super) fn new(address: &str, secure: Option<Secure>, limits: &Limits) -> Self {
        Self {
            address: address.into(),
            secure,
            bounds: ArcSwap::from_pointee((limits.connect_timeout, limits.upstream_idle)),
            idle: Mutex::default(),
        }
    }

    /// Takes up other bounds.
    pub(super) fn tune(&self, limits: &Limits) {
        self.bounds
            .store(Arc::new((limits.connect_timeout, limits.upstream_idle)));
    }

    /// Sends on an idle connection, or on a new one. A message of which nothing was taken is tried on the next one.
    pub(super) async fn send(&self, order: Order<'_>) -> Result<(Head, Box<Link>), UpstreamError> {
        while let Some(mut link) = self.take() {
            match link.ask(order).await {
                Ok(head) => return Ok((head, link)),
                Err(LinkError::Late) => return Err(failed(LinkError::Late)),
                Err(_) if link.is_untouched() => {}
                // Closed before it was asked, most likely; what says something is not.
                Err(error @ (LinkError::Io(_) | LinkError::Ended)) if !link.has_heard() => {
                    return Err(UpstreamError::Stale(error));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Box::pin(self.send_anew(order)).await
    }

    /// Sends on a new connection.
    pub(super) async fn send_anew(&self, order: Order<'_>) -> Result<(Head, Box<Link>), UpstreamError> {
        let mut link = self.open().await?;
        let head = link.ask(order).await.map_err(failed)?;
        Ok((head, link))
    }

    /// Sends, and reads an answer of at most `limit` bytes to its end, however long that takes.
    pub(super) async fn fetch(
        &self,
        message: &Message,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let order = Order {
            message,
            keep: &[],
            until: None,
        };
        let (head, mut link) = self.send(order).await?;
        let mut whole = BytesMut::new();
        while let Some(data) = link.data().await {
            match data {
                Ok(data) if whole.len().saturating_add(data.len()) <= limit => whole.extend_from_slice(&data),
                Ok(_) | Err(_) => return Err(UpstreamError::Status(head.status.as_u16())),
            }
        }
        self.put(link);
        Ok((head.status, whole.freeze()))
    }

    /// Takes back a connection whose answer was read to its end.
    pub(super) fn put(&self, mut link: Box<Link>) {
        if !link.rests() || !self.is_believed(&link) {
            return;
        }
        let most = self.bounds.load().1;
        let now = Instant::now();
        let mut idle = self.lock();
        if idle.len() < most {
            idle.push_back((link, now));
        }
        // One in, one out: while some are used often, the others need not wait for the next sweep.
        let old = idle.pop_front_if(|(_, since)| now.duration_since(*since) >= KEEP);
        drop(idle);
        drop(old);
    }

    /// Closes what is idle.
    pub(super) fn forget(&self) {
        let idle = std::mem::take(&mut *self.lock());
        drop(idle);
    }

    /// Closes what has been idle for too long, and what its server has closed: while nobody asks, nobody else looks at them.
    pub(super) fn sweep(&self) {
        let mut idle = self.lock();
        let mut closed = Vec::new();
        for (mut link, since) in std::mem::take(&mut *idle) {
            if since.elapsed() >= KEEP || !link.is_open() {
                closed.push(link);
            } else {
                idle.push_back((link, since));
            }
        }
        drop(idle);
        drop(closed);
    }

    /// Whether a connection was made under what is believed now.
    fn is_believed(&self, link: &Link) -> bool {
        match (link.under(), &self.secure) {
            (Some(under), Some(secure)) => secure.is_current(under),
            _ => true,
        }
    }

    /// The idle connection that was used last and is open.
    fn take(&self) -> Option<Box<Link>> {
        loop {
            let mut idle = self.lock();
            let (mut link, since) = idle.pop_back()?;
            if since.elapsed() >= KEEP {
                // The one used last is too old: so are all below it.
                let old = std::mem::take(&mut *idle);
                drop(idle);
                drop(old);
                return None;
            }
            drop(idle);
            if link.is_open() {
                return Some(link);
            }
        }
    }

    async fn open(&self) -> Result<Box<Link>, UpstreamError> {
        let patience = self.bounds.load().0;
        timeout(patience, self.connected())
            .await
            .map_err(|_| UpstreamError::ConnectTimeout(patience))?
    }

    async fn connected(&self) -> Result<Box<Link>, UpstreamError> {
        let stream = TcpStream::connect(&*self.address)
            .await
            .map_err(UpstreamError::Connect)?;
        stream.set_nodelay(true).map_err(UpstreamError::Connect)?;
        let Some(secure) = &self.secure else {
            return Ok(Link::new(stream, None));
        };
        let (stream, under) = secure.shake_hands(stream).await?;
        Ok(Link::new(stream, Some(under)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Box<Link>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer that is none says of its server.
fn failed(error: LinkError) -> UpstreamError {
    match error {
        LinkError::Head(HeadError::Framing) => UpstreamError::Framing,
        LinkError::Head(HeadError::Switch) => UpstreamError::Status(101),
        error => UpstreamError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn link() -> (Box<Link>, DuplexStream) {
        let (near, far) = duplex(64);
        (Link::new(near, None), far)
    }

    fn pool() -> Pool {
        Pool {
            address: "a:1".into(),
            secure: None,
            bounds: ArcSwap::from_pointee((KEEP, 8)),
            idle: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn what_nobody_uses_is_closed() {
        let pool = pool();
        let (old, _far) = link();
        let before = Instant::now().checked_sub(KEEP).unwrap();
        pool.lock().push_back((old, before));
        let (young, _other) = link();
        pool.put(young);
        assert_eq!(pool.lock().len(), 1);
        assert!(pool.take().is_some());
        // And where the one used last is old, all are.
        for _ in 0..3 {
            pool.lock().push_back((link().0, before));
        }
        assert!(pool.take().is_none());
        assert_eq!(pool.lock().len(), 0);
    }

    #[tokio::test]
    async fn the_one_used_last_that_is_open_is_taken() {
        let pool = pool();
        let ((first, _far), (second, gone)) = (link(), link());
        pool.put(first);
        pool.put(second);
        drop(gone);
        assert!(pool.take().is_some());
        assert!(pool.take().is_none());
    }

    #[tokio::test]
    async fn what_is_old_or_closed_by_its_server_goes_though_nobody_asks() {
        let pool = pool();
        let ((old, _far), (used, _other), (last, gone)) = (link(), link(), link());
        let before = Instant::now().checked_sub(KEEP).unwrap();
        pool.lock().push_back((old, before));
        pool.lock().push_back((used, Instant::now()));
        pool.lock().push_back((last, Instant::now()));
        pool.sweep();
        assert_eq!(pool.lock().len(), 2);
        drop(gone);
        pool.sweep();
        assert_eq!(pool.lock().len(), 1);
        assert!(pool.take().is_some());
    }
}
