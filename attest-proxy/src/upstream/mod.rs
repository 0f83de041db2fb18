//! The way to Ollama: which server, when, on which connection, and what is made of its failures.
//!
//! Owns: the servers and the queue in front of them ([`gate`]), one retry, deadlines, and the judgement of an answer's
//! head. Everything that decides is pure and apart: [`queue`] (who is next), [`pick`] (which server), [`health`] (which
//! servers are asked), [`answer`] and [`rest`] (where an answer's head and body end), [`form`] (how a broken answer ends), [`merge`]
//! (lists). [`link`] is one connection, [`rounds`] asks the servers how they are.
//! Refuses: to send a request a second time once a byte of an answer came, to send one a third time, and to send again
//! what a server may be working on.
//! Dropping the answer, or the future that waits for it, gives up the place in the queue or closes the connection: the
//! upstream sees that the client has left, and stops. The upstream is trusted to be Ollama, not to be well.
//! Limits today: HTTP/1.1 to the servers, plain or in TLS ([`tls`]).

mod alarm;
mod answer;
mod form;
mod gate;
mod health;
mod inventory;
mod link;
mod merge;
mod message;
mod observe;
mod pick;
mod pool;
mod queue;
mod rest;
mod rounds;
mod server;
mod stream;
mod tls;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use domain::DeviceId;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use protocol::Refusal;
use tokio::{sync::Notify, task::JoinSet, time::timeout};

pub use form::Dialect;
pub use gate::WaitEnd;
pub use health::Standing;
pub use link::LinkError;
pub use message::Message;
pub use observe::{End, Observe};
pub use queue::{QueueFull, QueueLimits};
pub use server::ServerStatus;
pub use stream::{Stream, StreamError};
pub use tls::{Trust, UpstreamTlsError};

use crate::{
    config::{Limits, UpstreamServer, Upstreams},
    metrics::Waits,
};
use answer::Head;
use form::Form;
use gate::{Gate, Permit};
use link::{Link, Order};
use server::Server;

/// How long each server may take for its part of a list.
const LIST_TIME: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Every server that could is full, and so is the queue.
    #[error(transparent)]
    Queue(#[from] QueueFull),
    /// No place came free in time.
    #[error("no place on a server came free within {0:?}")]
    Waited(Duration),
    /// As many requests that run no model are in flight as may be.
    #[error("{0} requests are in flight to the upstream, the limit")]
    Busy(usize),
    /// The server's own queue is full.
    #[error("the upstream says that it is busy")]
    Overloaded,
    /// No server may be asked: all are gone or ejected.
    #[error("no server is well")]
    NoServer,
    /// No connection.
    #[error("no connection to the upstream: {0}")]
    Connect(io::Error),
    /// None in time.
    #[error("no connection to the upstream within {0:?}")]
    ConnectTimeout(Duration),
    /// A connection, and no TLS on it: its certificate is not to be believed, or it does not speak TLS as we do.
    #[error("no TLS with the upstream as {name}: {source}")]
    Tls {
        /// Whom its certificate must name.
        name: String,
        /// Why there is none.
        source: io::Error,
    },
    /// A connection that was kept turned out to be closed, before a byte of an answer.
    #[error("the upstream closed a kept connection: {0}")]
    Stale(LinkError),
    /// It broke off, or answered what is not HTTP.
    #[error("the upstream failed: {0}")]
    Failed(LinkError),
    /// It accepted the request and said nothing.
    #[error("no answer from the upstream within {0:?}")]
    Timeout(Duration),
    /// An answer that is none: `101` without an upgrade, a list that is no list.
    #[error("the upstream answered with status {0}")]
    Status(u16),
    /// An answer of which two parties could read two lengths.
    #[error("the upstream's answer has no clear length")]
    Framing,
}

impl UpstreamError {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Queue(_) | Self::Waited(_) | Self::Busy(_) | Self::Overloaded => Refusal::Overloaded,
            Self::Connect(_) | Self::ConnectTimeout(_) | Self::Tls { .. } | Self::NoServer => {
                Refusal::NoUpstream
            }
            Self::Stale(_) | Self::Failed(_) | Self::Status(_) | Self::Framing => Refusal::UpstreamFailed,
            Self::Timeout(_) => Refusal::UpstreamTimeout,
        }
    }

    /// Whether the server is to blame.
    const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::ConnectTimeout(_)
                | Self::Tls { .. }
                | Self::Failed(_)
                | Self::Timeout(_)
                | Self::Status(_)
                | Self::Framing
        )
    }
}

/// Of a request, what it takes to find it a server.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Who asks.
    pub device: &'a DeviceId,
    /// The model that it needs.
    pub model: Option<&'a str>,
    /// Bytes of its body.
    pub bytes: usize,
    /// Whether it runs a model, and so needs a place.
    pub runs_model: bool,
    /// How its answer ends when it breaks.
    pub dialect: Dialect,
    /// Which fields of the answer's head are kept; with them its type and its length.
    pub keep: &'static [HeaderName],
}

/// What is measured of the servers and the queue when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamGauges {
    /// Servers, by their standing, in the order of [`Standing::ALL`].
    pub standing: [usize; 4],
    /// Requests that wait for a place.
    pub queued: usize,
    /// Bytes of their bodies.
    pub queued_bytes: usize,
    /// Requests that were sent a second time, since the start.
    pub retries: u64,
}

/// The model servers.
#[derive(Debug)]
pub struct Upstream {
    gate: Arc<Gate>,
    trust: Arc<Trust>,
    tuned: ArcSwap<Tuned>,
    /// Held while the list of servers is changed, so that a round of before undoes no change.
    changing: Mutex<()>,
    retuned: Notify,
    retries: AtomicU64,
}

/// What SIGHUP may change.
#[derive(Debug)]
struct Tuned {
    specs: Vec<UpstreamServer>,
    limits: Limits,
    poll: Option<Duration>,
}

impl Upstream {
    /// Servers that are not connected yet. `trust`: whom to believe of those that are reached by TLS; `waits`: where waiting in
    /// the queue is counted.
    #[must_use]
    pub fn new(upstreams: &Upstreams, trust: Trust, waits: &Arc<Waits>, limits: &Limits) -> Self {
        let trust = Arc::new(trust);
        let servers = upstreams
            .servers
            .iter()
            // What its addresses are is not known before the first round.
            .filter(|spec| !spec.each_address)
            .map(|spec| Server::new(spec, spec.url.address(), &trust, limits))
            .collect();
        Self {
            gate: Gate::new(
                servers,
                upstreams.queue,
                upstreams.queue_wait,
                Arc::clone(waits),
                limits.streams,
            ),
            trust,
            tuned: ArcSwap::from_pointee(Tuned {
                specs: upstreams.servers.clone(),
                limits: limits.clone(),
                poll: upstreams.poll,
            }),
            changing: Mutex::new(()),
            retuned: Notify::new(),
            retries: AtomicU64::new(0),
        }
    }

    /// Takes up other servers, bounds, places and weights. What runs or waits stays, also on a server that is gone; one that is
    /// there before and after keeps what is known of it.
    pub fn tune(&self, upstreams: &Upstreams, limits: &Limits) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gate.servers();
        let mut servers = Vec::new();
        for spec in &upstreams.servers {
            let known = before.iter().filter(|server| server.stands_for(spec));
            let known: Vec<_> = known.cloned().collect();
            for server in &known {
                server.tune(spec, limits);
            }
            // What the addresses of a name are is known after the next round.
            if known.is_empty() && !spec.each_address {
                servers.push(Server::new(spec, spec.url.address(), &self.trust, limits));
            }
            servers.extend(known);
        }
        self.gate.replace(servers);
        self.gate
            .tune(upstreams.queue, upstreams.queue_wait, limits.streams);
        self.tuned.store(Arc::new(Tuned {
            specs: upstreams.servers.clone(),
            limits: limits.clone(),
            poll: upstreams.poll,
        }));
        self.retuned.notify_one();
    }

    /// Believes others from now on. What runs ends as it began; connections that are idle are not used again.
    pub fn renew(&self, trust: Trust) {
        self.trust.replace(trust);
        for server in self.gate.servers() {
            server.pool.forget();
        }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.gate.load().0
    }

    /// Servers and queue in numbers.
    #[must_use]
    pub fn gauges(&self) -> UpstreamGauges {
        let (_, queued, queued_bytes) = self.gate.load();
        let servers = self.servers();
        UpstreamGauges {
            standing: Standing::ALL.map(|standing| servers.iter().filter(|s| s.standing == standing).count()),
            queued,
            queued_bytes,
            retries: self.retries(),
        }
    }

    /// Requests that wait for a place, and the bytes of their bodies.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let (_, len, bytes) = self.gate.load();
        (len, bytes)
    }

    /// Requests that were sent a second time.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Each server as it stands.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.gate.servers().iter().map(|server| server.status()).collect()
    }

    /// Whether there is more than one server.
    #[must_use]
    pub fn is_several(&self) -> bool {
        self.gate.is_several()
    }

    /// Whether a request would find a server now. One server alone is asked; of several, the last round tells.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), UpstreamError> {
        if self.tuned.load().poll.is_some() && self.gate.servers().iter().any(|server| server.may()) {
            return Ok(());
        }
        let mut why = UpstreamError::NoServer;
        for (_, result) in self.round().await {
            match result {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Sends a request and waits for the head of its answer. `make` makes the request for a server's `Host`; it is
    /// called a second time if the first server was not reached, had closed a kept connection, or is busy by its own account.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may have reached the upstream, unless there was no connection.
    pub async fn send(
        &self,
        ask: &Ask<'_>,
        make: impl Fn(&HeaderValue) -> Message,
    ) -> Result<Response<Stream>, UpstreamError> {
        let mut permit = self.gate.enter(ask).await?;
        let error = match self.attempt(&mut permit, ask, &make, false).await {
            Ok(answer) => return Ok(self.stream(ask, permit, answer)),
            Err(error) => error,
        };
        let first = Arc::clone(permit.server());
        let mut permit = match (&error, self.other(&error, ask, &first)) {
            (_, Some(other)) => {
                // Its place is free for who waits for it.
                drop(permit);
                other
            }
            // The server may be well, and only have closed what was idle.
            (UpstreamError::Stale(_), None) => permit,
            (_, None) => return Err(error),
        };
        self.retries.fetch_add(1, Ordering::Relaxed);
        tracing::info!(target: "upstream", error = %error, server = permit.server().name(), "a request is sent again");
        let answer = Box::pin(self.attempt(&mut permit, ask, &make, true)).await?;
        Ok(self.stream(ask, permit, answer))
    }

    /// Asks every server for the same list, and merges what comes in time.
    ///
    /// # Errors
    /// Why there is not one list.
    pub async fn list(&self, make: impl Fn(&HeaderValue) -> Message) -> Result<Vec<u8>, UpstreamError> {
        let mut asked = JoinSet::new();
        for (nth, server) in self.gate.servers().into_iter().enumerate() {
            if !server.may() {
                continue;
            }
            let message = make(server.host());
            asked.spawn(async move {
                let fetched = server.pool.fetch(&message, inventory::MAX_LIST);
                let result = timeout(LIST_TIME, fetched)
                    .await
                    .unwrap_or(Err(UpstreamError::Timeout(LIST_TIME)));
                (nth, result)
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_unstable_by_key(|(nth, _)| *nth);
        let mut why = UpstreamError::NoServer;
        let mut lists = Vec::new();
        for (_, answer) in answers {
            match answer {
                Ok((StatusCode::OK, list)) => lists.push(list),
                Ok((status, _)) => why = UpstreamError::Status(status.as_u16()),
                Err(error) => why = error,
            }
        }
        if !lists.is_empty() {
            why = UpstreamError::Status(200);
        }
        merge::merge(lists.iter().map(|list| &list[..])).ok_or(why)
    }

    /// A place on another server, if the request was not worked on by this one.
    fn other(&self, error: &UpstreamError, ask: &Ask<'_>, not: &Arc<Server>) -> Option<Permit> {
        matches!(
            error,
            UpstreamError::Connect(_)
                | UpstreamError::ConnectTimeout(_)
                | UpstreamError::Tls { .. }
                | UpstreamError::Overloaded
                | UpstreamError::Stale(_)
        )
        .then(|| self.gate.another(ask, not))?
    }

    async fn attempt(
        &self,
        permit: &mut Permit,
        ask: &Ask<'_>,
        make: &impl Fn(&HeaderValue) -> Message,
        anew: bool,
    ) -> Result<(Head, Box<Link>), UpstreamError> {
        let server = Arc::clone(permit.server());
        let message = make(server.host());
        let patience = self.tuned.load().limits.first_byte_timeout;
        let order = Order {
            message: &message,
            keep: ask.keep,
            until: Instant::now().checked_add(patience),
        };
        let sent = if anew {
            Box::pin(server.pool.send_anew(order)).await
        } else {
            server.pool.send(order).await
        };
        let result = match sent {
            Err(UpstreamError::Failed(LinkError::Late)) => Err(UpstreamError::Timeout(patience)),
            Err(error) => Err(error),
            Ok((head, link)) => judge(head.status).map(|()| (head, link)),
        };
        match &result {
            Ok(_) | Err(UpstreamError::Overloaded) => permit.answered(),
            Err(error) if error.is_failure() => permit.failed(),
            Err(_) => {}
        }
        result
    }

    fn stream(&self, ask: &Ask<'_>, permit: Permit, (head, link): (Head, Box<Link>)) -> Response<Stream> {
        let form = Form::of(ask.dialect, &head.fields);
        let stream = Stream::new(link, permit, self.tuned.load().limits.chunk_timeout, form);
        let mut response = Response::new(stream);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.fields;
        response
    }
}

/// Whether a status is one that can be passed on.
fn judge(status: StatusCode) -> Result<(), UpstreamError> {
    // RFC 9110 15: other numbers are no status, and no client knows what to make of them.
    match status.as_u16() {
        503 => Err(UpstreamError::Overloaded),
        200..600 => Ok(()),
        other => Err(UpstreamError::Status(other)),
    }
}
