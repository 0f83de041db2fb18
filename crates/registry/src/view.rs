//! The fold of a backend's changes into snapshots.
//!
//! Owns: what the registry was found to hold, and the highest generation and policy revision ever seen in this run, so
//! that an old record that is put back is noticed. Pure. What did not change keeps its [`Arc`].
//! Limits: the memory of generations is this process's; after a restart an old record is not told from a current one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use domain::{CertificateKeyDigest, DeviceId, PolicyName, PskDigest};

use crate::{
    Versioned,
    key::{Key, Keyspace},
    record::{DeviceRecord, DeviceState, PolicyRecord, SeenRecord, SpentRecord, Unreadable, decode},
    snapshot::{Certified, Entry, Good, Slot, Snapshot, Unusable},
    store::{Row, Stored},
};

const MAX_STRAYS: usize = 100;
const MAX_STRAY_LEN: usize = 200;

type Read<T> = Result<T, Unreadable>;

/// What a change came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The snapshot is another.
    Snapshot,
    /// Only what was seen of this device is newer.
    Seen(DeviceId, Versioned<SeenRecord>),
    /// Only what this device spent is another.
    Spent(DeviceId, Option<Versioned<SpentRecord>>),
    /// Nothing that a snapshot holds.
    Nothing,
}

/// The registry as found so far.
#[derive(Debug)]
pub(crate) struct View {
    keys: Keyspace,
    found: Found,
    generations: HashMap<DeviceId, u64>,
    revisions: HashMap<PolicyName, u64>,
    entries: HashMap<DeviceId, Arc<Entry>>,
}

#[derive(Debug, Default)]
struct Found {
    devices: BTreeMap<DeviceId, Read<Arc<DeviceRecord>>>,
    psks: HashMap<PskDigest, DeviceId>,
    certificates: HashMap<CertificateKeyDigest, DeviceId>,
    policies: BTreeMap<PolicyName, Read<Arc<PolicyRecord>>>,
    seen: BTreeMap<DeviceId, Read<Versioned<SeenRecord>>>,
    spent: BTreeMap<DeviceId, Read<Versioned<SpentRecord>>>,
    strays: BTreeSet<String>,
}

impl View {
    pub(crate) fn new(keys: Keyspace) -> Self {
        Self {
            keys,
            found: Found::default(),
            generations: HashMap::new(),
            revisions: HashMap::new(),
            entries: HashMap::new(),
        }
    }

    /// Takes everything that there is now; what was there before and is not in `rows` is gone.
    pub(crate) fn load(&mut self, rows: Vec<Row>) {
        let before = std::mem::take(&mut self.found);
        for (key, stored) in rows {
            self.apply(&key, Some(stored));
        }
        keep_unchanged(&before.devices, &mut self.found.devices);
        keep_unchanged(&before.policies, &mut self.found.policies);
    }

    /// Takes one key's new value, or its end.
    pub(crate) fn apply(&mut self, text: &str, stored: Option<Stored>) -> Effect {
        match self.keys.parse(text) {
            Some(Key::Device(id)) => self.device(id, stored),
            Some(Key::Policy(name)) => self.policy(name, stored),
            Some(Key::Psk(digest)) => {
                let owner = self.owner(text, stored);
                put(&mut self.found.psks, digest, owner);
            }
            Some(Key::Certificate(digest)) => {
                let owner = self.owner(text, stored);
                put(&mut self.found.certificates, digest, owner);
            }
            Some(Key::Seen(id)) => return self.seen(id, stored),
            Some(Key::Spent(id)) => return self.spent(id, stored),
            Some(Key::Ek(_)) => return Effect::Nothing,
            None => self.stray(text, stored.is_some()),
        }
        Effect::Snapshot
    }

    fn device(&mut self, id: DeviceId, stored: Option<Stored>) {
        let Some(stored) = stored else {
            self.found.devices.remove(&id);
            return;
        };
        let record = decode_device(&id, &stored.value).map(Arc::new);
        if let Ok(record) = &record {
            raise(&mut self.generations, &id, record.generation);
        }
        self.found.devices.insert(id, record);
    }

    fn policy(&mut self, name: PolicyName, stored: Option<Stored>) {
        let Some(stored) = stored else {
            self.found.policies.remove(&name);
            return;
        };
        let record = decode::<PolicyRecord>(&stored.value).map(Arc::new);
        if let Ok(record) = &record {
            raise(&mut self.revisions, &name, record.revision);
        }
        self.found.policies.insert(name, record);
    }

    /// Whom an index key names. What names nobody is a stray.
    fn owner(&mut self, text: &str, stored: Option<Stored>) -> Option<DeviceId> {
        let owner = decode_owner(&stored?.value);
        if owner.is_err() {
            self.stray(text, true);
        }
        owner.ok()
    }

    fn seen(&mut self, id: DeviceId, stored: Option<Stored>) -> Effect {
        let Some(stored) = stored else {
            self.found.seen.remove(&id);
            return Effect::Snapshot;
        };
        let record = decode::<SeenRecord>(&stored.value).map(|value| Versioned {
            value,
            revision: stored.revision,
        });
        let before = self.found.seen.insert(id.clone(), record.clone());
        match (before, record) {
            (Some(Err(_)), _) | (_, Err(_)) => Effect::Snapshot,
            (_, Ok(seen)) => Effect::Seen(id, seen),
        }
    }

    fn spent(&mut self, id: DeviceId, stored: Option<Stored>) -> Effect {
        let Some(stored) = stored else {
            return match self.found.spent.remove(&id) {
                Some(Err(_)) => Effect::Snapshot,
                Some(Ok(_)) => Effect::Spent(id, None),
                None => Effect::Nothing,
            };
        };
        let record = decode::<SpentRecord>(&stored.value).map(|value| Versioned {
            value,
            revision: stored.revision,
        });
        let before = self.found.spent.insert(id.clone(), record.clone());
        match (before, record) {
            (Some(Err(_)), _) | (_, Err(_)) => Effect::Snapshot,
            (_, Ok(spent)) => Effect::Spent(id, Some(spent)),
        }
    }

    fn stray(&mut self, text: &str, there: bool) {
        let shown: String = text
            .chars()
            .take(MAX_STRAY_LEN)
            .flat_map(char::escape_debug)
            .collect();
        if !there {
            self.found.strays.remove(&shown);
        } else if self.found.strays.len() < MAX_STRAYS {
            self.found.strays.insert(shown);
        }
    }

    /// The registry as it is now.
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        let known: BTreeSet<DeviceId> = self
            .found
            .devices
            .keys()
            .chain(self.found.psks.values())
            .chain(self.found.certificates.values())
            .cloned()
            .collect();
        let mut before = std::mem::take(&mut self.entries);
        let mut made = HashMap::with_capacity(known.len());
        let devices: Vec<_> = known
            .into_iter()
            .map(|id| {
                let entry = self.entry(&id, before.remove(&id));
                if let Ok(entry) = &entry {
                    made.insert(id.clone(), Arc::clone(entry));
                }
                (id, entry)
            })
            .collect();
        self.entries = made;
        let psks = self.found.psks.iter().filter_map(|(digest, owner)| {
            let device = devices.binary_search_by(|(id, _)| id.cmp(owner)).ok()?;
            let good = self.good(owner, digest);
            Some((*digest, Slot { device, good }))
        });
        let certificates = self.found.certificates.iter().filter_map(|(digest, owner)| {
            let device = devices.binary_search_by(|(id, _)| id.cmp(owner)).ok()?;
            let record = self.found.devices.get(owner).and_then(|read| read.as_ref().ok());
            let named = record.is_some_and(|record| record.client_certificate.as_ref() == Some(digest));
            Some((*digest, Certified { device, named }))
        });
        Arc::new(Snapshot {
            psks: psks.collect(),
            certificates: certificates.collect(),
            seen: self
                .found
                .seen
                .iter()
                .filter_map(|(id, seen)| Some((id.clone(), seen.as_ref().ok()?.clone())))
                .collect(),
            spent: self
                .found
                .spent
                .iter()
                .filter_map(|(id, spent)| Some((id.clone(), spent.as_ref().ok()?.clone())))
                .collect(),
            strays: self.found.strays.iter().cloned().collect(),
            devices,
        })
    }

    /// The entry of a device, the one of before if nothing of it changed, or why there is none.
    fn entry(&self, id: &DeviceId, before: Option<Arc<Entry>>) -> Result<Arc<Entry>, Unusable> {
        let record = match self.found.devices.get(id) {
            None => return Err(Unusable::RecordMissing),
            Some(Err(why)) => return Err(Unusable::Unreadable(why.clone())),
            Some(Ok(record)) => record,
        };
        let highest = self.generations.get(id).copied().unwrap_or_default();
        if record.generation < highest {
            return Err(Unusable::GenerationWentBack {
                highest,
                found: record.generation,
            });
        }
        match record.state {
            DeviceState::Active => {}
            DeviceState::Suspended => return Err(Unusable::Suspended),
            DeviceState::Retired => return Err(Unusable::Retired),
        }
        let policy = self.policy_of(record)?;
        if let Some(Err(why)) = self.found.seen.get(id) {
            return Err(Unusable::SeenUnreadable(why.clone()));
        }
        if let Some(Err(why)) = self.found.spent.get(id) {
            return Err(Unusable::SpentUnreadable(why.clone()));
        }
        let same =
            |entry: &Arc<Entry>| Arc::ptr_eq(&entry.record, record) && Arc::ptr_eq(&entry.policy, policy);
        Ok(before.filter(same).unwrap_or_else(|| {
            Arc::new(Entry {
                record: Arc::clone(record),
                policy: Arc::clone(policy),
            })
        }))
    }

    fn policy_of(&self, record: &DeviceRecord) -> Result<&Arc<PolicyRecord>, Unusable> {
        let name = &record.policy;
        let policy = match self.found.policies.get(name) {
            None => return Err(Unusable::PolicyMissing(name.clone())),
            Some(Err(why)) => {
                return Err(Unusable::PolicyUnreadable {
                    policy: name.clone(),
                    why: why.clone(),
                });
            }
            Some(Ok(policy)) => policy,
        };
        let highest = self.revisions.get(name).copied().unwrap_or_default();
        if policy.revision < highest {
            return Err(Unusable::PolicyWentBack {
                policy: name.clone(),
                highest,
                found: policy.revision,
            });
        }
        Ok(policy)
    }

    fn good(&self, owner: &DeviceId, digest: &PskDigest) -> Good {
        let Some(Ok(record)) = self.found.devices.get(owner) else {
            return Good::Never;
        };
        match &record.psk.previous {
            _ if record.psk.current == *digest => Good::Always,
            Some(previous) if previous.digest == *digest => Good::Until(previous.until),
            _ => Good::Never,
        }
    }
}

/// Reads the record under a device's key, which must be that device's.
pub(crate) fn decode_device(id: &DeviceId, bytes: &[u8]) -> Read<DeviceRecord> {
    let record: DeviceRecord = decode(bytes)?;
    if record.device == *id {
        Ok(record)
    } else {
        Err(Unreadable::OtherDevice(record.device))
    }
}

/// Reads the device id under an index key.
pub(crate) fn decode_owner(bytes: &[u8]) -> Read<DeviceId> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Unreadable::Malformed("an index entry that is no device id".to_owned()))
}

fn raise<K: Clone + Eq + std::hash::Hash>(highest: &mut HashMap<K, u64>, key: &K, found: u64) {
    match highest.get_mut(key) {
        Some(highest) => *highest = found.max(*highest),
        None => {
            highest.insert(key.clone(), found);
        }
    }
}

/// Sets what a key leads to, or that it leads nowhere.
fn put<K: Eq + std::hash::Hash>(index: &mut HashMap<K, DeviceId>, key: K, owner: Option<DeviceId>) {
    match owner {
        Some(owner) => index.insert(key, owner),
        None => index.remove(&key),
    };
}

/// Puts the [`Arc`]s of before in the place of equal ones.
fn keep_unchanged<K: Ord, V: PartialEq>(
    before: &BTreeMap<K, Read<Arc<V>>>,
    now: &mut BTreeMap<K, Read<Arc<V>>>,
) {
    for (key, new) in now {
        if let (Ok(new), Some(Ok(old))) = (new, before.get(key))
            && *new == *old
        {
            *new = Arc::clone(old);
        }
    }
}

#[cfg(test)]
mod tests;
