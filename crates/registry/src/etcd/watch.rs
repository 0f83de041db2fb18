//! Following etcd: one watch on a fleet's prefix that outlives connections, compactions and hung servers.
//!
//! Owns: a task that reads everything, watches from the revision after, and starts over whenever the stream ends for
//! whatever reason: there is one way to recover. etcd 3.4 reports a compaction as a cancelled watch, without an error.
//! Proof of life: a linearizable read says which revision the cluster is at; the stream must then answer a progress
//! request, or deliver an event, at that revision or a later one. A quiet stream proves nothing.
//! Limits: before 3.4.25 and 3.5.8 a progress answer may overtake events that the server is just about to send
//! (etcd-io/etcd issue 15220): there, a proof of life may be early by the moment that an event takes to arrive.

use std::{convert::Infallible, pin::Pin, time::Duration};

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{EtcdStore, MAX_ANSWER, after, row};
use crate::{
    ReadError, Unavailable, WatchError,
    store::{CHANGES_AHEAD, Change, Changes, Row},
};

/// The first wait after a failure; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often the stream is asked how far it is, while a proof of life is due.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How much of etcd's own words a report repeats, in characters.
const MAX_REASON: usize = 200;

type Sender = mpsc::Sender<Result<Change, WatchError>>;
type Head = Pin<Box<dyn Future<Output = Result<i64, Unavailable>> + Send>>;

/// Why a follower stopped.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// To be reported; then all is read anew.
    Report(WatchError),
}

impl From<WatchError> for Stop {
    fn from(error: WatchError) -> Self {
        Self::Report(error)
    }
}

impl From<Unavailable> for Stop {
    fn from(error: Unavailable) -> Self {
        Self::Report(error.into())
    }
}

pub(super) async fn start(store: EtcdStore, prefix: String) -> Result<Changes, ReadError> {
    let (changes, receiver) = mpsc::channel(CHANGES_AHEAD);
    let first = store.pages(&prefix).await?;
    tokio::spawn(run(store, prefix, changes, first));
    Ok(receiver)
}

/// Follows until the receiver is gone.
async fn run(store: EtcdStore, prefix: String, changes: Sender, first: (Vec<Row>, i64)) {
    let mut loaded = Some(first);
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        let stop = tokio::select! {
            // Also while it waits for an answer that may never come.
            () = changes.closed() => return,
            stop = round(&store, &prefix, &changes, loaded.take()) => stop,
        };
        let Err(Stop::Report(report)) = stop else { return };
        if changes.send(Err(report)).await.is_err() {
            return;
        }
        if began.elapsed() > store.call_timeout.saturating_mul(2) {
            pause = PAUSE;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Reads everything, unless that was done just now, and follows what happens after.
async fn round(
    store: &EtcdStore,
    prefix: &str,
    changes: &Sender,
    loaded: Option<(Vec<Row>, i64)>,
) -> Result<Infallible, Stop> {
    let (rows, revision) = match loaded {
        Some(loaded) => loaded,
        None => store.pages(prefix).await?,
    };
    tell(changes, Change::All(rows)).await?;
    follow(store, prefix, changes, revision).await
}

/// Passes on what happens after `revision`.
async fn follow(
    store: &EtcdStore,
    prefix: &str,
    changes: &Sender,
    revision: i64,
) -> Result<Infallible, Stop> {
    let options = WatchOptions::new()
        .with_range(after(prefix))
        .with_start_revision(revision.saturating_add(1));
    let mut client = store.client.watch_client().max_decoding_message_size(MAX_ANSWER);
    let mut stream = store.answer(client.watch(prefix, Some(options))).await?;
    let mut known = revision;
    let mut proof = Proof::due(store);
    loop {
        tokio::select! {
            answer = stream.message() => {
                let answer = answer.map_err(super::unavailable)?.ok_or_else(|| ended("the stream is over"))?;
                known = known.max(hear(&answer, changes).await?);
            }
            step = proof.step() => proof = advance(step, store, prefix, known, &mut stream).await?,
        }
        if proof.is_given(known) {
            tell(changes, Change::Alive).await?;
            proof = Proof::due(store);
        }
    }
}

/// Passes on an answer's events, and says up to which revision everything is known after it.
async fn hear(answer: &WatchResponse, changes: &Sender) -> Result<i64, Stop> {
    if answer.canceled() {
        return Err(match answer.compact_revision() {
            0 => ended(answer.cancel_reason()),
            revision => WatchError::Compacted(revision),
        }
        .into());
    }
    let mut keys = Vec::with_capacity(answer.events().len());
    let mut known = 0;
    for kv in answer.events().iter().filter_map(etcd_client::Event::kv) {
        known = known.max(kv.mod_revision());
        // A key's versions start at 1; 0 is its end. (`event_type` panics on a type that it does not know.)
        let (key, value) = row(kv)?;
        keys.push((key, (kv.version() != 0).then_some(value)));
    }
    if !keys.is_empty() {
        tell(changes, Change::Some(keys)).await?;
    } else if !answer.created() {
        // A progress answer. The one that says "created" may come before events that are already there.
        known = super::header_revision(answer.header())?;
    }
    Ok(known)
}

/// How far the next proof of life is.
enum Proof {
    /// To be asked for at this time.
    Due(Instant),
    /// The cluster was asked for its revision.
    Head(Head),
    /// The stream has to reach the cluster's revision; asked for at times until it is too late.
    Asked {
        head: i64,
        again: Instant,
        late: Instant,
    },
}

enum Step {
    Ask,
    Head(Result<i64, Unavailable>),
    Again { head: i64, late: Instant },
}

impl Proof {
    fn due(store: &EtcdStore) -> Self {
        Self::Due(later(store.alive_every))
    }

    const fn is_given(&self, known: i64) -> bool {
        matches!(self, Self::Asked { head, .. } if known >= *head)
    }

    /// Waits for what is next; cancel-safe.
    async fn step(&mut self) -> Step {
        match self {
            Self::Due(at) => {
                sleep_until(*at).await;
                Step::Ask
            }
            Self::Head(head) => Step::Head(head.await),
            Self::Asked { head, again, late } => {
                sleep_until(*again).await;
                Step::Again {
                    head: *head,
                    late: *late,
                }
            }
        }
    }
}

async fn advance(
    step: Step,
    store: &EtcdStore,
    prefix: &str,
    known: i64,
    stream: &mut WatchStream,
) -> Result<Proof, Stop> {
    let (head, late) = match step {
        Step::Ask => {
            let (store, prefix) = (store.clone(), prefix.to_owned());
            return Ok(Proof::Head(Box::pin(async move { store.head(&prefix).await })));
        }
        Step::Head(head) => (head?, later(store.call_timeout)),
        Step::Again { late, .. } if Instant::now() >= late => return Err(WatchError::Behind.into()),
        Step::Again { head, late } => (head, late),
    };
    if known < head {
        // A member that lags behind the cluster answers with an older revision: ask again until it caught up.
        store.answer(stream.request_progress()).await?;
    }
    let again = later(PROGRESS_EVERY).min(late);
    Ok(Proof::Asked { head, again, late })
}

fn ended(why: &str) -> WatchError {
    WatchError::Ended(
        why.chars()
            .take(MAX_REASON)
            .flat_map(char::escape_debug)
            .collect(),
    )
}

async fn tell(changes: &Sender, change: Change) -> Result<(), Stop> {
    changes.send(Ok(change)).await.map_err(|_| Stop::Closed)
}

fn later(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests;
