//! The etcd backend: keys, values and revisions as etcd has them, API version 3.4 and later.
//!
//! Owns: the connection, its TLS and user, and the time-out of every call. Reads are linearizable.
//! Refuses: a password without TLS to anything but loopback; to trust an authority that the options do not name.
//! An attacker between us and etcd is TLS's business; one inside etcd is the records' readers'.
//! Limits: a call goes to one member; when that one hangs, the call times out, and HTTP/2 pings drop the member after
//! 15 s. etcd-client keeps the password in plain memory, to authenticate again when its token expires.

mod connect;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use domain::FleetName;
use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, KvClient, Txn, TxnOp, TxnOpResponse};

use crate::{
    Endpoint, OpenError, Options, ReadError, Revision, Unavailable,
    key::Keyspace,
    store::{Changes, Commit, Guard, Put, Row, Store, Stored},
};

/// Keys per page. With records of a kilobyte or two, a page is well under a gRPC message.
const PAGE: i64 = 1000;
/// The longest answer that is taken, in bytes: a page of the longest records there can be.
const MAX_ANSWER: usize = 80 * 1024 * 1024;

/// A registry in etcd.
#[derive(Clone)]
pub(crate) struct EtcdStore {
    client: Client,
    call_timeout: Duration,
    alive_every: Duration,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client holds the password.
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

impl EtcdStore {
    pub(crate) async fn open(
        endpoints: &[Endpoint],
        options: &Options,
        fleet: &FleetName,
    ) -> Result<Self, OpenError> {
        let store = Self {
            client: connect::client(endpoints, options).await?,
            call_timeout: options.call_timeout,
            alive_every: options.alive_every,
        };
        store.head(Keyspace::new(fleet).prefix()).await?;
        Ok(store)
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_ANSWER)
    }

    /// Waits for an answer, for as long as a call may take.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Unavailable> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Err(_) => Err(Unavailable::TimedOut(self.call_timeout)),
            Ok(Err(error)) => Err(unavailable(error)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// The cluster's revision, by a linearizable read of one key inside `prefix`.
    async fn head(&self, prefix: &str) -> Result<i64, Unavailable> {
        let mut kv = self.kv();
        let options = GetOptions::new().with_keys_only();
        let answer = self.answer(kv.get(prefix, Some(options))).await?;
        header_revision(answer.header())
    }

    /// Every key that begins with `prefix`, in pages, all as of one revision, which is returned as well.
    async fn pages(&self, prefix: &str) -> Result<(Vec<Row>, i64), Unavailable> {
        let mut kv = self.kv();
        let end = after(prefix);
        let (mut rows, mut from, mut revision) = (Vec::new(), prefix.as_bytes().to_owned(), 0);
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(revision);
            let mut answer = self.answer(kv.get(from, Some(options))).await?;
            if revision == 0 {
                revision = header_revision(answer.header())?;
            }
            let more = answer.more();
            let page = answer.take_kvs();
            // The next page starts at the first key after this one's last.
            from = page
                .last()
                .map(|kv| [kv.key(), b"\0"].concat())
                .unwrap_or_default();
            rows.extend(page.iter().map(row).collect::<Result<Vec<_>, _>>()?);
            if !more || from.is_empty() {
                return Ok((rows, revision));
            }
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Stored>, Unavailable> {
        let mut kv = self.kv();
        let answer = self.answer(kv.get(key, None)).await?;
        answer.kvs().first().map(stored).transpose()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Row>, Unavailable> {
        self.pages(prefix).await.map(|(rows, _)| rows)
    }

    async fn commit(&self, guards: Vec<Guard>, puts: Vec<Put>) -> Result<Commit, Unavailable> {
        let compares = guards.iter().map(compare).collect::<Result<Vec<_>, _>>()?;
        let puts: Vec<_> = puts
            .into_iter()
            .map(|put| TxnOp::put(put.key, put.value, None))
            .collect();
        let gets: Vec<_> = guards.iter().map(|g| TxnOp::get(g.key(), None)).collect();
        let transaction = Txn::new().when(compares).and_then(puts).or_else(gets);
        let mut kv = self.kv();
        let answer = self.answer(kv.txn(transaction)).await?;
        if answer.succeeded() {
            let revision = revision(header_revision(answer.header())?)?;
            return Ok(Commit::Done(revision));
        }
        let found = answer.op_responses().into_iter().map(|op| match op {
            TxnOpResponse::Get(got) => got.kvs().first().map(stored).transpose(),
            _ => Err(unexpected("a transaction's answer of another kind")),
        });
        found.collect::<Result<_, _>>().map(Commit::Conflict)
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, ReadError> {
        watch::start(self.clone(), prefix.to_owned()).await
    }
}

fn compare(guard: &Guard) -> Result<Compare, Unavailable> {
    match guard {
        // etcd's way to say that a key does not exist.
        Guard::Absent(key) => Ok(Compare::create_revision(key.as_str(), CompareOp::Equal, 0)),
        Guard::At(key, at) => {
            let at = i64::try_from(at.get()).map_err(Unavailable::failed)?;
            Ok(Compare::mod_revision(key.as_str(), CompareOp::Equal, at))
        }
    }
}

fn row(kv: &KeyValue) -> Result<Row, Unavailable> {
    // A key that is no text is none of ours; its escaped form is reported as a stray.
    let key = String::from_utf8_lossy(kv.key()).into_owned();
    stored(kv).map(|stored| (key, stored))
}

fn stored(kv: &KeyValue) -> Result<Stored, Unavailable> {
    Ok(Stored {
        value: kv.value().to_owned(),
        revision: revision(kv.mod_revision())?,
    })
}

fn revision(number: i64) -> Result<Revision, Unavailable> {
    u64::try_from(number)
        .map(Revision::new)
        .map_err(Unavailable::failed)
}

fn header_revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64, Unavailable> {
    header
        .map(etcd_client::ResponseHeader::revision)
        .ok_or_else(|| unexpected("an answer without a header"))
}

/// The first key behind every key that begins with `prefix`, which ends in a slash.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_owned();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

fn unexpected(what: &'static str) -> Unavailable {
    Unavailable::failed(what)
}

/// gRPC codes of an answer that says "you may not" (grpc/grpc, doc/statuscodes.md).
fn unavailable(error: etcd_client::Error) -> Unavailable {
    use tonic_code::{PERMISSION_DENIED, UNAUTHENTICATED};
    match &error {
        etcd_client::Error::GRpcStatus(status)
            if matches!(i32::from(status.code()), PERMISSION_DENIED | UNAUTHENTICATED)
                || status.message().contains("authentication failed") =>
        {
            Unavailable::Denied(error.into())
        }
        _ => Unavailable::failed(error),
    }
}

/// tonic is not a dependency of ours: its codes are known here by their numbers.
mod tonic_code {
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}
