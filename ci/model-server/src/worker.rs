//! One thread that owns the engine and serves one request after another, as a small machine with one model would.
//!
//! Owns: the queue and the stop when a client has left. Refuses: more than [`QUEUE`] waiting requests (Ollama answers 503 then, too).

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::engine::{Ask, Engine, EngineError, Finish};

/// Requests that may wait.
const QUEUE: usize = 64;
/// Pieces that may wait for a slow client before the model pauses for it.
const AHEAD: usize = 4;

/// What comes back, in this order: any number of texts, then one of the other two. A stream that ends without them was cut off.
#[derive(Debug)]
pub(crate) enum Piece {
    Text(String),
    Done(Finish, Duration),
    Failed(String),
}

/// The way to the engine's thread.
pub(crate) struct Worker {
    queue: SyncSender<(Ask, mpsc::Sender<Piece>)>,
}

/// Too many requests wait already.
#[derive(Debug, thiserror::Error)]
#[error("server busy, please try again. maximum pending requests exceeded")]
pub(crate) struct Busy;

impl Worker {
    /// Gives the engine a thread of its own.
    pub(crate) fn start(engine: Box<dyn Engine>) -> Result<Self, EngineError> {
        let (queue, waiting) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || work(engine, &waiting))
            .map_err(EngineError::Thread)?;
        Ok(Self { queue })
    }

    /// Queues a request. Dropping the receiver stops the model.
    pub(crate) fn ask(&self, ask: Ask) -> Result<mpsc::Receiver<Piece>, Busy> {
        let (pieces, answer) = mpsc::channel(AHEAD);
        match self.queue.try_send((ask, pieces)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }
}

fn work(mut engine: Box<dyn Engine>, waiting: &Receiver<(Ask, mpsc::Sender<Piece>)>) {
    while let Ok((ask, pieces)) = waiting.recv() {
        if pieces.is_closed() {
            continue;
        }
        let started = Instant::now();
        let outcome = engine.answer(&ask, &mut |text| {
            pieces.blocking_send(Piece::Text(text.to_owned())).is_ok()
        });
        let last = match outcome {
            Ok(finish) => Piece::Done(finish, started.elapsed()),
            Err(problem) => Piece::Failed(problem.to_string()),
        };
        // A client that has left does not hear how it ended.
        let _gone = pieces.blocking_send(last);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::{Prompt, Reason, Sampling};

    /// Talks for ever, and counts how often it was let.
    struct Endless(Arc<AtomicUsize>);

    impl Engine for Endless {
        fn answer(&mut self, _: &Ask, emit: &mut dyn FnMut(&str) -> bool) -> Result<Finish, EngineError> {
            while emit("on and on ") {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Finish {
                reason: Reason::Stop,
                prompt_tokens: 0,
                prompt_time: Duration::ZERO,
                tokens: self.0.load(Ordering::SeqCst),
                time: Duration::ZERO,
            })
        }
    }

    fn ask() -> Ask {
        Ask {
            prompt: Prompt::Raw(String::new()),
            limit: 1,
            sampling: Sampling {
                temperature: 0.0,
                top_p: 1.0,
                seed: 0,
            },
        }
    }

    #[tokio::test]
    async fn the_model_stops_when_the_client_leaves() {
        let said = Arc::new(AtomicUsize::new(0));
        let worker = Worker::start(Box::new(Endless(Arc::clone(&said)))).unwrap();
        let mut first = worker.ask(ask()).unwrap();
        assert!(matches!(first.recv().await, Some(Piece::Text(_))));
        drop(first);
        // Only if the first answer ended can the second begin.
        let mut second = worker.ask(ask()).unwrap();
        assert!(matches!(second.recv().await, Some(Piece::Text(_))));
        assert!(said.load(Ordering::SeqCst) >= 1);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy() {
        let worker = Worker::start(Box::new(Endless(Arc::default()))).unwrap();
        let mut kept = Vec::new();
        let refused = (0..QUEUE + 2).any(|_| match worker.ask(ask()) {
            Ok(answer) => {
                kept.push(answer);
                false
            }
            Err(Busy) => true,
        });
        assert!(refused, "{} requests were queued", kept.len());
    }
}
