//! Opening a registry by its URL.

use std::sync::Arc;

use domain::FleetName;

use crate::{
    OpenError, Options, Registry, RegistryUrl, etcd::EtcdStore, ledger::Ledger, sqlite::SqliteStore,
};

/// Opens a fleet's registry, and asks it one question, so that a wrong address or password is noticed here.
/// An SQLite file that does not exist is made, with mode 0600; its folder must exist.
///
/// # Errors
/// Files that cannot be used, and a backend that does not answer.
pub async fn open(
    url: &RegistryUrl,
    options: &Options,
    fleet: &FleetName,
) -> Result<Arc<dyn Registry>, OpenError> {
    match url {
        RegistryUrl::Sqlite(_) if options.tls.is_some() || options.user.is_some() => {
            Err(OpenError::NotForFiles)
        }
        RegistryUrl::Sqlite(path) => {
            let store = SqliteStore::open(path, options).await?;
            Ok(Arc::new(Ledger::new(store, fleet)))
        }
        RegistryUrl::Etcd(endpoints) => {
            let store = EtcdStore::open(endpoints, options, fleet).await?;
            Ok(Arc::new(Ledger::new(store, fleet)))
        }
    }
}
