//! The registry as the gate sees it: a snapshot, with every key and policy parsed once.
//!
//! Owns: [`View`], immutable, and in each [`Device`] the one thing that changes between snapshots: what was seen of it
//! last. A device whose AK or policy cannot be used is refused with a reason for the operator, and so are no others.
//! Pure. What an attacker who writes to the registry can do is bounded by what the registry's readers accept.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use domain::{CertificateKeyDigest, DeviceId, PskDigest, UnixTime};
use evidence::{AttestationKey, Counters, PcrPolicy};
use foldhash::fast::RandomState;
use registry::{Entry, Lookup, SeenRecord, Snapshot, Unusable, Versioned};

use crate::top::board::DeviceStats;

/// All devices at one moment.
#[derive(Debug, Default)]
pub struct View {
    /// Of its own in this process; 0: the empty one.
    number: u64,
    snapshot: Arc<Snapshot>,
    devices: HashMap<DeviceId, Arc<Device>, RandomState>,
}

/// A registered device that may be used, ready to be judged.
#[derive(Debug)]
pub struct Device {
    entry: Arc<Entry>,
    demand: Demand,
    seen: Arc<LastSeen>,
    stats: Arc<DeviceStats>,
}

/// What a device must show beside its PSK.
#[derive(Debug)]
pub enum Demand {
    /// Nothing: its policy says that the PSK is enough.
    Nothing,
    /// A quote by this key that meets this policy.
    Evidence(Box<Evidence>),
    /// Evidence that it cannot give: no request of it is admitted.
    Impossible(String),
}

/// What evidence is judged by.
#[derive(Debug)]
pub struct Evidence {
    /// The registered key.
    pub ak: AttestationKey,
    /// What its PCRs must hold, and what must come with a quote. Made once, when the snapshot takes the record; tell it the
    /// time with [`PcrPolicy::at`] at each appraisal, so that golden sets end by themselves.
    pub policy: PcrPolicy,
}

impl Evidence {
    /// What must come beside the quote, in words; `None`: nothing.
    #[must_use]
    pub fn attachments(&self) -> Option<&'static str> {
        match (self.policy.wants_event_log(), self.policy.wants_image_statement()) {
            (false, false) => None,
            (true, false) => Some("the event log"),
            (false, true) => Some("an image statement"),
            (true, true) => Some("the event log and an image statement"),
        }
    }
}

/// Whose a PSK or client certificate is.
#[derive(Debug)]
pub enum Found<'a> {
    /// Nobody's.
    Unknown,
    /// A device's that may not be used; to a client the same as unknown.
    Unusable {
        /// The device.
        device: &'a DeviceId,
        /// Why not.
        why: String,
    },
    /// This device's.
    Device(&'a Arc<Device>),
}

/// The counters of the quote that was accepted last, by whichever replica.
#[derive(Debug, Default)]
pub struct LastSeen(ArcSwapOption<Versioned<SeenRecord>>);

impl View {
    /// The view of a snapshot. What did not change since `before` is taken over from there.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, before: &Self) -> Self {
        let devices = snapshot
            .entries()
            .map(|entry| {
                let id = &entry.record.device;
                let old = before.devices.get(id);
                let device = match old {
                    Some(old) if Arc::ptr_eq(&old.entry, entry) => Arc::clone(old),
                    _ => Arc::new(Device::new(entry, old.map(|old| &**old))),
                };
                if let Some(seen) = snapshot.seen(id) {
                    device.seen.advance(seen.clone());
                }
                (id.clone(), device)
            })
            .collect();
        static VIEWS: AtomicU64 = AtomicU64::new(1);
        Self {
            number: VIEWS.fetch_add(1, Ordering::Relaxed),
            snapshot,
            devices,
        }
    }

    /// Tells it from every other view of this process: what was found in it once is so in it for ever.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whose `psk` is at `now`.
    #[must_use]
    pub fn find(&self, psk: &PskDigest, now: UnixTime) -> Found<'_> {
        self.found(self.snapshot.find(psk, now))
    }

    /// Whose the client certificate with this key is.
    #[must_use]
    pub fn find_certificate(&self, key: &CertificateKeyDigest) -> Found<'_> {
        self.found(self.snapshot.find_certificate(key))
    }

    fn found<'a>(&'a self, lookup: Lookup<'a>) -> Found<'a> {
        let entry = match lookup {
            Lookup::Unknown => return Found::Unknown,
            Lookup::Unusable { device, why } => {
                return Found::Unusable {
                    device,
                    why: why.to_string(),
                };
            }
            Lookup::Found(entry) => entry,
        };
        match self.devices.get(&entry.record.device) {
            None => Found::Unknown,
            Some(device) => match &device.demand {
                Demand::Impossible(why) => Found::Unusable {
                    device: device.id(),
                    why: why.clone(),
                },
                Demand::Nothing | Demand::Evidence(_) => Found::Device(device),
            },
        }
    }

    /// The snapshot that this is the view of.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// A device by its id.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<&Arc<Device>> {
        self.devices.get(id)
    }

    /// The devices that the registry knows and whose records are understood.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.devices.values()
    }

    /// Devices that should be admitted and cannot be, each with the reason: not those that an operator switched off.
    pub fn troubled(&self) -> impl Iterator<Item = (&DeviceId, String)> {
        let unusable = self.snapshot.unusable().filter(|(_, why)| {
            !matches!(
                why,
                Unusable::Suspended | Unusable::Retired | Unusable::PskEnded | Unusable::CertificateEnded
            )
        });
        let unusable = unusable.map(|(id, why)| (id, why.to_string()));
        let impossible = self.devices.values().filter_map(|device| match &device.demand {
            Demand::Impossible(why) => Some((device.id(), why.clone())),
            Demand::Nothing | Demand::Evidence(_) => None,
        });
        unusable.chain(impossible)
    }

    /// How many devices can be admitted, and how many are registered and cannot.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let impossible = self
            .devices
            .values()
            .filter(|d| matches!(d.demand, Demand::Impossible(_)))
            .count();
        (
            self.devices.len().saturating_sub(impossible),
            self.snapshot.unusable().count().saturating_add(impossible),
        )
    }
}

impl Device {
    fn new(entry: &Arc<Entry>, before: Option<&Self>) -> Self {
        Self {
            demand: Demand::of(entry),
            entry: Arc::clone(entry),
            seen: before.map(|b| Arc::clone(&b.seen)).unwrap_or_default(),
            stats: before.map(|b| Arc::clone(&b.stats)).unwrap_or_default(),
        }
    }

    /// Which device.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.entry.record.device
    }

    /// Its record and policy.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What it must show.
    #[must_use]
    pub const fn demand(&self) -> &Demand {
        &self.demand
    }

    /// What it did, for `/top`.
    #[must_use]
    pub fn stats(&self) -> &DeviceStats {
        &self.stats
    }

    /// What was seen of it last.
    #[must_use]
    pub fn last_seen(&self) -> &LastSeen {
        &self.seen
    }
}

impl Demand {
    fn of(entry: &Entry) -> Self {
        let Some(evidence) = &entry.policy.evidence else {
            return Self::Nothing;
        };
        let Some(tpm) = &entry.record.tpm else {
            return Self::Impossible("its policy wants evidence, and it has no TPM on record".into());
        };
        let ak = match AttestationKey::new(&tpm.ak_public, &tpm.ak_qualified_name) {
            Ok(ak) => ak,
            Err(e) => return Self::Impossible(format!("its attestation key cannot be used: {e}")),
        };
        Self::Evidence(Box::new(Evidence {
            ak,
            policy: evidence.policy().clone(),
        }))
    }
}

impl LastSeen {
    /// The last record that is known here.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Versioned<SeenRecord>>> {
        self.0.load_full()
    }

    /// `resetCount` and `restartCount` of it.
    #[must_use]
    pub fn counts(&self) -> Option<(u32, u32)> {
        self.0
            .load()
            .as_ref()
            .map(|seen| (seen.value.reset_count, seen.value.restart_count))
    }

    /// Takes a record, unless a newer one is known: the watch can be behind what this replica wrote itself.
    /// Counters that went back are not taken, only the revision at which they stand: no proxy that appraises accepts
    /// such a quote, so that whoever wrote them wants an older state of the TPM to pass for new.
    pub fn advance(&self, new: Versioned<SeenRecord>) {
        let new = Arc::new(new);
        self.0.rcu(|old| match old {
            Some(old) if old.revision >= new.revision => Some(Arc::clone(old)),
            Some(old) if counters(&new.value).follow(Some(&counters(&old.value))).is_err() => {
                Some(Arc::new(Versioned {
                    value: old.value.clone(),
                    revision: new.revision,
                }))
            }
            _ => Some(Arc::clone(&new)),
        });
    }
}

/// The counters of a record, as the appraisal takes them.
#[must_use]
pub fn counters(seen: &SeenRecord) -> Counters {
    Counters {
        reset_count: seen.reset_count,
        restart_count: seen.restart_count,
        clock: seen.clock,
        safe: seen.safe,
    }
}
