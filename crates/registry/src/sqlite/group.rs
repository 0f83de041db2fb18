//! Commits that are waiting together become durable together.
//!
//! Owns: the queue in front of the file's one writer. A commit that finds the writer at work waits, and all that wait are
//! the writer's next transaction: each still sees what those before it wrote, has its own guards and its own revision,
//! and is told that it is done only when the disk has it. A commit that is alone costs what it did alone.
//! Before each transaction the runtime's other tasks have their turn, so that those that are about to commit are in it:
//! on one core, a writer that begins at once takes each commit by itself. What came of a transaction crosses from the
//! writer's thread to the runtime once, not once for each commit.
//! Refuses: nothing by itself. Where the transaction fails, none of its commits was done, and each is told so.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::file::Opened;
use crate::{
    Revision, Unavailable,
    store::{Commit, Guard, Put, Stored},
};

/// How many commits are one transaction at most: what waits is bounded by who waits, this bounds how long the first of
/// them does.
const MOST: usize = 256;

/// What one caller wants done.
pub(super) type Wanted = (Vec<Guard>, Vec<Put>);

/// The same, and who is told.
type Job = (Wanted, oneshot::Sender<Result<Commit, Unavailable>>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Job>,
    working: bool,
}

/// The commits that wait.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

/// The right to be the one writer.
struct Working {
    queue: Arc<Queue>,
    given_back: bool,
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.given_back {
            // A panic, or the runtime's end: who waits hears that the work is gone, and who comes next begins anew.
            let mut state = self.queue.lock();
            state.working = false;
            state.waiting.clear();
        }
    }
}

impl Queue {
    /// Waits for a commit's turn. What `write` makes does a transaction's work: it gets the commits in their order and says
    /// what became of each, or why of none.
    pub(super) async fn commit<W>(
        self: &Arc<Self>,
        guards: Vec<Guard>,
        puts: Vec<Put>,
        write: impl FnOnce() -> W,
    ) -> Result<Commit, Unavailable>
    where
        W: Fn(&[Wanted]) -> Result<Vec<Commit>, Unavailable> + Send + Sync + 'static,
    {
        let (done, outcome) = oneshot::channel();
        let begin = {
            let mut state = self.lock();
            state.waiting.push(((guards, puts), done));
            !mem::replace(&mut state.working, true)
        };
        if begin {
            let working = Working {
                queue: Arc::clone(self),
                given_back: false,
            };
            // It outlives the caller that began it: others wait for it too.
            drop(tokio::spawn(working.work(Arc::new(write()))));
        }
        outcome.await.map_err(Unavailable::failed)?
    }

    /// The next transaction's, in their order. None: the writer is done, and who comes from now on begins anew.
    fn next(&self) -> Vec<Job> {
        let mut state = self.lock();
        let most = state.waiting.len().min(MOST);
        state.working = most > 0;
        state.waiting.drain(..most).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Working {
    async fn work<W>(mut self, write: Arc<W>)
    where
        W: Fn(&[Wanted]) -> Result<Vec<Commit>, Unavailable> + Send + Sync + 'static,
    {
        loop {
            tokio::task::yield_now().await;
            let (wanted, waiting): (Vec<_>, Vec<_>) = self.queue.next().into_iter().unzip();
            if wanted.is_empty() {
                self.given_back = true;
                return;
            }
            let write = Arc::clone(&write);
            // What was made in this thread is given back to it: an allocator is slow with what other threads free.
            let written = tokio::task::spawn_blocking(move || (write(&wanted), wanted)).await;
            let Ok((written, _wanted)) = written else { return };
            match written {
                Ok(commits) => {
                    for (done, commit) in waiting.into_iter().zip(commits) {
                        // Whoever waits no longer has its commit nonetheless, as before.
                        let _ = done.send(Ok(commit));
                    }
                }
                Err(error) => {
                    for done in waiting {
                        let _ = done.send(Err(again(&error)));
                    }
                }
            }
        }
    }
}

/// The same error for another one who waits.
fn again(error: &Unavailable) -> Unavailable {
    match error {
        Unavailable::TimedOut(after) => Unavailable::TimedOut(*after),
        Unavailable::Denied(source) => Unavailable::Denied(source.to_string().into()),
        Unavailable::Failed(source) => Unavailable::Failed(source.to_string().into()),
    }
}

/// [`write`], and what it wrote is known to the watch.
pub(super) fn commit(opened: &mut Opened, wanted: &[Wanted]) -> rusqlite::Result<Vec<Commit>> {
    let commits = write(&mut opened.connection, wanted).inspect_err(|_| opened.own.lost())?;
    for ((_, puts), commit) in wanted.iter().zip(&commits) {
        if let Commit::Done(revision) = commit {
            opened.own.wrote(puts, *revision);
        }
    }
    Ok(commits)
}

/// One transaction with all of `wanted` in it, in their order.
pub(super) fn write(connection: &mut Connection, wanted: &[Wanted]) -> rusqlite::Result<Vec<Commit>> {
    // Immediate: a reader that turns into a writer would fail when another wrote in between.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before: Revision = transaction
        .prepare_cached("SELECT revision FROM head")?
        .query_row([], |row| row.get(0))?;
    let mut head = before;
    let commits = each(&transaction, wanted, &mut head)?;
    if head != before {
        transaction
            .prepare_cached("UPDATE head SET revision = ?1")?
            .execute([head])?;
        transaction.commit()?;
    }
    Ok(commits)
}

fn each(connection: &Connection, wanted: &[Wanted], head: &mut Revision) -> rusqlite::Result<Vec<Commit>> {
    let mut swap = connection
        .prepare_cached("UPDATE records SET value = ?2, revision = ?3 WHERE key = ?1 AND revision = ?4")?;
    let commit = |(guards, puts): &Wanted| {
        let revision = Revision::new(head.get().saturating_add(1));
        // What nearly all do, in one step: to replace what they read.
        let swapped = match (guards.as_slice(), puts.as_slice()) {
            ([Guard::At(guarded, expected)], [Put { key, value }]) if guarded == key => {
                swap.execute(params![key, value, revision, expected])? == 1
            }
            _ => false,
        };
        if !swapped {
            let found = guards
                .iter()
                .map(|guard| super::get(connection, guard.key()))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if !hold(guards, &found) {
                return Ok(Commit::Conflict(found));
            }
            put(connection, puts, revision)?;
        }
        *head = revision;
        Ok(Commit::Done(revision))
    };
    wanted.iter().map(commit).collect()
}

fn hold(guards: &[Guard], found: &[Option<Stored>]) -> bool {
    let holds = |(guard, stored): (&Guard, &Option<Stored>)| guard.holds(stored.as_ref().map(|s| s.revision));
    guards.iter().zip(found).all(holds)
}

fn put(connection: &Connection, puts: &[Put], revision: Revision) -> rusqlite::Result<()> {
    let mut put = connection
        .prepare_cached("INSERT OR REPLACE INTO records (key, value, revision) VALUES (?1, ?2, ?3)")?;
    for Put { key, value } in puts {
        put.execute(params![key, value, revision])?;
    }
    Ok(())
}
