//! Requests, running answers and the tokens of the day, shared with the other replicas (the tokens are kept over a restart
//! too): through the registry.
//!
//! Owns: the task that adds what was counted here to the device's record in the registry, by compare-and-swap, every
//! few seconds and once more at the end. What the others added comes by the watch. No request waits for either.
//! Refuses: nothing. A registry that is away loses nothing but time: what could not be written is written later, unless
//! the day has ended.

use std::{sync::Arc, time::Duration};

use registry::{Registry, Versioned, WriteError};
use tokio::time::{MissedTickBehavior, interval};

use super::{Meters, Shared};
use crate::follow::{Follow, chain};

/// How often records are written. Each replica can overdraw a limit by what it admits in this time.
pub const EVERY: Duration = Duration::from_secs(5);
/// How often a sum is tried that other replicas write at the same time.
const ATTEMPTS: usize = 8;

/// Writes sums for as long as the program lives.
pub async fn run(meters: Arc<Meters>, follow: Arc<Follow>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(registry) = follow.registry() {
            write(&meters, registry).await;
        }
    }
}

/// Writes what is not written yet, of all devices. What fails stays for the next time.
pub async fn write(meters: &Meters, registry: &dyn Registry) {
    for (device, account) in meters.all() {
        if let Err(error) = add(meters, registry, &device, &account).await {
            tracing::warn!(target: "registry", %device, error = %chain(&error), "what the device spent could not be written yet");
            // The next one would wait as long.
            return;
        }
    }
}

async fn add(
    meters: &Meters,
    registry: &dyn Registry,
    device: &domain::DeviceId,
    account: &Shared,
) -> Result<(), WriteError> {
    for _ in 0..ATTEMPTS {
        let Some(writing) = account.lock().to_write(meters.us, meters.now()) else {
            return Ok(());
        };
        match registry
            .put_spent(device, writing.record.clone(), writing.over)
            .await
        {
            Ok(revision) => {
                let value = writing.record.clone();
                account
                    .lock()
                    .written(&writing, Versioned { value, revision }, meters.at());
                return Ok(());
            }
            Err(WriteError::Stale { .. }) => {
                let found = registry.spent(device).await?;
                account.lock().relearn(found, meters.at());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::{Limits, UnixTime};
    use registry::{Options, ReplicaId};

    use super::super::{Framing, Tokens};
    use super::*;
    use crate::{
        clock::Clock,
        upstream::{End, Observe as _},
    };

    fn use_up(meters: &Meters, device: &domain::DeviceId) {
        let limits = Limits {
            output_tokens_per_day: 1000.try_into().ok(),
            ..Limits::default()
        };
        let mut ticket = meters.admit(device, &limits, 0).unwrap();
        ticket.sent();
        ticket.answered(true, Framing::Whole);
        let told = Bytes::from_static(b"{\"prompt_eval_count\":10,\"eval_count\":3}");
        ticket.chunk(&told).unwrap();
        ticket.end(End::Whole);
    }

    #[tokio::test]
    async fn two_replicas_add_to_one_sum() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("registry.db").display());
        let registry = registry::open(
            &url.parse().unwrap(),
            &Options::default(),
            &"demo".parse().unwrap(),
        )
        .await
        .unwrap();
        let clock = Clock::Other(Arc::new(|| UnixTime::from_secs(43_200)));
        let replicas = [1, 2].map(|us| Meters::new(clock.clone(), ReplicaId::new(us)));
        let device = "kiosk-1".parse().unwrap();
        for round in 1..=3 {
            for replica in &replicas {
                use_up(replica, &device);
                write(replica, &*registry).await;
            }
            let stored = registry.spent(&device).await.unwrap().unwrap().value;
            assert_eq!(
                (stored.prompt_tokens, stored.output_tokens),
                (20 * round, 6 * round)
            );
        }
        // A third one, started later, knows it from the registry.
        let late = Meters::new(clock, ReplicaId::new(3));
        late.told(&device, registry.spent(&device).await.unwrap());
        let spent = Tokens {
            prompt: 60,
            output: 18,
        };
        assert_eq!(late.used(&device), (0, spent));
    }
}
