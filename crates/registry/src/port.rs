//! What a registry does, whichever backend holds it.

use async_trait::async_trait;
use domain::{CertificateKeyDigest, DeviceId, PolicyName};

use crate::{
    EnrolError, ReadError, Unreadable, Watch, WriteError,
    record::{DeviceRecord, PolicyRecord, SeenRecord, SpentRecord},
};

/// Which write a record is from. Every write compares it and swaps. Rises with every write to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// A backend's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The backend's number for it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// A record and the write that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The write.
    pub revision: Revision,
}

/// All devices of a fleet, by id. Nothing is dropped: what cannot be read is listed beside the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The records that are understood.
    pub devices: Vec<Versioned<DeviceRecord>>,
    /// Those that are not. Their devices are refused.
    pub unreadable: Vec<UnreadableDevice>,
}

/// A device whose record is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableDevice {
    /// The last part of its key, escaped: usually, but not surely, a device id.
    pub name: String,
    /// Why.
    pub why: Unreadable,
}

/// A fleet's registry.
///
/// Every call ends within the time-outs of [`Options`](crate::Options). A write that ends in `Unavailable` may have
/// happened: read again before writing again.
#[async_trait]
pub trait Registry: Send + Sync + std::fmt::Debug {
    /// Registers a device: its record, its PSK digests and its endorsement key in one transaction, all new.
    ///
    /// # Errors
    /// The id, the EK or a PSK digest is taken, retired ones included; or no answer.
    async fn enrol(&self, record: DeviceRecord) -> Result<Revision, EnrolError>;

    /// Reads one device.
    ///
    /// # Errors
    /// A record that is not understood, or no answer.
    async fn device(&self, id: &DeviceId) -> Result<Option<Versioned<DeviceRecord>>, ReadError>;

    /// Reads all devices.
    ///
    /// # Errors
    /// No answer. Records that are not understood are in the listing.
    async fn devices(&self) -> Result<Listing, ReadError>;

    /// Replaces a device's record, which must still be at `expected`. The generation must rise; id, EK and AK stay as
    /// they are; PSK digests that are new to the device must be new to the fleet; a retired device stays retired.
    ///
    /// # Errors
    /// Any of that does not hold, or no answer.
    async fn update_device(&self, record: DeviceRecord, expected: Revision) -> Result<Revision, WriteError>;

    /// Whose a client certificate's key is, or was: it is one device's for good.
    ///
    /// # Errors
    /// What stands there is no device id, or no answer.
    async fn certificate_owner(&self, key: &CertificateKeyDigest) -> Result<Option<DeviceId>, ReadError>;

    /// Reads a policy.
    ///
    /// # Errors
    /// A record that is not understood, or no answer.
    async fn policy(&self, name: &PolicyName) -> Result<Option<Versioned<PolicyRecord>>, ReadError>;

    /// Writes a policy: a new one (`expected` is `None`), or over the one at `expected`, whose own revision must rise.
    ///
    /// # Errors
    /// The stored one is at another revision, its own revision did not rise, or no answer.
    async fn put_policy(
        &self,
        name: &PolicyName,
        record: PolicyRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError>;

    /// Reads what was seen of a device last.
    ///
    /// # Errors
    /// A record that is not understood, or no answer.
    async fn seen(&self, id: &DeviceId) -> Result<Option<Versioned<SeenRecord>>, ReadError>;

    /// Writes what was seen of a device: the first time (`expected` is `None`), or over the record at `expected`.
    ///
    /// # Errors
    /// The stored one is at another revision, or no answer.
    async fn put_seen(
        &self,
        id: &DeviceId,
        record: SeenRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError>;

    /// Reads what a device spent.
    ///
    /// # Errors
    /// A record that is not understood, or no answer.
    async fn spent(&self, id: &DeviceId) -> Result<Option<Versioned<SpentRecord>>, ReadError>;

    /// Writes what a device spent: the first time (`expected` is `None`), or over the record at `expected`.
    ///
    /// # Errors
    /// The stored one is at another revision, or no answer.
    async fn put_spent(
        &self,
        id: &DeviceId,
        record: SpentRecord,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError>;

    /// Follows every change. The first update is a whole snapshot.
    ///
    /// # Errors
    /// No answer to the first reading. Later ones are reports of [`Watch::next`], and the watch goes on.
    async fn watch(&self) -> Result<Watch, ReadError>;
}
