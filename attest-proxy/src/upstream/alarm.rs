//! The one timer of a connection to a server.
//!
//! Owns: that what is due in time costs nothing: the timer is set once, and moved only when it rings too early for what is
//! waited for by then, or something is due before it rings.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

/// A timer that is there once something was waited for.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits until `due`.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if sleep.deadline() > due.into() {
                sleep.as_mut().reset(due.into());
            }
            ready!(sleep.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn it_rings_when_something_is_due_and_not_for_what_was_before() {
        let mut alarm = Alarm::default();
        let now = Instant::now();
        for due in [3600, 7200, 1800] {
            // Moved forth and back, it waits.
            let later = now.checked_add(Duration::from_secs(due)).unwrap();
            let waits = poll_fn(|cx| alarm.poll(later, cx));
            assert!(tokio::time::timeout(Duration::ZERO, waits).await.is_err());
            poll_fn(|cx| alarm.poll(now, cx)).await;
        }
    }
}
