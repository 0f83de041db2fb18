//! SIGHUP: the configuration, keys and certificates, read again while requests go on.
//!
//! Owns: the order: everything is read before anything is taken, so that a mistake anywhere leaves all as it was; and that
//! the operator is told what came of it, by log and metric, and which changed keys wait for a restart.
//! Requests and connections see the new bounds at their next look-up; what runs, ends as it began.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{
    config::Settings,
    expiry,
    kept::Kept,
    keys::{self, Loaded},
    server::{StartError, acceptor},
    service::{Keys, Proxy},
    tls::Acceptor,
    upstream::Trust,
};

/// What takes up a configuration that was read again.
#[derive(Debug)]
pub struct Reloader {
    /// As the process was started.
    pub(crate) started: Arc<Settings>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) tls: Arc<ArcSwapOption<Acceptor>>,
    pub(crate) kept: Option<Arc<Kept>>,
}

impl Reloader {
    /// Takes up what was read, or why it could not be; gives it back where it was taken.
    pub fn reload(&self, read: Result<Settings, String>) -> Option<Settings> {
        let taken = read.and_then(|settings| match self.take(&settings) {
            Ok(()) => Ok(settings),
            Err(error) => Err(error.to_string()),
        });
        let metrics = &self.proxy.metrics;
        metrics.reloaded(taken.is_ok());
        match taken {
            Ok(settings) => {
                let waiting = self.started.fixed(&settings);
                metrics.waits_for_restart(waiting.len());
                tracing::info!(target: "server", "configuration, keys and certificates were read again");
                if !waiting.is_empty() {
                    let keys = waiting.join(", ");
                    tracing::warn!(target: "server", keys, "these keys were changed, and stay as they were until a restart");
                }
                Some(settings)
            }
            Err(error) => {
                tracing::error!(target: "server", error, "nothing was reloaded, all stays as it was");
                None
            }
        }
    }

    fn take(&self, new: &Settings) -> Result<(), StartError> {
        let Loaded { ring, storage } = keys::load(new)?;
        // TLS is not switched on or off under those who are connected, or who check the scheme.
        let with_tls = self.started.tls.is_some() && new.tls.is_some();
        let acceptor = if with_tls { acceptor(new)? } else { None };
        let trust = Trust::read(new.upstreams.tls.as_ref())?;
        let proxy = &self.proxy;
        if let Some(acceptor) = acceptor {
            watch_end(proxy, &acceptor);
            self.tls.store(Some(Arc::new(acceptor)));
        }
        // Before the servers: new ones are to be believed by it.
        if new.upstreams.tls.is_some() {
            proxy.upstream.renew(trust);
        }
        proxy.keys.store(Arc::new(Keys(ring)));
        if let Some(kept) = &self.kept {
            kept.rekey(storage.clone());
        }
        if let (Some(audit), Some(keys)) = (&proxy.told.audit, storage.into_iter().next()) {
            audit.reopen(keys);
        }
        proxy.bodies.resize(new.limits.body_memory);
        proxy.upstream.tune(&new.upstreams, &new.limits);
        proxy.tuned.store(Arc::new(new.tunable()));
        Ok(())
    }
}

/// Lets metrics and log say when the server's certificate ends.
pub(crate) fn watch_end(proxy: &Proxy, acceptor: &Acceptor) {
    let ends = acceptor.ends();
    proxy.metrics.certificates(ends);
    if let Some(warning) = expiry::warning(ends, proxy.clock.now()) {
        tracing::warn!(target: "server", "{warning}");
    }
}
