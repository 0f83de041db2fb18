//! What all who take part in a soak share: which fault is in play, what was counted, and what was found wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// `registry-max-age` of the soak's configuration.
const SNAPSHOT_GOOD: Duration = Duration::from_secs(15);

/// What is done to the proxy at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// The last one is over; not everything works yet.
    Recovering,
    UpstreamKilled,
    UpstreamHung,
    UpstreamSlow,
    UpstreamGarbage,
    RegistryHung,
    RegistryKilled,
    /// Away for longer than the snapshot is good.
    RegistryGone,
}

impl Fault {
    /// Whether who shows a key alone must not notice.
    const fn spares_keys(self) -> bool {
        matches!(
            self,
            Self::None | Self::RegistryHung | Self::RegistryKilled | Self::UpstreamSlow
        )
    }
}

/// A stretch of time with one fault, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    pub nth: u64,
    pub fault: Fault,
    pub since: Instant,
}

/// The field on which it is played.
#[derive(Debug)]
pub struct Field {
    pub address: SocketAddr,
    pub operators: SocketAddr,
    phase: watch::Sender<Phase>,
    over: AtomicBool,
    numbers: AtomicU64,
    /// The last phase in which a quote was accepted, which takes a write to the registry.
    pub quoted_in: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    found: Mutex<Vec<String>>,
}

impl Field {
    pub fn new(address: SocketAddr, operators: SocketAddr) -> Self {
        Self {
            address,
            operators,
            phase: watch::Sender::new(Phase {
                nth: 1,
                fault: Fault::Recovering,
                since: Instant::now(),
            }),
            over: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
            quoted_in: AtomicU64::new(0),
            counts: Mutex::default(),
            found: Mutex::default(),
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn enter(&self, fault: Fault) {
        self.phase.send_modify(|phase| {
            phase.nth += 1;
            phase.fault = fault;
            phase.since = Instant::now();
        });
    }

    /// Whether what began in `begun` and ends now was in one calm time.
    pub fn calm(&self, begun: Phase) -> bool {
        begun.fault == Fault::None && self.phase() == begun
    }

    /// Whether who shows a key alone was to be served from `begun` until now. A registry that takes long to come back, on a
    /// machine with much to do, can be away for longer than its snapshot is good.
    pub fn serves(&self, begun: Phase) -> bool {
        let short = begun.fault == Fault::None || begun.since.elapsed() < SNAPSHOT_GOOD / 2;
        begun.fault.spares_keys() && short && self.phase() == begun
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// A number that no prompt had.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn count(&self, what: &str, came: impl std::fmt::Display) {
        *self
            .counts
            .lock()
            .unwrap()
            .entry(format!("{what}: {came}"))
            .or_default() += 1;
    }

    /// What was counted under this name.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Something is wrong.
    pub fn find(&self, begun: Phase, what: &str) {
        let mut found = self.found.lock().unwrap();
        if found.len() < 30 {
            found.push(format!("{:?} to {:?}: {what}", begun.fault, self.phase().fault));
        }
    }

    pub fn found(&self) -> Vec<String> {
        self.found.lock().unwrap().clone()
    }
}
