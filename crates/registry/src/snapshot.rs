//! The registry at one moment, immutable: what the gate decides from.
//!
//! Owns: the answer to "whose is this PSK digest or client certificate, and may it be used now". Pure: the time is an argument.
//! Refuses: nothing by itself; it says [`Lookup`], with a reason for the operator that must not reach a client.
//! An attacker controls the digest. One hash look-up and one array access answer it, whatever the answer.
//! A device is found only where the index and its record agree.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::{CertificateKeyDigest, DeviceId, FleetName, PolicyName, PskDigest, UnixTime};

use crate::{
    Revision, Versioned,
    key::{Key, Keyspace},
    record::{DeviceRecord, PolicyRecord, SeenRecord, SpentRecord, Unreadable, encode},
    store::Stored,
    view::View,
};

/// A device that may be used, with the policy that it is under. Both are shared: with what was read, and a policy with all
/// devices that are under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The device.
    pub record: Arc<DeviceRecord>,
    /// Its policy.
    pub policy: Arc<PolicyRecord>,
}

/// Why a registered device is refused. For the operator alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Switched off for now.
    #[error("the device is suspended")]
    Suspended,
    /// Switched off for good.
    #[error("the device is retired")]
    Retired,
    /// Its record is not understood.
    #[error("its record cannot be used: {0}")]
    Unreadable(Unreadable),
    /// An index names it, but it has no record.
    #[error("the device has no record, only an index entry")]
    RecordMissing,
    /// The generation is lower than one that was seen before: somebody put an old record back.
    #[error("its generation went back from {highest} to {found}")]
    GenerationWentBack {
        /// The highest generation seen.
        highest: u64,
        /// The record's.
        found: u64,
    },
    /// Its policy is not in the registry.
    #[error("its policy '{0}' is not in the registry")]
    PolicyMissing(PolicyName),
    /// Its policy is not understood.
    #[error("its policy '{policy}' cannot be used: {why}")]
    PolicyUnreadable {
        /// Which policy.
        policy: PolicyName,
        /// Why.
        why: Unreadable,
    },
    /// The policy's revision is lower than one that was seen before.
    #[error("its policy '{policy}' went back from revision {highest} to {found}")]
    PolicyWentBack {
        /// Which policy.
        policy: PolicyName,
        /// The highest revision seen.
        highest: u64,
        /// The record's.
        found: u64,
    },
    /// What was seen of it last is not understood, so that nothing can be called fresh.
    #[error("what was seen of it last cannot be read: {0}")]
    SeenUnreadable(Unreadable),
    /// What it spent is not understood, so that nobody knows what is left.
    #[error("what it spent cannot be read: {0}")]
    SpentUnreadable(Unreadable),
    /// The key was replaced; it is not, or no longer, one of the device's.
    #[error("the pre-shared key was replaced")]
    PskEnded,
    /// The client certificate was replaced; it is no longer the device's.
    #[error("the client certificate was replaced")]
    CertificateEnded,
}

/// Whose a PSK digest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Nobody's.
    Unknown,
    /// A device's that may not be used. To a client the same as [`Lookup::Unknown`].
    Unusable {
        /// The device.
        device: &'a DeviceId,
        /// Why not.
        why: &'a Unusable,
    },
    /// This device's.
    Found(&'a Arc<Entry>),
}

static PSK_ENDED: Unusable = Unusable::PskEnded;
static CERTIFICATE_ENDED: Unusable = Unusable::CertificateEnded;

/// The registry of a fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) devices: Vec<(DeviceId, Result<Arc<Entry>, Unusable>)>,
    pub(crate) psks: HashMap<PskDigest, Slot>,
    pub(crate) certificates: HashMap<CertificateKeyDigest, Certified>,
    pub(crate) seen: BTreeMap<DeviceId, Versioned<SeenRecord>>,
    pub(crate) spent: BTreeMap<DeviceId, Versioned<SpentRecord>>,
    pub(crate) strays: Vec<String>,
}

/// Where a PSK digest leads: a place in `devices`, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) device: usize,
    pub(crate) good: Good,
}

/// Where a client certificate's key leads: a place in `devices`, and whether the record there names it too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certified {
    pub(crate) device: usize,
    pub(crate) named: bool,
}

/// How long a PSK digest is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Good {
    /// It is the current one.
    Always,
    /// It is the previous one.
    Until(UnixTime),
    /// It is neither.
    Never,
}

impl Snapshot {
    /// Makes a snapshot of records that are at hand, without any backend.
    #[must_use]
    pub fn of(
        devices: impl IntoIterator<Item = DeviceRecord>,
        policies: impl IntoIterator<Item = (PolicyName, PolicyRecord)>,
        seen: impl IntoIterator<Item = (DeviceId, SeenRecord)>,
    ) -> Arc<Self> {
        // Any fleet will do: the keys are only read back here.
        let Ok(fleet) = "snapshot".parse::<FleetName>() else {
            return Arc::default();
        };
        let keys = Keyspace::new(&fleet);
        let mut view = View::new(keys.clone());
        let mut put = |key: Key, value: Vec<u8>| {
            let revision = Revision::new(1);
            view.apply(&keys.text(&key), Some(Stored { value, revision }));
        };
        for record in devices {
            for digest in record.psk.digests() {
                put(Key::Psk(*digest), record.device.as_str().into());
            }
            if let Some(digest) = &record.client_certificate {
                put(Key::Certificate(*digest), record.device.as_str().into());
            }
            put(
                Key::Device(record.device.clone()),
                encode(&record).unwrap_or_default(),
            );
        }
        for (name, record) in policies {
            put(Key::Policy(name), encode(&record).unwrap_or_default());
        }
        for (device, record) in seen {
            put(Key::Seen(device), encode(&record).unwrap_or_default());
        }
        view.snapshot()
    }

    /// Whose `psk` is at `now`.
    #[must_use]
    pub fn find(&self, psk: &PskDigest, now: UnixTime) -> Lookup<'_> {
        let Some(slot) = self.psks.get(psk) else {
            return Lookup::Unknown;
        };
        let Some((device, entry)) = self.devices.get(slot.device) else {
            return Lookup::Unknown;
        };
        let good = match slot.good {
            Good::Always => true,
            Good::Until(end) => now < end,
            Good::Never => false,
        };
        match entry {
            Err(why) => Lookup::Unusable { device, why },
            Ok(_) if !good => Lookup::Unusable {
                device,
                why: &PSK_ENDED,
            },
            Ok(entry) => Lookup::Found(entry),
        }
    }

    /// Whose the client certificate with this key is.
    #[must_use]
    pub fn find_certificate(&self, key: &CertificateKeyDigest) -> Lookup<'_> {
        let Some(certified) = self.certificates.get(key) else {
            return Lookup::Unknown;
        };
        match self.devices.get(certified.device) {
            None => Lookup::Unknown,
            Some((device, Err(why))) => Lookup::Unusable { device, why },
            Some((device, Ok(_))) if !certified.named => Lookup::Unusable {
                device,
                why: &CERTIFICATE_ENDED,
            },
            Some((_, Ok(entry))) => Lookup::Found(entry),
        }
    }

    /// One device by its id: what it is under, or why it is refused. `None`: not registered.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<Result<&Arc<Entry>, &Unusable>> {
        let at = self.devices.binary_search_by(|(device, _)| device.cmp(id)).ok()?;
        self.devices.get(at).map(|(_, entry)| entry.as_ref())
    }

    /// The devices that may be used, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.devices.iter().filter_map(|(_, entry)| entry.as_ref().ok())
    }

    /// The devices that may not, by id, each with the reason.
    pub fn unusable(&self) -> impl Iterator<Item = (&DeviceId, &Unusable)> {
        self.devices
            .iter()
            .filter_map(|(device, entry)| entry.as_ref().err().map(|why| (device, why)))
    }

    /// What was seen of a device last, as of this snapshot; see [`Update::Seen`](crate::Update::Seen) for newer.
    #[must_use]
    pub fn seen(&self, device: &DeviceId) -> Option<&Versioned<SeenRecord>> {
        self.seen.get(device)
    }

    /// What a device spent, as of this snapshot; see [`Update::Spent`](crate::Update::Spent) for newer.
    #[must_use]
    pub fn spent(&self, device: &DeviceId) -> Option<&Versioned<SpentRecord>> {
        self.spent.get(device)
    }

    /// What every device spent.
    pub fn all_spent(&self) -> impl Iterator<Item = (&DeviceId, &Versioned<SpentRecord>)> {
        self.spent.iter()
    }

    /// Keys under the fleet's prefix that mean nothing to this program, escaped; the first hundred.
    #[must_use]
    pub fn strays(&self) -> &[String] {
        &self.strays
    }
}
