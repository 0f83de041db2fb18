//! The rules of writing, once for both backends.
//!
//! Owns: which keys a transaction guards. An id, an EK, a PSK digest and a client certificate's key are taken by the key that stands for them, and
//! these keys are never deleted: what is retired stays taken. Decisions are made on what was read, and the
//! transaction writes only if that is still so.
//! Refuses: what no reader would take, before anything is sent.

use async_trait::async_trait;
use domain::{CertificateKeyDigest, DeviceId, EkDigest, FleetName, PolicyName, PskDigest};
use serde::de::DeserializeOwned;

use crate::{
    EnrolError, Listing, ReadError, Registry, Revision, UnreadableDevice, Versioned, Watch, WriteError,
    key::{Key, Keyspace},
    record::{
        DeviceRecord, DeviceState, PolicyRecord, SeenRecord, SpentRecord, TpmIdentity, Unreadable, decode,
        encode, encode_seen,
    },
    store::{Commit, Guard, Put, Store, Stored},
    view::{View, decode_device, decode_owner},
};

/// A fleet's registry on some store.
#[derive(Debug)]
pub(crate) struct Ledger<S> {
    store: S,
    keys: Keyspace,
}

impl<S: Store> Ledger<S> {
    pub(crate) fn new(store: S, fleet: &FleetName) -> Self {
        Self {
            store,
            keys: Keyspace::new(fleet),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Versioned<T>>, ReadError> {
        let Some(Stored { value, revision }) = self.store.get(&self.keys.text(key)).await? else {
            return Ok(None);
        };
        let value = decode(&value)?;
        Ok(Some(Versioned { value, revision }))
    }

    /// Writes one record that nothing else hangs on.
    async fn swap(
        &self,
        key: &Key,
        value: Vec<u8>,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let key = self.keys.text(key);
        let guard = match expected {
            None => Guard::Absent(key.clone()),
            Some(revision) => Guard::At(key.clone(), revision),
        };
        match self.store.commit(vec![guard], vec![Put { key, value }]).await? {
            Commit::Done(revision) => Ok(revision),
            Commit::Conflict(found) => Err(stale(found.first())),
        }
    }

    fn index_psk(&self, digest: &PskDigest, device: &DeviceId) -> (Guard, Put) {
        self.index(&Key::Psk(*digest), device)
    }

    fn index_ek(&self, digest: &EkDigest, device: &DeviceId) -> (Guard, Put) {
        self.index(&Key::Ek(*digest), device)
    }

    fn index_certificate(&self, digest: &CertificateKeyDigest, device: &DeviceId) -> (Guard, Put) {
        self.index(&Key::Certificate(*digest), device)
    }

    /// What takes a digest for a device: an index key that was not there before.
    fn index(&self, key: &Key, device: &DeviceId) -> (Guard, Put) {
        let key = self.keys.text(key);
        let value = device.as_str().into();
        (Guard::Absent(key.clone()), Put { key, value })
    }
}

#[async_trait]
impl<S: Store> Registry for Ledger<S> {
    async fn enrol(&self, record: DeviceRecord) -> Result<Revision, EnrolError> {
        let id = &record.device;
        let key = self.keys.text(&Key::Device(id.clone()));
        let value = encode(&record)?;
        let mut guards = vec![Guard::Absent(key.clone())];
        let mut puts = vec![Put { key, value }];
        let ek = record.tpm.as_ref().map(|tpm| self.index_ek(&tpm.ek, id));
        let psks = record.psk.digests().map(|digest| self.index_psk(digest, id));
        let certificate = record.client_certificate.as_ref();
        let certificate = certificate.map(|digest| self.index_certificate(digest, id));
        for (guard, put) in ek.into_iter().chain(psks).chain(certificate) {
            guards.push(guard);
            puts.push(put);
        }
        match self.store.commit(guards, puts).await? {
            Commit::Done(revision) => Ok(revision),
            Commit::Conflict(found) => Err(taken(&record, found)?),
        }
    }

    async fn device(&self, id: &DeviceId) -> Result<Option<Versioned<DeviceRecord>>, ReadError> {
        let key = self.keys.text(&Key::Device(id.clone()));
        let Some(Stored { value, revision }) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let value = decode_device(id, &value)?;
        Ok(Some(Versioned { value, revision }))
    }

    async fn devices(&self) -> Result<Listing, ReadError> {
        let mut listing = Listing::default();
        let prefix = self.keys.devices();
        for (key, Stored { value, revision }) in self.store.list(&prefix).await? {
            let read = match self.keys.parse(&key) {
                Some(Key::Device(id)) => decode_device(&id, &value),
                _ => Err(Unreadable::Malformed("its key is no device id".to_owned())),
            };
            match read {
                Ok(value) => listing.devices.push(Versioned { value, revision }),
                Err(why) => {
                    let name = key.strip_prefix(&prefix).unwrap_or(&key);
                    let name = name.escape_debug().to_string();
                    listing.unreadable.push(UnreadableDevice { name, why });
                }
            }
        }
        Ok(listing)
    }

    async fn update_device(&self, record: DeviceRecord, expected: Revision) -> Result<Revision, WriteError> {
        let id = &record.device;
        let value = encode(&record)?;
        let stored = match self.device(id).await? {
            Some(stored) if stored.revision == expected => stored.value,
            other => {
                let found = other.map(|s| s.revision);
                return Err(WriteError::Stale { found });
            }
        };
        check_edit(&stored, &record)?;

        let key = self.keys.text(&Key::Device(id.clone()));
        let mut guards = vec![Guard::At(key.clone(), expected)];
        let mut puts = vec![Put { key, value }];
        let new = |digest: &&PskDigest| !stored.psk.digests().any(|known| known == *digest);
        for digest in record.psk.digests().filter(new) {
            let (guard, put) = self.index_psk(digest, id);
            guards.push(guard);
            puts.push(put);
        }
        let psks = guards.len().saturating_sub(1);
        let certificate = record.client_certificate.as_ref();
        if let Some(digest) = certificate.filter(|new| stored.client_certificate.as_ref() != Some(*new)) {
            let (guard, put) = self.index_certificate(digest, id);
            guards.push(guard);
            puts.push(put);
        }
        let found = match self.store.commit(guards, puts).await? {
            Commit::Done(revision) => return Ok(revision),
            Commit::Conflict(found) => found,
        };
        // The record first: when somebody else edited it, the rest was decided on what is no more.
        let mut found = found.into_iter();
        let at = found.next().flatten().map(|s| s.revision);
        if at == Some(expected) {
            if let Some(owner) = found.by_ref().take(psks).flatten().next() {
                return Err(WriteError::PskTaken(decode_owner(&owner.value)?));
            }
            if let Some(owner) = found.flatten().next() {
                return Err(WriteError::CertificateTaken(decode_owner(&owner.value)?));
            }
        }
        Err(WriteError::Stale { found: at })
    }

    async fn certificate_owner(&self, key: &CertificateKeyDigest) -> Result<Option<DeviceId>, ReadError> {
        let found = self.store.get(&self.keys.text(&Key::Certificate(*key))).await?;
        Ok(found.map(|stored| decode_owner(&stored.value)).transpose()?)
    }

    async fn policy(&self, name: &PolicyName) -> Result<Option<Versioned<PolicyRecord>>, ReadError> {
        self.read(&Key::Policy(name.clone())).await
    }

    async fn put_policy(
        &self,
        name: &PolicyName,
        record: PolicyRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let value = encode(&record)?;
        if expected.is_some() {
            match self.policy(name).await? {
                Some(stored) if Some(stored.revision) == expected => {
                    let (stored, offered) = (stored.value.revision, record.revision);
                    if offered <= stored {
                        return Err(WriteError::PolicyRevisionNotRisen { stored, offered });
                    }
                }
                other => {
                    let found = other.map(|s| s.revision);
                    return Err(WriteError::Stale { found });
                }
            }
        }
        self.swap(&Key::Policy(name.clone()), value, expected).await
    }

    async fn seen(&self, id: &DeviceId) -> Result<Option<Versioned<SeenRecord>>, ReadError> {
        self.read(&Key::Seen(id.clone())).await
    }

    async fn put_seen(
        &self,
        id: &DeviceId,
        record: SeenRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let value = encode_seen(&record);
        self.swap(&Key::Seen(id.clone()), value, expected).await
    }

    async fn spent(&self, id: &DeviceId) -> Result<Option<Versioned<SpentRecord>>, ReadError> {
        self.read(&Key::Spent(id.clone())).await
    }

    async fn put_spent(
        &self,
        id: &DeviceId,
        record: SpentRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let value = encode(&record)?;
        self.swap(&Key::Spent(id.clone()), value, expected).await
    }

    async fn watch(&self) -> Result<Watch, ReadError> {
        let changes = self.store.watch(self.keys.prefix()).await?;
        Ok(Watch::new(changes, View::new(self.keys.clone())))
    }
}

/// What an edit must leave as it is, and what it must raise.
fn check_edit(stored: &DeviceRecord, offered: &DeviceRecord) -> Result<(), WriteError> {
    if stored.state == DeviceState::Retired {
        return Err(WriteError::Retired);
    }
    match (&stored.tpm, &offered.tpm) {
        (None, None) => {}
        (Some(old), Some(new)) => check_tpm(old, new)?,
        (None, Some(_)) | (Some(_), None) => return Err(WriteError::Immutable("TPM")),
    }
    if offered.generation <= stored.generation {
        return Err(WriteError::GenerationNotRisen {
            stored: stored.generation,
            offered: offered.generation,
        });
    }
    Ok(())
}

fn check_tpm(old: &TpmIdentity, new: &TpmIdentity) -> Result<(), WriteError> {
    if old.ek != new.ek {
        Err(WriteError::Immutable("endorsement key"))
    } else if (&old.ak_public, &old.ak_qualified_name) != (&new.ak_public, &new.ak_qualified_name) {
        Err(WriteError::Immutable("attestation key"))
    } else {
        Ok(())
    }
}

/// Which guard of an enrolment did not hold. They are, in order: the device, its EK if any, its PSK
/// digests, its client certificate's key if any.
fn taken(record: &DeviceRecord, found: Vec<Option<Stored>>) -> Result<EnrolError, Unreadable> {
    let mut found = found.into_iter();
    if found.next().flatten().is_some() {
        return Ok(EnrolError::DeviceExists);
    }
    if record.tpm.is_some()
        && let Some(owner) = found.next().flatten()
    {
        return decode_owner(&owner.value).map(EnrolError::EkTaken);
    }
    let psks = record.psk.digests().count();
    if let Some(owner) = found.by_ref().take(psks).flatten().next() {
        return decode_owner(&owner.value).map(EnrolError::PskTaken);
    }
    match found.flatten().next() {
        Some(owner) => decode_owner(&owner.value).map(EnrolError::CertificateTaken),
        // A backend that reports a conflict and shows none contradicts itself.
        None => Err(Unreadable::Malformed("a conflict without a cause".to_owned())),
    }
}

fn stale(found: Option<&Option<Stored>>) -> WriteError {
    WriteError::Stale {
        found: found.and_then(Option::as_ref).map(|s| s.revision),
    }
}
