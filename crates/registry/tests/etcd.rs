//! What only a server on a network can do: hang, restart, compact, ask for certificates and passwords.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

#[path = "common/mod.rs"]
mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use common::{device, edit, fleet, id, policy, policy_name, quick, seen, snapshot_where};
use registry::{
    ClientIdentity, DeviceState, EnrolError, OpenError, Options, ReadError, Registry, TlsFiles, Unavailable,
    Unusable, Update, User, Watch, WatchError, WriteError,
};
use testkit::etcd::{Etcd, EtcdTls};
use tokio::time::{Instant, timeout};

async fn open(etcd: &Etcd, options: &Options) -> Result<Arc<dyn Registry>, OpenError> {
    registry::open(&etcd.url().parse().unwrap(), options, &fleet()).await
}

async fn report(watch: &mut Watch) -> WatchError {
    let wait = async {
        loop {
            if let Err(report) = watch.next().await.expect("the watch goes on") {
                return report;
            }
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("a report")
}

async fn alive(watch: &mut Watch) {
    let wait =
        async { while !matches!(watch.next().await.expect("the watch goes on"), Ok(Update::Alive)) {} };
    timeout(Duration::from_secs(20), wait)
        .await
        .expect("a sign of life");
}

fn suspended(snapshot: &registry::Snapshot, name: &str) -> bool {
    matches!(snapshot.device(&id(name)), Some(Err(Unusable::Suspended)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_etcd_fails_calls_in_time_and_the_watch_recovers() {
    let etcd = Etcd::start();
    let registry = open(&etcd, &quick()).await.unwrap();
    registry
        .put_policy(&policy_name(), policy(1), None)
        .await
        .unwrap();
    registry.enrol(device("a")).await.unwrap();
    let mut watch = registry.watch().await.unwrap();
    alive(&mut watch).await;

    etcd.pause();
    let began = Instant::now();
    let read = registry.device(&id("a")).await;
    assert!(
        matches!(read, Err(ReadError::Unavailable(Unavailable::TimedOut(_)))),
        "{read:?}"
    );
    let enrolled = registry.enrol(device("b")).await;
    assert!(
        matches!(enrolled, Err(EnrolError::Unavailable(_))),
        "{enrolled:?}"
    );
    let seen = registry.put_seen(&id("a"), seen(1), None).await;
    assert!(matches!(seen, Err(WriteError::Unavailable(_))), "{seen:?}");
    assert!(registry.watch().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let report = report(&mut watch).await;
    assert!(matches!(report, WatchError::Unavailable(_)), "{report:?}");
    // While it hangs there is no sign of life, however many reports there are.
    let quiet = timeout(Duration::from_secs(3), alive(&mut watch)).await;
    assert!(quiet.is_err());

    etcd.resume();
    alive(&mut watch).await;
    edit(&*registry, "a", |r| r.state = DeviceState::Suspended).await;
    snapshot_where(&mut watch, |s| suspended(s, "a")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_etcd_is_found_again() {
    let mut etcd = Etcd::start();
    let registry = open(&etcd, &quick()).await.unwrap();
    registry
        .put_policy(&policy_name(), policy(1), None)
        .await
        .unwrap();
    registry.enrol(device("a")).await.unwrap();
    let mut watch = registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    etcd.restart();
    let report = report(&mut watch).await;
    assert!(
        matches!(report, WatchError::Unavailable(_) | WatchError::Ended(_)),
        "{report:?}"
    );
    snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    edit(&*registry, "a", |r| r.state = DeviceState::Suspended).await;
    snapshot_where(&mut watch, |s| suspended(s, "a")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_compactions() {
    let etcd = Etcd::start();
    let registry = open(&etcd, &quick()).await.unwrap();
    registry
        .put_policy(&policy_name(), policy(1), None)
        .await
        .unwrap();
    registry.enrol(device("a")).await.unwrap();
    let mut watch = registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    for _ in 0..3 {
        etcd.compact();
        edit(&*registry, "a", |r| r.state = DeviceState::Suspended).await;
        etcd.compact();
        snapshot_where(&mut watch, |s| suspended(s, "a")).await;
        edit(&*registry, "a", |r| r.state = DeviceState::Active).await;
        snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    }
    alive(&mut watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_elsewhere_in_the_cluster_do_not_stop_the_signs_of_life() {
    let etcd = Etcd::start();
    let registry = open(&etcd, &quick()).await.unwrap();
    let mut watch = registry.watch().await.unwrap();
    for n in 0..3 {
        etcd.ctl(&["put", "/other/key", &n.to_string()]);
        alive(&mut watch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_larger_than_a_page_is_read_whole() {
    let etcd = Etcd::start();
    let registry = open(&etcd, &quick()).await.unwrap();
    let value = serde_json::to_string(&seen(1)).unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let keys: Vec<_> = (0..2100)
        .map(|n| format!("/signalbox/v1/demo/seen/d-{n}"))
        .collect();
    for some in keys.chunks(100) {
        let puts: Vec<_> = some
            .iter()
            .map(|key| etcd_client::TxnOp::put(key.as_str(), value.as_str(), None))
            .collect();
        client.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    }
    let mut watch = registry.watch().await.unwrap();
    let snapshot = snapshot_where(&mut watch, |_| true).await;
    let all = (0..2100).filter(|n| snapshot.seen(&id(&format!("d-{n}"))).is_some());
    assert_eq!(all.count(), 2100);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_in_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let began = Instant::now();
    let url = format!("etcd://{port}").parse().unwrap();
    let refused = registry::open(&url, &quick(), &fleet()).await;
    assert!(matches!(refused, Err(OpenError::Unavailable(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(6));
}

/// Files of an authority, a server and a client, made by openssl.
struct Pki(tempfile::TempDir);

impl Pki {
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        for ca in ["ca", "other-ca"] {
            pki.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {ca}.key -out {ca}.pem -days 2 \
                 -subj /CN={ca} -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
            ));
        }
        fs::write(
            pki.path("leaf.ext"),
            "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        for name in ["server", "client"] {
            pki.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            pki.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile leaf.ext"
            ));
            fs::set_permissions(
                pki.path(&format!("{name}.key")),
                fs::Permissions::from_mode(0o600),
            )
            .unwrap();
        }
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, args: &str) {
        let output = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl runs: install the Debian package openssl");
        assert!(
            output.status.success(),
            "openssl {args}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn server(&self) -> EtcdTls {
        EtcdTls {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: self.path("ca.pem"),
        }
    }

    fn options(&self, ca: &str, identity: bool) -> Options {
        Options {
            tls: Some(TlsFiles {
                ca: self.path(ca),
                identity: identity.then(|| ClientIdentity {
                    cert: self.path("client.pem"),
                    key: self.path("client.key"),
                }),
            }),
            ..quick()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_its_own_authority_only_and_shows_a_certificate() {
    let pki = Pki::new();
    let etcd = Etcd::start_tls(pki.server());
    let registry = open(&etcd, &pki.options("ca.pem", true)).await.unwrap();
    registry.enrol(device("a")).await.unwrap();
    let mut watch = registry.watch().await.unwrap();
    alive(&mut watch).await;

    for (what, options) in [
        ("another authority", pki.options("other-ca.pem", true)),
        ("no client certificate", pki.options("ca.pem", false)),
        ("no TLS", quick()),
    ] {
        let refused = open(&etcd, &options).await;
        assert!(
            matches!(refused, Err(OpenError::Unavailable(_))),
            "{what}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_files_that_are_of_no_use_are_refused_at_once() {
    let pki = Pki::new();
    let etcd = Etcd::start();
    let missing = open(&etcd, &pki.options("nowhere.pem", true)).await;
    assert!(matches!(missing, Err(OpenError::File { .. })), "{missing:?}");

    fs::write(pki.path("empty.pem"), "").unwrap();
    let empty = open(&etcd, &pki.options("empty.pem", true)).await;
    assert!(matches!(empty, Err(OpenError::Content { .. })), "{empty:?}");

    let mut swapped = pki.options("ca.pem", true);
    swapped.tls.as_mut().unwrap().identity.as_mut().unwrap().cert = pki.path("leaf.ext");
    let refused = open(&etcd, &swapped).await;
    assert!(matches!(refused, Err(OpenError::Tls(_))), "{refused:?}");

    fs::set_permissions(pki.path("client.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let readable = open(&etcd, &pki.options("ca.pem", true)).await;
    assert!(
        matches!(readable, Err(OpenError::Mode { mode: 0o640, .. })),
        "{readable:?}"
    );
}

/// Asks again while the connection comes back.
async fn retry<T, F: Future<Output = Result<T, ReadError>>>(mut ask: impl FnMut() -> F) -> T {
    for _ in 0..20 {
        if let Ok(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("no answer after a restart");
}

fn user(name: &str, dir: &Path, password: &str) -> Options {
    let password_file = dir.join(format!("{name}.password"));
    fs::write(&password_file, format!("{password}\n")).unwrap();
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
    Options {
        user: Some(User {
            name: name.to_owned(),
            password_file,
        }),
        ..quick()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_do_what_their_role_allows() {
    let mut etcd = Etcd::start();
    let prefix = "/signalbox/v1/demo/";
    for words in [
        "user add root:root-secret",
        "user grant-role root root",
        "role add writer",
        "user add writer:writer-secret",
        "user grant-role writer writer",
        "role add reader",
        "user add reader:reader-secret",
        "user grant-role reader reader",
    ] {
        etcd.ctl(&words.split(' ').collect::<Vec<_>>());
    }
    etcd.ctl(&[
        "role",
        "grant-permission",
        "writer",
        "readwrite",
        prefix,
        "--prefix",
    ]);
    etcd.ctl(&["role", "grant-permission", "reader", "read", prefix, "--prefix"]);
    etcd.ctl(&["auth", "enable"]);

    let dir = tempfile::tempdir().unwrap();
    let writer = open(&etcd, &user("writer", dir.path(), "writer-secret"))
        .await
        .unwrap();
    writer.enrol(device("a")).await.unwrap();
    let reader = open(&etcd, &user("reader", dir.path(), "reader-secret"))
        .await
        .unwrap();
    assert!(reader.device(&id("a")).await.unwrap().is_some());
    let mut watch = reader.watch().await.unwrap();
    alive(&mut watch).await;
    let refused = reader.enrol(device("b")).await;
    assert!(
        matches!(refused, Err(EnrolError::Unavailable(Unavailable::Denied(_)))),
        "{refused:?}"
    );

    let wrong = open(&etcd, &user("writer", dir.path(), "guess")).await;
    assert!(
        matches!(wrong, Err(OpenError::Unavailable(Unavailable::Denied(_)))),
        "{wrong:?}"
    );
    assert!(!format!("{wrong:?}").contains("guess"));
    let nobody = open(&etcd, &quick()).await;
    assert!(matches!(nobody, Err(OpenError::Unavailable(_))), "{nobody:?}");

    // A restart forgets every token: calls and watches get new ones.
    etcd.restart();
    let mut record = device("a");
    record.generation = 2;
    let a = id("a");
    let enrolled = retry(|| writer.device(&a)).await.expect("device a");
    writer.update_device(record, enrolled.revision).await.unwrap();
    snapshot_where(&mut watch, |s| {
        s.unusable().count() == 1 && matches!(s.device(&id("a")), Some(Err(Unusable::PolicyMissing(_))))
    })
    .await;
    alive(&mut watch).await;
}

#[tokio::test]
async fn a_password_stays_off_the_network_and_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    let options = user("writer", dir.path(), "hunter2");
    let far = "etcd://127.0.0.1:1,10.0.0.1:2379".parse().unwrap();
    let refused = registry::open(&far, &options, &fleet()).await;
    assert!(matches!(refused, Err(OpenError::PasswordInClear)), "{refused:?}");

    let near = "etcd://127.0.0.1:1".parse().unwrap();
    let file = options.user.as_ref().unwrap().password_file.clone();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = registry::open(&near, &options, &fleet()).await;
    assert!(
        matches!(refused, Err(OpenError::Mode { mode: 0o644, .. })),
        "{refused:?}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "\nhunter2").unwrap();
    let refused = registry::open(&near, &options, &fleet()).await;
    assert!(matches!(refused, Err(OpenError::Content { .. })), "{refused:?}");
    fs::remove_file(&file).unwrap();
    let refused = registry::open(&near, &options, &fleet()).await;
    assert!(matches!(refused, Err(OpenError::File { .. })), "{refused:?}");
}
