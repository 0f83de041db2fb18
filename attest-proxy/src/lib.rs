//! `attest-proxy`: admits a request to Ollama only from a registered device, and where the device's policy asks for it
//! only with evidence of its state.
//!
//! The way of a request: [`wire`] (framing, deadlines) -> [`head`] -> [`gate`] (pure decision over [`view`], the
//! registry as [`follow`] knows it) -> [`receive`] -> [`attest`] (evidence and its record) -> [`body`] (policy) ->
//! [`forward`] over [`upstream`]. [`service`] holds it together, [`respond`] is the one place where a refusal becomes an
//! answer, [`server`] listens (`listener`: its connections). The library is there for `main` and for the tests; nothing else depends on it.

pub mod account;
pub mod attest;
pub mod audit;
pub mod body;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
mod eights;
pub mod endpoints;
pub mod expiry;
pub mod follow;
pub mod forward;
pub mod forwarded;
pub mod gate;
mod gather;
pub mod head;
pub mod kept;
pub mod keys;
mod lease;
mod line;
pub mod listener;
pub mod listing;
pub mod log;
pub mod memory;
pub mod meter;
pub mod metrics;
pub mod operators;
pub mod receive;
pub mod reload;
pub mod respond;
pub mod routes;
pub mod server;
pub mod service;
pub mod tls;
pub mod top;
pub mod trace;
pub mod upstream;
pub mod verdict;
pub mod view;
pub mod wire;

use std::time::Duration;

use config::Settings;
use registry::{ClientIdentity, Options, TlsFiles, User};

/// How the settings say to reach the registry.
pub(crate) fn registry_options(settings: &Settings) -> Options {
    let defaults = Options::default();
    Options {
        tls: settings.registry_tls.as_ref().map(|tls| TlsFiles {
            ca: tls.ca.clone(),
            identity: tls
                .cert
                .clone()
                .zip(tls.key.clone())
                .map(|(cert, key)| ClientIdentity { cert, key }),
        }),
        user: settings.registry_user.as_ref().map(|user| User {
            name: user.name.clone(),
            password_file: user.password_file.clone(),
        }),
        // Three signs of life fit into the age that is allowed, so that one that is late does no harm.
        alive_every: defaults
            .alive_every
            .min(settings.registry_max_age / 3)
            .max(Duration::from_millis(50)),
        ..defaults
    }
}
