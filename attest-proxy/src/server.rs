//! The listener: connections in, requests to the service, and an end without a dropped stream.
//!
//! Owns: accepting, TLS, the bound on connections, the one timer of each connection, draining. Nobody is trusted here.
//! Refuses: more connections than may be: they are told 503 and closed. HTTP/2 and upgrades are not spoken.
//! Limits today: no PROXY protocol, no bound per peer, no greatest age of a connection.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use domain::UnixTime;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    account::Telemetry,
    attest::Replays,
    audit::{Audit, AuditError},
    clock::Clock,
    config::Settings,
    follow::{self, Follow},
    gate::Site,
    keys::{self, KeyError, Loaded},
    metrics::Metrics,
    operators,
    service::{Keys, Proxy},
    tls::{self, TlsError},
    upstream::Upstream,
    wire::{Conn, Guarded},
};

/// How many accepted quotes and signatures are remembered: 61 s of 8,000 per second, about 75 MB when full.
const REPLAY_CAPACITY: usize = 500_000;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet's keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// An address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A server whose ports are open, and which does not answer yet.
#[derive(Debug)]
pub struct Server {
    settings: Arc<Settings>,
    proxy: Arc<Proxy>,
    tls: Arc<ArcSwapOption<Acceptor>>,
    clients: TcpListener,
    operators: TcpListener,
}

/// A TLS acceptor that shows nothing of itself.
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Server {
    /// Reads keys and certificates and opens both ports. The registry is reached later, as often as it takes.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let Loaded { ring, storage } = keys::load(&settings)?;
        let tls = settings.tls.as_ref().map(tls::load).transpose()?;
        let clients = listen(settings.listen).await?;
        let operators = listen(settings.operator_listen).await?;
        // Times are whole seconds: what was issued in the running second may be from before the start.
        let started_at = match clock {
            Clock::System => UnixTime::from_secs(clock.now().as_secs().saturating_add(1)),
            Clock::Other(_) => clock.now(),
        };
        let metrics = Arc::<Metrics>::default();
        let audit = match (&settings.audit, storage.into_iter().next()) {
            (Some(audit), Some(keys)) => Some(Audit::start(audit, &settings.fleet, keys, clock.clone())?),
            _ => None,
        };
        let random = SystemRandom::new();
        let mut instance = [0; 4];
        random.fill(&mut instance).map_err(|_| StartError::NoRandomness)?;
        let told = Telemetry::new(Arc::clone(&metrics), audit, u32::from_be_bytes(instance));
        let proxy = Proxy {
            site: Site {
                fleet: settings.fleet.clone(),
                audience: settings.audience.clone(),
            },
            keys: ArcSwap::from_pointee(Keys(ring)),
            follow: Follow::new(settings.registry_max_age),
            replays: Replays::new(started_at, REPLAY_CAPACITY),
            upstream: Upstream::new(&settings.upstreams, &settings.limits),
            limits: settings.limits.clone(),
            metrics,
            told: Arc::new(told),
            clock,
            started_at,
            random,
        };
        Ok(Self {
            settings: Arc::new(settings),
            proxy: Arc::new(proxy),
            tls: Arc::new(ArcSwapOption::from_pointee(tls.map(Acceptor))),
            clients,
            operators,
        })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// Where operators connect.
    ///
    /// # Errors
    /// The system does not know.
    pub fn operator_address(&self) -> io::Result<SocketAddr> {
        self.operators.local_addr()
    }

    /// `https` where TLS is on.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.settings.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// What requests share: for tests.
    #[must_use]
    pub fn proxy(&self) -> Arc<Proxy> {
        Arc::clone(&self.proxy)
    }

    /// Reads keys and certificates again when it is called.
    pub fn reloader(&self) -> impl Fn() + Send + 'static {
        let (settings, proxy, tls) = (
            Arc::clone(&self.settings),
            Arc::clone(&self.proxy),
            Arc::clone(&self.tls),
        );
        move || match reload(&settings, &proxy, &tls) {
            Ok(()) => {
                proxy.metrics.reloaded(true);
                tracing::info!(target: "server", "keys and certificates were read again");
            }
            Err(error) => {
                proxy.metrics.reloaded(false);
                tracing::error!(target: "server", error = %error, "nothing was reloaded, the keys of before stay");
            }
        }
    }

    /// Serves until `stop` comes true, then lets what runs end, for as long as the settings allow.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self {
            settings,
            proxy,
            tls,
            clients,
            operators,
        } = self;
        let following = tokio::spawn(follow::run(Arc::clone(&proxy.follow), Arc::clone(&settings)));
        let asked = Arc::clone(&proxy);
        let asking = tokio::spawn(async move { asked.upstream.watch().await });
        let operating = tokio::spawn(operators::serve(operators, Arc::clone(&proxy), stop.clone()));
        while matches!(proxy.clock, Clock::System) && proxy.clock.now() < proxy.started_at {
            sleep(Duration::from_millis(20)).await;
        }
        let (running, mut ended) = mpsc::channel::<()>(1);
        let room = Arc::new(AtomicUsize::new(0));
        loop {
            let stream = tokio::select! {
                accepted = clients.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely: those who are connected come first.
                        tracing::error!(target: "server", error = %error, "a connection could not be accepted");
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stopped(&mut stop) => break,
            };
            let Some(place) = Place::take(&room, &proxy) else {
                turn_away(&stream, &proxy, tls.load().is_some());
                continue;
            };
            let (proxy, tls, stop, running) =
                (Arc::clone(&proxy), tls.load_full(), stop.clone(), running.clone());
            tokio::spawn(async move {
                connection(stream, &proxy, tls, stop).await;
                drop((place, running));
            });
        }
        drop((clients, running));
        tracing::info!(target: "server", "draining");
        if timeout(settings.limits.drain, ended.recv()).await.is_err() {
            tracing::warn!(target: "server", "connections were cut off at the end of the drain time");
        }
        following.abort();
        asking.abort();
        operating.abort();
        let told = Arc::clone(&proxy.told);
        // The disk may take its time; nobody else is left who could wait.
        let _ = tokio::task::spawn_blocking(move || told.close()).await;
    }
}

/// Waits until the server is to end; also when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn reload(settings: &Settings, proxy: &Proxy, tls: &ArcSwapOption<Acceptor>) -> Result<(), StartError> {
    let Loaded { ring, storage } = keys::load(settings)?;
    let acceptor = settings.tls.as_ref().map(tls::load).transpose()?;
    proxy.keys.store(Arc::new(Keys(ring)));
    if let (Some(audit), Some(keys)) = (&proxy.told.audit, storage.into_iter().next()) {
        audit.reopen(keys);
    }
    tls.store(acceptor.map(|a| Arc::new(Acceptor(a))));
    Ok(())
}

/// One of the connections that may be open.
struct Place {
    taken: Arc<AtomicUsize>,
    proxy: Arc<Proxy>,
}

impl Place {
    fn take(taken: &Arc<AtomicUsize>, proxy: &Arc<Proxy>) -> Option<Self> {
        let before = taken.fetch_add(1, Ordering::Relaxed);
        if before < proxy.limits.connections {
            proxy.metrics.connected();
            return Some(Self {
                taken: Arc::clone(taken),
                proxy: Arc::clone(proxy),
            });
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.proxy.metrics.disconnected();
    }
}

/// Says 503, if that takes no time, and closes.
fn turn_away(stream: &TcpStream, proxy: &Proxy, tls: bool) {
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

async fn connection(
    stream: TcpStream,
    proxy: &Arc<Proxy>,
    tls: Option<Arc<Acceptor>>,
    stop: watch::Receiver<bool>,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match tls {
        None => drive(stream, proxy, stop).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.0.accept(stream)).await {
                drive(stream, proxy, stop).await;
            }
        }
    }
}

async fn drive<S>(stream: S, proxy: &Arc<Proxy>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &proxy.limits;
    let conn = Conn::new();
    let io = TokioIo::new(Guarded::new(stream, Arc::clone(&conn)));
    let service = service_fn(|request| {
        let (proxy, conn) = (Arc::clone(proxy), Arc::clone(&conn));
        async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, &conn).await) }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .max_headers(limits.header_count)
            .max_header_size(limits.header_bytes)
            // A head must fit; bodies pass through in pieces.
            .max_buf_size(limits.header_bytes.max(64 << 10))
            .serve_connection(io, service)
    );
    let shortest = limits
        .header_timeout
        .min(limits.idle_timeout)
        .min(limits.write_stall);
    let mut tick = interval((shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            // Errors are the client's: it left, or its bytes are no HTTP, which hyper has answered.
            _ = served.as_mut() => return,
            _ = tick.tick() => if conn.overdue(limits).is_some() { return },
            () = stopped(&mut stop), if !draining => {
                draining = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
