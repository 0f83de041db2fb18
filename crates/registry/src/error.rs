//! What can go wrong, by operation.
//!
//! Owns: the blame. [`Unavailable`] is the backend's or the network's; everything else is a state of the registry
//! that the caller has to look at. Display says one layer; sources say the rest.

use std::{io, path::PathBuf, time::Duration};

use domain::DeviceId;

use crate::{Revision, Unreadable};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The backend gave no answer that can be used. A write may have happened all the same.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Nothing came back in time: hung, overloaded or cut off.
    #[error("the registry did not answer within {0:?}")]
    TimedOut(Duration),
    /// The backend knows us and lets us not do this.
    #[error("the registry denied access")]
    Denied(#[source] Source),
    /// The backend failed.
    #[error("the registry failed")]
    Failed(#[source] Source),
}

impl Unavailable {
    pub(crate) fn failed(source: impl Into<Source>) -> Self {
        Self::Failed(source.into())
    }
}

/// Why a registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that the options name could not be read.
    #[error("cannot read {what} '{}'", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of secrets that others may read, or a database that others may write.
    #[error("{what} '{}' has mode {mode:04o}: others must not have access, try chmod 600", path.display())]
    Mode {
        /// What the file is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that is far too long or empty, or not text.
    #[error("{what} '{}' does not hold what it should", path.display())]
    Content {
        /// What the file is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A password would go over the network in clear.
    #[error("a password needs TLS, unless every endpoint is on loopback")]
    PasswordInClear,
    /// Certificates or keys that TLS does not take.
    #[error("the TLS files cannot be used")]
    Tls(#[source] Source),
    /// Options for etcd beside a URL of another kind.
    #[error("TLS and user are for etcd, this registry is a file")]
    NotForFiles,
    /// No file, and none is to be made.
    #[error("there is no registry at '{}'", path.display())]
    NotThere {
        /// Where.
        path: PathBuf,
    },
    /// An SQLite database that is none of ours.
    #[error("'{}' is a database, but not a registry", path.display())]
    NotARegistry {
        /// Where.
        path: PathBuf,
    },
    /// A registry file of a newer program.
    #[error("'{}' has schema {found}, this program knows schema {known}", path.display())]
    NewerSchema {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The backend gave no answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record is not understood.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// No answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a device was not enrolled. Except after [`EnrolError::Unavailable`], nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The id is in use, or was.
    #[error("the device is already registered")]
    DeviceExists,
    /// The endorsement key is another device's, or was.
    #[error("the endorsement key belongs to device '{0}'")]
    EkTaken(DeviceId),
    /// A PSK digest is another device's, or was.
    #[error("the pre-shared key belongs to device '{0}'")]
    PskTaken(DeviceId),
    /// The client certificate's key is another device's, or was.
    #[error("the client certificate's key belongs to device '{0}'")]
    CertificateTaken(DeviceId),
    /// The key in the way holds no device id; or the record offered is one that no reader would take.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// No answer: enrolled or not, read to know.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a record was not replaced. Except after [`WriteError::Unavailable`], nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody wrote in between, or the record is not there, or it is there already.
    #[error("the record is not the one that was read: it is at revision {}", shown(*found))]
    Stale {
        /// The revision that it is at; `None` when there is no record.
        found: Option<Revision>,
    },
    /// The generation must rise with every edit.
    #[error("the generation must rise: {stored} is stored, {offered} was offered")]
    GenerationNotRisen {
        /// The stored record's.
        stored: u64,
        /// The offered record's.
        offered: u64,
    },
    /// A policy's own revision must rise with every edit.
    #[error("the policy's revision must rise: {stored} is stored, {offered} was offered")]
    PolicyRevisionNotRisen {
        /// The stored policy's.
        stored: u64,
        /// The offered policy's.
        offered: u64,
    },
    /// A part of a device that stays what it was at enrolment.
    #[error("a device's {0} never changes; enrol it anew under another id")]
    Immutable(&'static str),
    /// A retired device is a tombstone.
    #[error("the device is retired, for good")]
    Retired,
    /// A PSK digest is another device's, or an ended one of this device.
    #[error("the pre-shared key belongs to device '{0}', or did")]
    PskTaken(DeviceId),
    /// The client certificate's key is another device's, or an ended one of this device.
    #[error("the client certificate's key belongs to device '{0}', or did")]
    CertificateTaken(DeviceId),
    /// The stored record is not understood, so it is not replaced; or the one offered is one that no reader would take.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// No answer: written or not, read to know.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

fn shown(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "none".to_owned(), |r| r.to_string())
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreadable(e) => Self::Unreadable(e),
            ReadError::Unavailable(e) => Self::Unavailable(e),
        }
    }
}

/// What interrupts a watch. It goes on by itself; the snapshot ages until the next proof of life.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The backend gave no answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The stream of changes ended. With the registry's words, escaped, if it had any.
    #[error("the registry ended the watch ({0}); everything is read anew")]
    Ended(String),
    /// History that the watch had not seen yet was compacted.
    #[error("the registry compacted its history up to revision {0}; everything is read anew")]
    Compacted(i64),
    /// The backend answers, but the stream of changes does not keep up.
    #[error("the watch is behind the registry; everything is read anew")]
    Behind,
    /// The registry's file was removed or another one was put in its place.
    #[error("the registry's file was replaced; it is opened anew")]
    Replaced,
}
