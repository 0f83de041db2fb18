//! The one timer of a connection.
//!
//! Owns: when a connection is looked at without a byte of it having come: at the deadline that [`Conn`] says, at its
//! greatest age, when it has been quiet for long enough to be put aside, and when the program ends.
//! The timer is moved only when something is due earlier than it is set: a request that comes and goes in time costs none.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{Sleep, sleep_until},
};

use crate::{
    config::Limits,
    wire::{Conn, Overdue},
};

/// After how long a quiet connection is put aside: long for one that is busy, short for a crowd that comes and stays.
const QUIET: Duration = Duration::from_millis(250);

/// What happens to a connection beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The client took too long.
    Overdue(Overdue),
    /// It may take no new request. Said once.
    Finish,
    /// It is quiet.
    Quiet,
}

/// The clock of one connection.
pub(super) struct Pace {
    conn: Arc<Conn>,
    sleep: Pin<Box<Sleep>>,
    set: bool,
    stop: watch::Receiver<bool>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop_seen: bool,
    /// When it is too old; `None`: it was told so.
    old_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(conn: Arc<Conn>, limits: &Limits, stop: watch::Receiver<bool>) -> Self {
        let mut waiting = stop.clone();
        Self {
            old_at: conn.opened().checked_add(spread(limits.connection_age)),
            sleep: Box::pin(sleep_until(Instant::now().into())),
            set: false,
            stop,
            stopped: Box::pin(async move { drop(waiting.wait_for(|stop| *stop).await) }),
            stop_seen: false,
            conn,
        }
    }

    /// Goes on as the clock of the same connection under another state.
    pub(super) fn of(self, conn: Arc<Conn>) -> Self {
        Self { conn, ..self }
    }

    /// Whether the connection was told to finish.
    pub(super) const fn finishing(&self) -> bool {
        self.old_at.is_none()
    }

    /// Waits for the next event. `aside`: whether a quiet connection is one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limits: &Limits, aside: bool) -> Poll<Event> {
        if !self.finishing() && self.poll_stop(cx) {
            self.old_at = None;
            return Poll::Ready(Event::Finish);
        }
        loop {
            let due = self
                .conn
                .due(limits)
                .map(|(at, overdue)| (at, Event::Overdue(overdue)));
            let old = self.old_at.map(|at| (at, Event::Finish));
            let quiet = if aside { self.conn.quiet_since() } else { None };
            let quiet = quiet.and_then(|since| Some((since.checked_add(QUIET)?, Event::Quiet)));
            let first = due.into_iter().chain(old).chain(quiet).min_by_key(|(at, _)| *at);
            let Some((at, event)) = first else {
                return Poll::Pending;
            };
            if !self.set || self.sleep.deadline() > at.into() {
                self.sleep.as_mut().reset(at.into());
                self.set = true;
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.set = false;
            if at <= Instant::now() {
                if event == Event::Finish {
                    self.old_at = None;
                }
                return Poll::Ready(event);
            }
        }
    }

    /// Whether the program is to end. Asked in full once, to be woken; then by a look at a number.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> bool {
        // An error says that nobody is left who could tell: that is an end too.
        if self.stop_seen && matches!(self.stop.has_changed(), Ok(false)) {
            return false;
        }
        self.stop_seen = true;
        self.stopped.as_mut().poll(cx).is_ready()
    }
}

/// Nine to ten tenths of `age`: who connected together does not come back together.
fn spread(age: Duration) -> Duration {
    let dice = RandomState::new().build_hasher().finish();
    let part = u32::try_from(dice % 1000).unwrap_or(0);
    age.saturating_sub(age / 10_000 * part)
}
