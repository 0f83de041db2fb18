//! What a backend does: keys, bytes and revisions, with transactions that compare before they write.
//!
//! Owns: nothing but the seam. The backends behind it know nothing of records; `ledger` in front of it knows nothing
//! of SQL or gRPC.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{ReadError, Revision, Unavailable, WatchError};

/// A value and the write that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) value: Vec<u8>,
    pub(crate) revision: Revision,
}

/// A key with its value.
pub(crate) type Row = (String, Stored);

/// What must hold for a transaction to write.
#[derive(Debug, Clone)]
pub(crate) enum Guard {
    /// Nothing is under the key.
    Absent(String),
    /// The key's value is from this write.
    At(String, Revision),
}

impl Guard {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::At(key, _) => key,
        }
    }

    pub(crate) fn holds(&self, stored: Option<Revision>) -> bool {
        match self {
            Self::Absent(_) => stored.is_none(),
            Self::At(_, expected) => stored == Some(*expected),
        }
    }
}

/// A value to write.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Commit {
    /// Every guard held; all is written.
    Done(Revision),
    /// A guard did not hold; nothing is written. What is under each guard's key, in the guards' order.
    Conflict(Vec<Option<Stored>>),
}

/// What a backend tells of itself over time.
#[derive(Debug)]
pub(crate) enum Change {
    /// Everything, anew.
    All(Vec<Row>),
    /// Some keys; `None` where a key is gone. From whole transactions.
    Some(Vec<(String, Option<Stored>)>),
    /// All that was sent is all there is, as of now.
    Alive,
}

/// A stream of changes. Dropping it ends the backend's work for it.
pub(crate) type Changes = mpsc::Receiver<Result<Change, WatchError>>;

/// One at a time: a reader that is behind must not find old proofs of life queued up.
pub(crate) const CHANGES_AHEAD: usize = 1;

#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// The value under a key.
    async fn get(&self, key: &str) -> Result<Option<Stored>, Unavailable>;

    /// Every key that begins with `prefix`, ascending, as of one revision.
    async fn list(&self, prefix: &str) -> Result<Vec<Row>, Unavailable>;

    /// Writes all `puts` if all `guards` hold, in one transaction.
    async fn commit(&self, guards: Vec<Guard>, puts: Vec<Put>) -> Result<Commit, Unavailable>;

    /// Follows every key that begins with `prefix`. The first change is [`Change::All`].
    async fn watch(&self, prefix: &str) -> Result<Changes, ReadError>;
}
