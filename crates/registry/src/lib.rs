//! The registry: which devices a fleet has, how they are known, what they must prove.
//!
//! Owns: the records, the keys they are kept under, uniqueness of ids, endorsement keys and PSK digests, compare-and-
//! swap on every write, and the [`Snapshot`] that the proxies decide from. Two backends hold the same keys: SQLite in
//! one file, and etcd; one conformance suite runs on both. It never sees a pre-shared key, only its digest.
//! Refuses: to write what its readers would refuse, to let a generation or a policy's revision stand still, to give a
//! tombstone's id, EK or PSK digest away again. A record that is not wholly understood refuses that device only.
//! Who may call: `provisioner` (writes) and `attest-proxy` (reads, and writes what it saw and what was spent). etcd-client and rusqlite
//! are used here and nowhere else.
//! An attacker who can write to the backend past us controls every byte read here; nothing read leads to a panic, and
//! what does not fit is refused with a reason for the operator.
//! Layering: [`record`], [`snapshot`] and the fold behind it are pure; `ledger` has the rules of writing, once for
//! both backends; the backends know keys, bytes and revisions, and nothing of what they mean.

mod error;
mod etcd;
mod key;
mod ledger;
mod open;
mod options;
mod port;
pub mod record;
pub mod snapshot;
mod sqlite;
mod store;
mod url;
mod view;
mod watch;

pub use error::{EnrolError, OpenError, ReadError, Unavailable, WatchError, WriteError};
pub use open::open;
pub use options::{Absent, ClientIdentity, Options, TlsFiles, User};
pub use port::{Listing, Registry, Revision, UnreadableDevice, Versioned};
pub use record::{
    CertificateRule, CertifiedTpm, Day, DeviceRecord, DeviceState, EkTrust, PolicyRecord, PreviousPsk,
    PskSlots, ReplicaId, Running, SeenRecord, SpentRecord, TpmIdentity, Unreadable, Version1,
};
pub use snapshot::{Entry, Lookup, Snapshot, Unusable};
pub use url::{Endpoint, InvalidRegistryUrl, RegistryUrl};
pub use watch::{Update, Watch};
