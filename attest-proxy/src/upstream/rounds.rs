//! Asking the servers how they are, off the way of requests.
//!
//! Owns: the rounds (`upstream-poll`), what a server is asked in one, and which addresses a name stands for at the
//! moment. A server that does not answer in time holds nobody up but the next round.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Upstream, UpstreamError,
    inventory::{Inventory, MAX_LIST, Models},
    message::Message,
    server::Server,
};

/// How long a server may take for all that it is asked in a round.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often connections are looked at that nobody uses.
const SWEEP: Duration = Duration::from_secs(10);
/// The most addresses of one name.
const MAX_ADDRESSES: usize = 64;
/// The longest answer to `/api/version`, in bytes.
const MAX_VERSION: usize = 4096;

impl Upstream {
    /// Asks every server again and again, and closes connections that nobody uses; does not end. One server alone is not asked: there
    /// is nothing to choose.
    pub async fn watch(&self) {
        tokio::join!(self.rounds(), self.sweep());
    }

    async fn sweep(&self) {
        loop {
            sleep(SWEEP).await;
            for server in self.gate.servers() {
                server.pool.sweep();
            }
        }
    }

    async fn rounds(&self) {
        loop {
            let every = self.tuned.load().poll;
            let Some(every) = every else {
                self.retuned.notified().await;
                continue;
            };
            self.round().await;
            tokio::select! {
                () = sleep(every) => {}
                () = self.retuned.notified() => {}
            }
        }
    }

    /// Asks every server once, and says of each, by its URL, whether it answered.
    pub async fn round(&self) -> Vec<(String, Result<(), UpstreamError>)> {
        self.resolve().await;
        let mut asked = JoinSet::new();
        for server in self.gate.servers() {
            let lists = self.tuned.load().poll.is_some();
            asked.spawn(async move {
                let result = look(&server, lists).await;
                (server.url(), result)
            });
        }
        let mut found = asked.join_all().await;
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.gate.look_again();
        found
    }

    /// Takes up the addresses that names have now. A name that cannot be resolved keeps those it had.
    async fn resolve(&self) {
        let tuned = self.tuned.load_full();
        if !tuned.specs.iter().any(|spec| spec.each_address) {
            return;
        }
        let before = self.gate.servers();
        let mut now = Vec::new();
        for spec in &tuned.specs {
            let mut addresses = vec![spec.url.address().to_owned()];
            if spec.each_address {
                match timeout(PATIENCE, lookup_host(spec.url.address())).await {
                    Ok(Ok(found)) => addresses = found.map(|address| address.to_string()).collect(),
                    failed => {
                        let error = match failed {
                            Ok(Err(error)) => error.to_string(),
                            _ => "no answer in time".to_owned(),
                        };
                        tracing::warn!(target: "upstream", name = spec.url.address(), error, "a name was not resolved");
                        let kept = before.iter().filter(|server| server.is_of(spec));
                        now.extend(kept.cloned());
                        continue;
                    }
                }
            }
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(MAX_ADDRESSES);
            for address in addresses {
                let known = before
                    .iter()
                    .find(|server| server.is_of(spec) && server.name() == address);
                now.push(known.map_or_else(
                    || Server::new(spec, &address, &self.trust, &tuned.limits),
                    Arc::clone,
                ));
            }
        }
        let names = |servers: &[Arc<Server>]| -> HashSet<String> {
            servers.iter().map(|server| server.name().to_owned()).collect()
        };
        let (had, have) = (names(&before), names(&now));
        for server in have.difference(&had) {
            tracing::info!(target: "upstream", server, "a server was found");
        }
        for server in had.difference(&have) {
            tracing::info!(target: "upstream", server, "a server is no longer there");
        }
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&tuned, &self.tuned.load_full()) {
            self.gate.replace(now);
        }
    }
}

/// Asks a server whether it is there, and for its lists.
async fn look(server: &Server, lists: bool) -> Result<(), UpstreamError> {
    let result = timeout(PATIENCE, ask(server, lists))
        .await
        .unwrap_or(Err(UpstreamError::Timeout(PATIENCE)));
    // Of a server that nobody asks again, no answer may leave a mark.
    match &result {
        _ if !lists => {}
        Ok(()) => server.probed(),
        Err(_) => server.missed(),
    }
    result
}

async fn ask(server: &Server, lists: bool) -> Result<(), UpstreamError> {
    let get = |path| Message::get(path, server.host());
    let (status, _) = server.pool.fetch(&get("/api/version"), MAX_VERSION).await?;
    if status.is_server_error() {
        return Err(UpstreamError::Status(status.as_u16()));
    }
    if lists {
        let installed = server.pool.fetch(&get("/api/tags"), MAX_LIST).await;
        let loaded = server.pool.fetch(&get("/api/ps"), MAX_LIST).await;
        server.stock(Inventory {
            installed: read(installed),
            loaded: read(loaded).unwrap_or_default(),
        });
    }
    Ok(())
}

fn read(answer: Result<(StatusCode, Bytes), UpstreamError>) -> Option<Models> {
    let (status, list) = answer.ok()?;
    status.is_success().then(|| Models::parse(&list))?
}
