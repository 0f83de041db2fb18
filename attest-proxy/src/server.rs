//! The listener: connections in, requests to the service, and an end without a dropped stream.
//!
//! Owns: the ports, what is reloaded, draining. Nobody is trusted here.
//! Refuses: more connections than may be, of all or of one stranger: they are told 503 and closed.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use registry::ReplicaId;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    account::Telemetry,
    attest::Replays,
    audit::{Audit, AuditError},
    clock::{Clock, Start},
    config::Settings,
    follow::{self, Follow},
    gate::Site,
    kept::{Kept, Stamp},
    keys::{self, KeyError, Loaded},
    listener::{self, Places, Shared},
    memory::Budget,
    meter::{Meters, share},
    metrics::Metrics,
    operators,
    service::{Keys, Proxy},
    tls::{self, Acceptor, TlsError},
    trace::Tracer,
    upstream::{self, Upstream, UpstreamTlsError},
    wire::Peer,
};

/// How many accepted quotes and signatures are remembered: 61 s of 8,000 per second, about 75 MB when full.
const REPLAY_CAPACITY: usize = 500_000;
/// How long the last sums of what devices spent may take on their way to the registry.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet's keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS towards the model servers.
    #[error(transparent)]
    UpstreamTls(#[from] UpstreamTlsError),
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
    kept: Option<Arc<Kept>>,
}

impl Server {
    /// Reads keys and certificates and opens both ports. The registry is reached later, as often as it takes.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let Loaded { ring, storage } = keys::load(&settings)?;
        let tls = acceptor(&settings)?;
        let trust = upstream::Trust::read(settings.upstreams.tls.as_ref())?;
        let clients = listen(settings.listen)?;
        let operators = listen(settings.operator_listen)?;
        let start = Start::of(&clock);
        let metrics = Arc::<Metrics>::default();
        let random = SystemRandom::new();
        let mut instance = [0; 4];
        random.fill(&mut instance).map_err(|_| StartError::NoRandomness)?;
        let instance = u32::from_be_bytes(instance);
        let meters = Arc::new(Meters::new(clock.clone(), ReplicaId::new(instance)));
        let follow = Follow::new(settings.registry_max_age, Arc::clone(&meters));
        let kept = settings
            .registry_snapshot
            .as_ref()
            .map(|path| Arc::new(Kept::new(path, &settings.fleet, storage.clone())));
        if let Some(kept) = &kept {
            restore(kept, &follow, &clock);
        }
        let audit = match (&settings.audit, storage.into_iter().next()) {
            (Some(audit), Some(keys)) => Some(Audit::start(audit, &settings.fleet, keys, clock.clone())?),
            _ => None,
        };
        let tracer = settings
            .traces
            .as_ref()
            .map(|traces| Tracer::new(traces, settings.fleet.as_str()));
        let told = Telemetry::new(Arc::clone(&metrics), audit, tracer, clock.clone(), instance);
        let proxy = Proxy {
            site: Site {
                fleet: settings.fleet.clone(),
                audience: settings.audience.clone(),
            },
            keys: ArcSwap::from_pointee(Keys(ring)),
            follow,
            meters,
            replays: Replays::new(start, REPLAY_CAPACITY),
            upstream: Upstream::new(&settings.upstreams, trust, &settings.limits),
            bodies: Budget::new(settings.limits.body_memory),
            peers: settings.peers.clone(),
            limits: settings.limits.clone(),
            metrics,
            told: Arc::new(told),
            clock,
            start,
            random,
        };
        Ok(Self {
            settings: Arc::new(settings),
            proxy: Arc::new(proxy),
            tls: Arc::new(ArcSwapOption::from_pointee(tls)),
            clients,
            operators,
            kept,
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
        let (settings, proxy, tls, kept) = (
            Arc::clone(&self.settings),
            Arc::clone(&self.proxy),
            Arc::clone(&self.tls),
            self.kept.clone(),
        );
        move || match reload(&settings, &proxy, kept.as_deref(), &tls) {
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
            kept,
        } = self;
        let following = tokio::spawn(follow::run(Arc::clone(&proxy.follow), Arc::clone(&settings)));
        let asked = Arc::clone(&proxy);
        let asking = tokio::spawn(async move { asked.upstream.watch().await });
        let sharing = tokio::spawn(share::run(Arc::clone(&proxy.meters), Arc::clone(&proxy.follow)));
        if let Some(tracer) = &proxy.told.tracer {
            tracer.start();
        }
        let keeping =
            kept.map(|kept| tokio::spawn(follow::keep(Arc::clone(&proxy.follow), kept, proxy.clock.clone())));
        let operating = tokio::spawn(operators::serve(operators, Arc::clone(&proxy), stop.clone()));
        while !proxy.start.is_over(&proxy.clock) {
            sleep(Duration::from_millis(20)).await;
        }
        let (running, mut ended) = mpsc::channel::<()>(1);
        let places = Places::new(&settings.limits);
        let shared = Arc::new(Shared {
            handshakes: Semaphore::new(settings.limits.handshakes.min(Semaphore::MAX_PERMITS)),
            http2: settings.http2,
            stop: stop.clone(),
            proxy: Arc::clone(&proxy),
        });
        let mut trouble = listener::Trouble::default();
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener::accept(&clients, &mut trouble) => accepted,
                () = stopped(&mut stop) => break,
            };
            let peer = Peer::of(address);
            let tls = tls.load_full();
            let Some(place) = places.take(&proxy) else {
                listener::turn_away(&stream, &proxy, tls.is_some());
                continue;
            };
            let (shared, running) = (Arc::clone(&shared), running.clone());
            tokio::spawn(async move {
                listener::run(stream, peer, place, tls, &shared).await;
                drop(running);
            });
        }
        drop((clients, running));
        tracing::info!(target: "server", "draining");
        if timeout(settings.limits.drain, ended.recv()).await.is_err() {
            tracing::warn!(target: "server", "connections were cut off at the end of the drain time");
        }
        sharing.abort();
        if let Some(registry) = proxy.follow.registry() {
            // What was counted since the last time; a registry that is away must not hold up the end.
            let _ = timeout(LAST_WRITE, share::write(&proxy.meters, registry)).await;
        }
        following.abort();
        asking.abort();
        operating.abort();
        if let Some(keeping) = keeping {
            keeping.abort();
        }
        let told = Arc::clone(&proxy.told);
        // The disk may take its time; nobody else is left who could wait.
        let _ = tokio::task::spawn_blocking(move || told.close()).await;
    }
}

/// Waits until the server is to end; also when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    listener::open(address).map_err(|source| StartError::Listen { address, source })
}

fn acceptor(settings: &Settings) -> Result<Option<Acceptor>, TlsError> {
    let files = settings.tls.as_ref();
    files.map(|files| tls::load(files, settings.http2)).transpose()
}

/// Goes on with the snapshot of before the start, if it may be believed.
fn restore(kept: &Kept, follow: &Follow, clock: &Clock) {
    match kept.load(&Stamp::now(clock.millis()), follow.max_age()) {
        Ok(None) => {}
        Ok(Some((view, age))) => {
            let (usable, _) = view.count();
            follow.restore(view, age);
            tracing::info!(target: "registry", usable, ?age, "the last snapshot was read from disk");
        }
        Err(error) => {
            tracing::warn!(target: "registry", %error, "the last snapshot on disk is not believed");
        }
    }
}

fn reload(
    settings: &Settings,
    proxy: &Proxy,
    kept: Option<&Kept>,
    tls: &ArcSwapOption<Acceptor>,
) -> Result<(), StartError> {
    let Loaded { ring, storage } = keys::load(settings)?;
    let acceptor = acceptor(settings)?;
    let trust = upstream::Trust::read(settings.upstreams.tls.as_ref())?;
    if settings.upstreams.tls.is_some() {
        proxy.upstream.renew(trust);
    }
    proxy.keys.store(Arc::new(Keys(ring)));
    if let Some(kept) = kept {
        kept.rekey(storage.clone());
    }
    if let (Some(audit), Some(keys)) = (&proxy.told.audit, storage.into_iter().next()) {
        audit.reopen(keys);
    }
    tls.store(acceptor.map(Arc::new));
    Ok(())
}
