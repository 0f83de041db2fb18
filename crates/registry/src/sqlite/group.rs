//! Commits that are waiting together become durable together.
//!
//! Owns: the queue in front of the file's one writer. A commit that finds the writer at work waits, and all that wait are
//! the writer's next transaction: each still sees what those before it wrote, has its own guards and its own revision,
//! and is told that it is done only when the disk has it. A commit that is alone costs what it did alone.
//! Refuses: nothing by itself. Where the transaction fails, none of its commits was done, and each is told so.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::{
    Revision, Unavailable,
    store::{Commit, Guard, Put},
};

/// How many commits are one transaction at most: what waits is bounded by who waits, this bounds how long the first of
/// them does.
const MOST: usize = 256;

/// What one caller wants done.
#[derive(Debug)]
struct Job {
    guards: Vec<Guard>,
    puts: Vec<Put>,
    done: oneshot::Sender<Result<Commit, Unavailable>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Job>,
    working: bool,
}

/// The commits that wait.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

/// The right to be the one writer.
struct Working<'a> {
    queue: &'a Queue,
    given_back: bool,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if !self.given_back {
            // A panic: who waits hears that the work is gone, and who comes next begins anew.
            let mut state = self.queue.lock();
            state.working = false;
            state.waiting.clear();
        }
    }
}

impl Queue {
    /// Waits for a commit's turn. `write` does a transaction's work: it gets the commits in their order and says what became
    /// of each, or why of none.
    pub(super) async fn commit(
        self: &Arc<Self>,
        guards: Vec<Guard>,
        puts: Vec<Put>,
        write: impl Fn(&[(Vec<Guard>, Vec<Put>)]) -> Result<Vec<Commit>, Unavailable> + Send + 'static,
    ) -> Result<Commit, Unavailable> {
        let (done, outcome) = oneshot::channel();
        let begin = {
            let mut state = self.lock();
            state.waiting.push(Job { guards, puts, done });
            !mem::replace(&mut state.working, true)
        };
        if begin {
            let queue = Arc::clone(self);
            // It outlives the caller that began it: others wait for it too.
            drop(tokio::task::spawn_blocking(move || queue.work(write)));
        }
        outcome.await.map_err(Unavailable::failed)?
    }

    fn work(&self, write: impl Fn(&[(Vec<Guard>, Vec<Put>)]) -> Result<Vec<Commit>, Unavailable>) {
        let mut working = Working {
            queue: self,
            given_back: false,
        };
        loop {
            let jobs = {
                let mut state = self.lock();
                let most = state.waiting.len().min(MOST);
                let jobs: Vec<Job> = state.waiting.drain(..most).collect();
                if jobs.is_empty() {
                    // Under the same lock: who comes now begins anew.
                    state.working = false;
                    working.given_back = true;
                    return;
                }
                jobs
            };
            let (wanted, waiting): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .map(|job| ((job.guards, job.puts), job.done))
                .unzip();
            match write(&wanted) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// One transaction with all of `wanted` in it, in their order.
pub(super) fn write(
    connection: &mut Connection,
    wanted: &[(Vec<Guard>, Vec<Put>)],
) -> rusqlite::Result<Vec<Commit>> {
    // Immediate: a reader that turns into a writer would fail when another wrote in between.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before: Revision = transaction
        .prepare_cached("SELECT revision FROM head")?
        .query_row([], |row| row.get(0))?;
    let mut head = before;
    let commits = wanted
        .iter()
        .map(|(guards, puts)| one(&transaction, guards, puts, &mut head))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if head != before {
        transaction
            .prepare_cached("UPDATE head SET revision = ?1")?
            .execute([head])?;
        transaction.commit()?;
    }
    Ok(commits)
}

fn one(
    connection: &Connection,
    guards: &[Guard],
    puts: &[Put],
    head: &mut Revision,
) -> rusqlite::Result<Commit> {
    let found = guards
        .iter()
        .map(|guard| super::get(connection, guard.key()))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let hold = |(guard, stored): (&Guard, &Option<crate::store::Stored>)| {
        guard.holds(stored.as_ref().map(|s| s.revision))
    };
    if !guards.iter().zip(&found).all(hold) {
        return Ok(Commit::Conflict(found));
    }
    let revision = Revision::new(head.get().saturating_add(1));
    *head = revision;
    for Put { key, value } in puts {
        connection
            .prepare_cached("INSERT OR REPLACE INTO records (key, value, revision) VALUES (?1, ?2, ?3)")?
            .execute(params![key, value, revision])?;
    }
    Ok(Commit::Done(revision))
}
