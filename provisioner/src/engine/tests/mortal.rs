//! Ports that die: each change of the world may be the last one, whole or half done.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use domain::{
    CertificateKeyDigest, CredentialSecret, DeviceId, Generation, PcrSelection, PcrValues, PolicyName,
    SealedSecret, VolumeKeyDigest,
};
use registry::{
    DeviceRecord, EnrolError, Listing, PolicyRecord, ReadError, Registry, Revision, SeenRecord, SpentRecord,
    Versioned, Watch, WriteError,
};
use tpm::{
    AkHandle, AkInfo, Conditions, EkAlg, EkInfo, Identity, ReadBack, RollbackError, RollbackIndex, SealError,
    SealOptions, SealedObject, StorageKey, StorageTemplate, Tcti, TpmError, UnsealError,
};

use crate::{
    journal::{Entry, JournalFault},
    ports::{Content, Found, Journal, Journals, NewVolume, Tpm, Tpms, VolumeFault, Volumes},
};

/// When to die: after so many changes of the world, and whether the last one is only half done.
#[derive(Clone, Default)]
pub(super) struct Fate {
    left: Arc<AtomicUsize>,
    torn: Arc<AtomicBool>,
    /// Whether the TPM opens credentials wrongly.
    pub(super) lies: Arc<AtomicBool>,
}

impl Fate {
    pub(super) fn die_after(changes: usize, torn: bool) -> Self {
        let fate = Self::default();
        fate.left.store(changes, Ordering::SeqCst);
        fate.torn.store(torn, Ordering::SeqCst);
        fate
    }

    pub(super) fn immortal() -> Self {
        Self::die_after(usize::MAX, false)
    }

    /// A change was made; whether to die now.
    fn now(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn change(&self) {
        if self.now() {
            panic!("killed");
        }
    }

    /// A change of a file was made; a death leaves half of it where `torn` says so.
    fn change_file(&self, path: &Path, lost: u64) {
        if self.now() {
            if self.torn.load(Ordering::SeqCst) {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() - lost).unwrap();
            }
            panic!("killed");
        }
    }
}

/// Something that may die at each change of the world.
pub(super) struct Mortal<T: ?Sized>(pub(super) Fate, pub(super) Box<T>);

impl Tpms for Mortal<dyn Tpms> {
    fn open(&mut self, tcti: &Tcti) -> Result<Box<dyn Tpm>, TpmError> {
        Ok(Box::new(Mortal(self.0.clone(), self.1.open(tcti)?)))
    }
}

impl Tpm for Mortal<dyn Tpm> {
    fn next_generation(&mut self, index: RollbackIndex) -> Result<Generation, RollbackError> {
        let next = self.1.next_generation(index)?;
        self.0.change();
        Ok(next)
    }
    fn identity(&mut self) -> Result<Identity, TpmError> {
        self.1.identity()
    }
    fn endorsement_key(&mut self, alg: EkAlg) -> Result<EkInfo, TpmError> {
        self.1.endorsement_key(alg)
    }
    fn read_ak(&mut self, handle: AkHandle) -> Result<Option<AkInfo>, TpmError> {
        self.1.read_ak(handle)
    }
    fn create_ak(&mut self, alg: EkAlg, handle: AkHandle) -> Result<AkInfo, TpmError> {
        let made = self.1.create_ak(alg, handle)?;
        self.0.change();
        Ok(made)
    }
    fn evict_ak(&mut self, handle: AkHandle) -> Result<(), TpmError> {
        self.1.evict_ak(handle)?;
        self.0.change();
        Ok(())
    }
    fn activate_credential(
        &mut self,
        alg: EkAlg,
        handle: AkHandle,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<CredentialSecret, TpmError> {
        if self.0.lies.load(Ordering::SeqCst) {
            return Ok(CredentialSecret::copy_from(&[7; 32]).unwrap());
        }
        self.1
            .activate_credential(alg, handle, id_object, encrypted_secret)
    }
    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        self.1.read_pcrs(selection)
    }
    fn seal_with(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        options: SealOptions,
    ) -> Result<(SealedObject, ReadBack), SealError> {
        self.1.seal_with(secret, conditions, options)
    }
    fn unseal_with(
        &mut self,
        object: &SealedObject,
        conditions: &Conditions<'_>,
    ) -> Result<SealedSecret, UnsealError> {
        self.1.unseal_with(object, conditions)
    }
    fn storage_key(&mut self, template: StorageTemplate) -> Result<StorageKey, TpmError> {
        self.1.storage_key(template)
    }
    fn persistent_storage_key(&mut self) -> Result<Option<StorageKey>, TpmError> {
        self.1.persistent_storage_key()
    }
}

pub(super) fn partial(target: &Path) -> PathBuf {
    target.with_file_name(format!(
        ".{}.partial",
        target.file_name().unwrap().to_str().unwrap()
    ))
}

impl Volumes for Mortal<dyn Volumes> {
    fn find(&self, at: &Path) -> Result<Found, VolumeFault> {
        self.1.find(at)
    }
    fn read(&self, at: &Path, secret: &SealedSecret) -> Result<Content, VolumeFault> {
        self.1.read(at, secret)
    }
    fn write(&mut self, new: &NewVolume<'_>) -> Result<VolumeKeyDigest, VolumeFault> {
        let digest = self.1.write(new)?;
        self.0.change_file(&partial(new.target), 8 << 20);
        Ok(digest)
    }
    fn place(&mut self, target: &Path, replace: bool) -> Result<(), VolumeFault> {
        self.1.place(target, replace)?;
        self.0.change();
        Ok(())
    }
}

impl Journals for Mortal<dyn Journals> {
    fn read(&self, path: &Path) -> Result<Vec<Entry>, JournalFault> {
        self.1.read(path)
    }
    fn open(&mut self, path: &Path) -> Result<Box<dyn Journal>, JournalFault> {
        let open = self.1.open(path)?;
        self.0.change();
        Ok(Box::new(MortalJournal(self.0.clone(), path.to_owned(), open)))
    }
}

struct MortalJournal(Fate, PathBuf, Box<dyn Journal>);

impl Journal for MortalJournal {
    fn append(&mut self, entry: &Entry) -> Result<(), JournalFault> {
        self.2.append(entry)?;
        self.0.change_file(&self.1, 3);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct MortalRegistry(pub(super) Arc<dyn Registry>, pub(super) Fate);

impl std::fmt::Debug for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fate")
    }
}

#[async_trait]
impl Registry for MortalRegistry {
    async fn enrol(&self, record: DeviceRecord) -> Result<Revision, EnrolError> {
        let revision = self.0.enrol(record).await?;
        self.1.change();
        Ok(revision)
    }
    async fn device(&self, id: &DeviceId) -> Result<Option<Versioned<DeviceRecord>>, ReadError> {
        self.0.device(id).await
    }
    async fn devices(&self) -> Result<Listing, ReadError> {
        self.0.devices().await
    }
    async fn update_device(&self, record: DeviceRecord, expected: Revision) -> Result<Revision, WriteError> {
        let revision = self.0.update_device(record, expected).await?;
        self.1.change();
        Ok(revision)
    }
    async fn certificate_owner(&self, key: &CertificateKeyDigest) -> Result<Option<DeviceId>, ReadError> {
        self.0.certificate_owner(key).await
    }
    async fn policy(&self, name: &PolicyName) -> Result<Option<Versioned<PolicyRecord>>, ReadError> {
        self.0.policy(name).await
    }
    async fn put_policy(
        &self,
        name: &PolicyName,
        record: PolicyRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let revision = self.0.put_policy(name, record, expected).await?;
        self.1.change();
        Ok(revision)
    }
    async fn seen(&self, id: &DeviceId) -> Result<Option<Versioned<SeenRecord>>, ReadError> {
        self.0.seen(id).await
    }
    async fn put_seen(
        &self,
        id: &DeviceId,
        record: SeenRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        self.0.put_seen(id, record, expected).await
    }
    async fn spent(&self, id: &DeviceId) -> Result<Option<Versioned<SpentRecord>>, ReadError> {
        self.0.spent(id).await
    }
    async fn put_spent(
        &self,
        id: &DeviceId,
        record: SpentRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        self.0.put_spent(id, record, expected).await
    }
    async fn watch(&self) -> Result<Watch, ReadError> {
        self.0.watch().await
    }
}
