//! A watch: the backend's changes, folded into snapshots.
//!
//! Owns: the order of updates. The first one is a snapshot; proof of life is passed on as it comes and never made up
//! here. What a change means is `view`'s business.

use std::sync::Arc;

use domain::DeviceId;

use crate::{
    Snapshot, Versioned, WatchError,
    record::{SeenRecord, SpentRecord},
    store::{Change, Changes},
    view::{Effect, View},
};

/// What a watch has to say.
#[derive(Debug, Clone)]
pub enum Update {
    /// The whole registry as it is now. Entries that did not change are the same as in the snapshot before.
    Snapshot(Arc<Snapshot>),
    /// A proxy accepted a quote of this device. Newer than the snapshot's.
    Seen(DeviceId, Versioned<SeenRecord>),
    /// What this device spent is another; `None`: nothing, an operator took the record away. Newer than the snapshot's.
    Spent(DeviceId, Option<Versioned<SpentRecord>>),
    /// The registry answered and has nothing that was not told before.
    Alive,
}

/// A subscription to a registry. It reconnects by itself until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: Changes,
    view: View,
    pending: Vec<Update>,
}

impl Watch {
    pub(crate) const fn new(changes: Changes, view: View) -> Self {
        Self {
            changes,
            view,
            pending: Vec::new(),
        }
    }

    /// Waits for what is next. An error is a report: the watch goes on. `None`: the watch is over, because the
    /// program ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Update, WatchError>> {
        loop {
            if let Some(update) = self.pending.pop() {
                return Some(Ok(update));
            }
            match self.changes.recv().await? {
                Ok(change) => self.take(change),
                Err(report) => return Some(Err(report)),
            }
        }
    }

    fn take(&mut self, change: Change) {
        let effects = match change {
            Change::Alive => return self.pending.push(Update::Alive),
            Change::All(rows) => {
                self.view.load(rows);
                vec![Effect::Snapshot]
            }
            Change::Some(keys) => keys
                .into_iter()
                .map(|(key, stored)| self.view.apply(&key, stored))
                .collect(),
        };
        // A snapshot holds what was seen too, so that it makes the single updates superfluous.
        if effects.iter().any(|e| matches!(e, Effect::Snapshot)) {
            self.pending.push(Update::Snapshot(self.view.snapshot()));
            return;
        }
        self.pending
            .extend(effects.into_iter().rev().filter_map(|effect| match effect {
                Effect::Seen(device, seen) => Some(Update::Seen(device, seen)),
                Effect::Spent(device, spent) => Some(Update::Spent(device, spent)),
                Effect::Snapshot | Effect::Nothing => None,
            }));
    }
}
