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
    sync::{mpsc, watch},
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
    listener::{self, Places, Shared, Turns},
    memory::Budget,
    meter::{Meters, share},
    metrics::Metrics,
    operators,
    reload::{self, Reloader},
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
            upstream: Upstream::new(&settings.upstreams, trust, metrics.waits(), &settings.limits),
            bodies: Budget::new(settings.limits.body_memory),
            tuned: ArcSwap::from_pointee(settings.tunable()),
            metrics,
            told: Arc::new(told),
            clock,
            start,
            random,
        };
        if let Some(acceptor) = &tls {
            reload::watch_end(&proxy, acceptor);
        }
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

    /// What takes up a configuration that was read again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader {
            started: Arc::clone(&self.settings),
            proxy: Arc::clone(&self.proxy),
            tls: Arc::clone(&self.tls),
            kept: self.kept.clone(),
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
        let places = Arc::<Places>::default();
        let shared = Arc::new(Shared {
            handshakes: Turns::new(),
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
        let patience = proxy.tuned.load().limits.drain;
        if timeout(patience, ended.recv()).await.is_err() {
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

pub(crate) fn acceptor(settings: &Settings) -> Result<Option<Acceptor>, TlsError> {
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
