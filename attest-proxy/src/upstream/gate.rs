//! Places on servers, and who gets them: the queue and the choice, with the tasks that wait.
//!
//! Owns: the one lock over queue and places; it is held to decide, never across an await. A place that comes free is
//! given on in the same moment, and a request that is given up gives back what it had or waited for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::DeviceId;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Ask, UpstreamError,
    inventory::canonical,
    pick::{Candidate, Choice, pick},
    queue::{FairQueue, QueueLimits, Ticket},
    server::Server,
};
use crate::metrics::Waits;

#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    waits: Arc<Waits>,
    /// Requests in flight that run no model, and how many may.
    light: AtomicUsize,
    max_light: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// How long a request may wait.
    wait: Duration,
    servers: Vec<Arc<Server>>,
    queue: FairQueue<DeviceId, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    model: Option<Box<str>>,
    grant: oneshot::Sender<Arc<Server>>,
}

/// A place on a server, for as long as this lives.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    server: Arc<Server>,
    /// Whose the place is. `None`: the request runs no model, and takes none.
    device: Option<DeviceId>,
    /// Whether it is known what the server made of it.
    settled: bool,
}

/// What a request that waited got in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// A place.
    Served,
    /// A refusal.
    Refused,
    /// Nothing any more: its client left, or its device may be used no longer.
    Left,
}

impl WaitEnd {
    /// Each of them, as they are numbered.
    pub const ALL: [Self; 3] = [Self::Served, Self::Refused, Self::Left];

    /// One word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// A place in the queue. Dropped, it is given up, and so is what was granted meanwhile.
struct Waiting<'a> {
    gate: &'a Gate,
    device: &'a DeviceId,
    ticket: Ticket,
    granted: Option<oneshot::Receiver<Arc<Server>>>,
    since: Instant,
    end: WaitEnd,
}

impl Gate {
    pub(super) fn new(
        servers: Vec<Arc<Server>>,
        queue: QueueLimits,
        wait: Duration,
        waits: Arc<Waits>,
        max_light: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                wait,
                servers,
                queue: FairQueue::new(queue),
            }),
            waits,
            light: AtomicUsize::new(0),
            max_light: AtomicUsize::new(max_light),
        })
    }

    /// Finds a server for a request, and a place on it; waits for one if it must.
    pub(super) async fn enter(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Permit, UpstreamError> {
        if !ask.runs_model {
            return self.pass(ask);
        }
        let (mut waiting, patience) = {
            let mut state = self.lock();
            let patience = state.wait;
            match state.choose(ask.model, None) {
                Choice::Nobody => return Err(UpstreamError::NoServer),
                Choice::Server(server) => return Ok(self.begin(&mut state, server, ask)),
                Choice::Full => {
                    let (grant, granted) = oneshot::channel();
                    let model = ask.model.map(|model| canonical(model).into());
                    let ticket = state.queue.join(ask.device, ask.bytes, Waiter { model, grant })?;
                    let waiting = Waiting {
                        gate: self,
                        device: ask.device,
                        ticket,
                        granted: Some(granted),
                        since: Instant::now(),
                        end: WaitEnd::Left,
                    };
                    (waiting, patience)
                }
            }
        };
        let Some(granted) = waiting.granted.as_mut() else {
            return Err(UpstreamError::NoServer);
        };
        let answered = timeout(patience, granted).await;
        waiting.end = WaitEnd::Refused;
        match answered {
            Ok(Ok(server)) => {
                waiting.granted = None;
                waiting.end = WaitEnd::Served;
                Ok(self.permit(server, Some(ask.device)))
            }
            Ok(Err(_)) => Err(UpstreamError::NoServer),
            Err(_) => {
                drop(waiting);
                Err(if self.servers().iter().any(|server| server.may()) {
                    UpstreamError::Waited(patience)
                } else {
                    UpstreamError::NoServer
                })
            }
        }
    }

    /// A place on another server than `not`, if one is free now: for the one retry.
    pub(super) fn another(self: &Arc<Self>, ask: &Ask<'_>, not: &Arc<Server>) -> Option<Permit> {
        let mut state = self.lock();
        let Choice::Server(server) = state.choose(ask.model, Some(not)) else {
            return None;
        };
        Some(if ask.runs_model {
            self.begin(&mut state, server, ask)
        } else {
            self.light.fetch_add(1, Ordering::Relaxed);
            server.chosen();
            self.permit(server, None)
        })
    }

    /// All servers.
    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.lock().servers.clone()
    }

    /// Whether there is more than one.
    pub(super) fn is_several(&self) -> bool {
        self.lock().servers.len() > 1
    }

    /// Puts others in the place of all servers. What runs on those that are gone runs on.
    pub(super) fn replace(&self, servers: Vec<Arc<Server>>) {
        self.lock().servers = servers;
    }

    /// Other bounds from now on. Who waits goes on waiting as he began; places that there are more of are given out.
    pub(super) fn tune(&self, queue: QueueLimits, wait: Duration, max_light: usize) {
        self.max_light.store(max_light, Ordering::Relaxed);
        let mut state = self.lock();
        state.wait = wait;
        state.queue.bound(queue);
        state.serve();
    }

    /// Gives out what may have come free without an answer that ended.
    pub(super) fn look_again(&self) {
        self.lock().serve();
    }

    /// Requests in flight, and requests and bytes that wait.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        let state = self.lock();
        let running: usize = state.servers.iter().map(|server| server.running()).sum();
        let light = self.light.load(Ordering::Relaxed);
        (
            running.saturating_add(light),
            state.queue.len(),
            state.queue.bytes(),
        )
    }

    /// What runs no model waits for none.
    fn pass(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Permit, UpstreamError> {
        let server = self.lock().nearest(ask.model).ok_or(UpstreamError::NoServer)?;
        let before = self.light.fetch_add(1, Ordering::Relaxed);
        server.chosen();
        let permit = self.permit(server, None);
        let most = self.max_light.load(Ordering::Relaxed);
        if before < most {
            Ok(permit)
        } else {
            Err(UpstreamError::Busy(most))
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State, server: Arc<Server>, ask: &Ask<'_>) -> Permit {
        state.queue.begin(ask.device);
        server.begin();
        server.chosen();
        self.permit(server, Some(ask.device))
    }

    fn permit(self: &Arc<Self>, server: Arc<Server>, device: Option<&DeviceId>) -> Permit {
        Permit {
            gate: Arc::clone(self),
            server,
            device: device.cloned(),
            settled: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn choose(&self, model: Option<&str>, not: Option<&Arc<Server>>) -> Choice<Arc<Server>> {
        choose(&self.servers, model, not)
    }

    /// The best server, full or not.
    fn nearest(&self, model: Option<&str>) -> Option<Arc<Server>> {
        let places = usize::MAX;
        match chosen(&self.servers, model, None, |c| Candidate { places, ..c }) {
            Choice::Server(server) => Some(server),
            Choice::Full | Choice::Nobody => None,
        }
    }

    fn ended(&mut self, server: &Server, device: &DeviceId) {
        server.end();
        self.queue.end(device);
        self.serve();
    }

    /// Gives every free place to whoever comes next.
    fn serve(&mut self) {
        let Self { servers, queue, .. } = self;
        loop {
            let next = queue.next(|waiter| match choose(servers, waiter.model.as_deref(), None) {
                Choice::Server(server) => Some(server),
                Choice::Full | Choice::Nobody => None,
            });
            let Some((device, waiter, server)) = next else {
                return;
            };
            server.begin();
            server.chosen();
            // Who waits leaves the queue under this lock, before it stops listening: it hears this.
            if let Err(server) = waiter.grant.send(server) {
                server.end();
                queue.end(&device);
            }
        }
    }
}

fn choose(servers: &[Arc<Server>], model: Option<&str>, not: Option<&Arc<Server>>) -> Choice<Arc<Server>> {
    // The common case needs no list.
    if let ([only], None) = (servers, not) {
        return match (only.may(), only.has_room()) {
            (false, _) => Choice::Nobody,
            (true, false) => Choice::Full,
            (true, true) => Choice::Server(Arc::clone(only)),
        };
    }
    chosen(servers, model, not, |candidate| candidate)
}

fn chosen(
    servers: &[Arc<Server>],
    model: Option<&str>,
    not: Option<&Arc<Server>>,
    seen_as: impl Fn(Candidate) -> Candidate,
) -> Choice<Arc<Server>> {
    let model = model.map(canonical);
    let candidates: Vec<_> = servers
        .iter()
        .map(|server| {
            let mut candidate = seen_as(server.candidate(model.as_deref()));
            candidate.usable &= not.is_none_or(|not| !Arc::ptr_eq(not, server));
            candidate
        })
        .collect();
    match pick(&candidates) {
        Choice::Server(at) => servers
            .get(at)
            .map_or(Choice::Nobody, |server| Choice::Server(Arc::clone(server))),
        Choice::Full => Choice::Full,
        Choice::Nobody => Choice::Nobody,
    }
}

impl Permit {
    pub(super) const fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The server answered.
    pub(super) fn answered(&mut self) {
        self.settled = true;
        self.server.answered();
    }

    /// The server failed.
    pub(super) fn failed(&mut self) {
        self.settled = true;
        self.server.failed();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.server.given_up();
        }
        match &self.device {
            Some(device) => self.gate.lock().ended(&self.server, device),
            None => {
                self.gate.light.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(histogram) = self.gate.waits.get(self.end as usize) {
            histogram.observe(self.since.elapsed());
        }
        let Some(mut granted) = self.granted.take() else {
            return;
        };
        let mut state = self.gate.lock();
        if state.queue.leave(self.device, self.ticket).is_none()
            && let Ok(server) = granted.try_recv()
        {
            server.given_up();
            state.ended(&server, self.device);
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
