//! How to reach a registry beside its URL: TLS, user, time-outs.
//!
//! Owns: paths of files, never what is in them; the files are read when a registry is opened.

use std::{path::PathBuf, time::Duration};

/// Everything about a connection that is not in the URL. The defaults are for an etcd in the same data centre.
#[derive(Debug, Clone)]
pub struct Options {
    /// TLS to etcd. Absent: plain TCP.
    pub tls: Option<TlsFiles>,
    /// The etcd user. Absent: none.
    pub user: Option<User>,
    /// How long a connection may take to come up. Default 3 s.
    pub connect_timeout: Duration,
    /// How long one call may take. Default 5 s.
    pub call_timeout: Duration,
    /// How often a quiet watch proves that it is alive. Default 2 s.
    pub alive_every: Duration,
    /// What to do where a registry's file is not there. Default: make it.
    pub absent: Absent,
}

/// What to do where a registry's file is not there. An etcd is there or it is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// Make it.
    #[default]
    Create,
    /// Refuse: who only looks has mistyped the path.
    Refuse,
    /// Go on as if it were there and empty, and write nothing to the disk: for plans.
    Empty,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            user: None,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(5),
            alive_every: Duration::from_secs(2),
            absent: Absent::default(),
        }
    }
}

/// The PEM files of a TLS connection.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authorities that may sign the servers' certificates; no others are trusted.
    pub ca: PathBuf,
    /// Our own certificate, where the servers ask for one.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate and its key.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// Its private key; readable by its owner alone.
    pub key: PathBuf,
}

/// An etcd user.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// A file whose first line is the password; readable by its owner alone.
    pub password_file: PathBuf,
}
