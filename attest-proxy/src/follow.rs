//! Following the registry: the newest view, and how long ago the registry was last proven alive.
//!
//! Owns: the one task that reads the watch, and the rule that a view is worth nothing once the registry has given no
//! sign of life for longer than `registry-max-age`. Readers take the view without a lock. A [`Lease`] tells who is being
//! answered that it may be used no longer.
//! Refuses: to end. A registry that is away, at the start or later, is tried again until it is there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use domain::UnixTime;
use registry::{Registry, Update, WatchError};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    clock::Clock,
    config::Settings,
    gate::Footing,
    kept::{Kept, Stamp},
    lease::{Lease, News},
    meter::Meters,
    registry_options,
    view::View,
};

/// The longest pause between two attempts to reach the registry.
const PAUSE: Duration = Duration::from_secs(5);
/// How many devices of a snapshot that cannot be admitted are told by name.
const MAX_TOLD: usize = 100;

/// What is known of the registry.
#[derive(Debug)]
pub struct Follow {
    view: ArcSwap<View>,
    /// Where those wait whom another view may concern.
    pub(crate) changes: News,
    registry: OnceLock<Arc<dyn Registry>>,
    started: Instant,
    /// Milliseconds after `started` of the last sign of life, plus [`BEFORE`]; 0: none yet.
    alive: AtomicU64,
    max_age: Duration,
    meters: Arc<Meters>,
    /// News since the start.
    news: AtomicU64,
    /// Whether the view is the one that was kept on disk.
    from_disk: AtomicBool,
}

/// What is added to milliseconds after the start, so that a sign of life from before it has a number too.
const BEFORE: u64 = 2 * 86_400_000;

/// How well the registry is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never read.
    Never,
    /// Its last sign of life is longer ago than it may be.
    Stale(Duration),
    /// It was alive so long ago.
    Fresh(Duration),
}

impl Follow {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(max_age: Duration, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::default(),
            changes: News::default(),
            registry: OnceLock::new(),
            started: Instant::now(),
            alive: AtomicU64::new(0),
            max_age,
            meters,
            news: AtomicU64::new(0),
            from_disk: AtomicBool::new(false),
        })
    }

    /// The newest view, if it may be believed.
    #[must_use]
    pub fn view(&self) -> Option<Guard<Arc<View>>> {
        matches!(self.standing(), Standing::Fresh(_)).then(|| self.view.load())
    }

    /// The newest view, however old: for metrics.
    #[must_use]
    pub fn last_view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Whether what a request stands on is so by the newest view, however old that is.
    #[must_use]
    pub fn holds(&self, footing: &Footing, now: UnixTime) -> bool {
        footing.holds(&self.view.load(), now)
    }

    /// What ends when a request stands on nothing any more. A registry that is away ends nothing that runs.
    #[must_use]
    pub fn lease(self: &Arc<Self>, footing: Footing, clock: Clock) -> Lease {
        Lease::new(Arc::clone(self), footing, clock)
    }

    /// The registry, once it was reached.
    #[must_use]
    pub fn registry(&self) -> Option<&dyn Registry> {
        self.registry.get().map(|registry| &**registry)
    }

    /// How old the registry's last sign of life may be.
    #[must_use]
    pub const fn max_age(&self) -> Duration {
        self.max_age
    }

    /// How well the registry is known.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let alive = self.alive.load(Ordering::Acquire);
        if alive == 0 {
            return Standing::Never;
        }
        let age = Duration::from_millis(self.now().saturating_sub(alive));
        if age <= self.max_age {
            Standing::Fresh(age)
        } else {
            Standing::Stale(age)
        }
    }

    fn take(&self, update: Update) {
        match update {
            Update::Snapshot(snapshot) => {
                let before = self.view.load_full();
                self.meters.snapshot(&snapshot);
                let view = View::new(snapshot, &before);
                tell_trouble(&before, &view);
                let (usable, unusable) = view.count();
                tracing::info!(target: "registry", usable, unusable, "the registry was read");
                self.view.store(Arc::new(view));
                self.from_disk.store(false, Ordering::Relaxed);
                self.news.fetch_add(1, Ordering::Relaxed);
                self.changes.tell();
            }
            Update::Seen(device, seen) => {
                self.news.fetch_add(1, Ordering::Relaxed);
                if let Some(device) = self.view.load().device(&device) {
                    device.last_seen().advance(seen);
                }
            }
            Update::Spent(device, spent) => self.meters.told(&device, spent),
            Update::Alive => {}
        }
        // A view that was kept is no longer what is answered from, once the registry has spoken.
        if !self.from_disk.load(Ordering::Relaxed) {
            self.alive.store(self.now(), Ordering::Release);
        }
    }

    /// Milliseconds since the start, and [`BEFORE`].
    fn now(&self) -> u64 {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        since.saturating_add(BEFORE)
    }

    /// Goes on with a view that was kept on disk, unless the registry was faster.
    pub fn restore(&self, view: View, age: Duration) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let at = self.now().saturating_sub(age).max(1);
        self.view.store(Arc::new(view));
        self.from_disk.store(true, Ordering::Relaxed);
        self.alive.store(at, Ordering::Release);
    }

    /// Whether the registry was not reached since the start, and the view is the one that was kept on disk.
    #[must_use]
    pub fn is_from_disk(&self) -> bool {
        self.from_disk.load(Ordering::Relaxed)
    }
}

/// Keeps the view on disk: whole when there is news, and else the time at which the registry was last alive.
pub async fn keep(follow: Arc<Follow>, kept: Arc<Kept>, clock: Clock) {
    let mut tick = interval((follow.max_age / 10).clamp(Duration::from_millis(100), Duration::from_secs(5)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut news, mut saved, mut failing) = (0, None, false);
    loop {
        tick.tick().await;
        let Standing::Fresh(age) = follow.standing() else {
            continue;
        };
        if follow.is_from_disk() {
            continue;
        }
        let latest = follow.news.load(Ordering::Relaxed);
        let (follow, kept, clock) = (Arc::clone(&follow), Arc::clone(&kept), clock.clone());
        let known = saved.filter(|_| latest == news);
        let written = tokio::task::spawn_blocking(move || {
            let mut alive = Stamp::now(clock.millis());
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            alive.wall = alive.wall.saturating_sub(age);
            alive.since_boot = alive.since_boot.saturating_sub(age);
            match known {
                Some(of) => kept.still_alive(&of, alive).map(|()| of),
                None => kept.save(&follow.last_view(), &alive),
            }
        });
        match written.await {
            Ok(Ok(of)) => {
                (news, saved, failing) = (latest, Some(of), false);
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!(target: "registry", %error, "the snapshot cannot be kept on disk");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Reaches the registry and follows it, for as long as the program lives.
pub async fn run(follow: Arc<Follow>, settings: Arc<Settings>) {
    let options = registry_options(&settings);
    let mut pause = Pause::default();
    loop {
        match registry::open(&settings.registry, &options, &settings.fleet).await {
            Ok(registry) => {
                let registry = follow.registry.get_or_init(|| registry);
                read(&follow, registry).await;
            }
            Err(error) => {
                tracing::error!(target: "registry", error = %chain(&error), "the registry cannot be opened, trying again");
            }
        }
        pause.wait().await;
    }
}

/// Reads watches until the registry gives none any more.
async fn read(follow: &Follow, registry: &Arc<dyn Registry>) {
    let mut pause = Pause::default();
    loop {
        match registry.watch().await {
            Ok(mut watch) => {
                pause = Pause::default();
                while let Some(update) = watch.next().await {
                    match update {
                        Ok(update) => follow.take(update),
                        Err(error) => report(&error),
                    }
                }
            }
            Err(error) => {
                tracing::error!(target: "registry", error = %chain(&error), "the registry cannot be read, trying again");
            }
        }
        pause.wait().await;
    }
}

fn report(error: &WatchError) {
    tracing::warn!(target: "registry", error = %chain(error), "the watch was interrupted and goes on");
}

/// Tells which devices cannot be admitted since this snapshot, and why: a policy that cannot be used, a record that is not
/// understood.
fn tell_trouble(before: &View, now: &View) {
    let known: BTreeMap<_, _> = before.troubled().collect();
    let news = now.troubled().filter(|(id, why)| known.get(id) != Some(why));
    let mut more = 0_usize;
    for (nth, (device, why)) in news.enumerate() {
        if nth < MAX_TOLD {
            tracing::warn!(target: "registry", %device, why, "the device cannot be admitted");
        } else {
            more = more.saturating_add(1);
        }
    }
    if more > 0 {
        tracing::warn!(target: "registry", more, "more devices cannot be admitted");
    }
}

/// An error and all its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// 0.2 s, then twice as long each time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(200))
    }
}

impl Pause {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = self.0.saturating_mul(2).min(PAUSE);
    }
}
