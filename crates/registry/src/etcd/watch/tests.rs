//! A compaction as etcd 3.4 reports it: the watch is created, then cancelled, and no error comes. It cannot be brought
//! about from outside in time, so the follower is started at a revision that is gone.

use domain::FleetName;
use testkit::etcd::Etcd;
use tokio::time::timeout;

use super::*;
use crate::{Options, RegistryUrl, key::Keyspace, store::Put, store::Store as _};

const PATIENCE: Duration = Duration::from_secs(20);

async fn next(changes: &mut Changes) -> Option<Result<Change, WatchError>> {
    timeout(PATIENCE, changes.recv())
        .await
        .expect("something happens")
}

async fn store(etcd: &Etcd) -> (EtcdStore, String) {
    let fleet: FleetName = "demo".parse().unwrap();
    let Ok(RegistryUrl::Etcd(endpoints)) = etcd.url().parse() else {
        panic!("no etcd URL");
    };
    let options = Options {
        call_timeout: Duration::from_secs(2),
        alive_every: Duration::from_millis(200),
        ..Options::default()
    };
    let store = EtcdStore::open(&endpoints, &options, &fleet).await.unwrap();
    (store, Keyspace::new(&fleet).prefix().to_owned())
}

async fn write(store: &EtcdStore, prefix: &str, times: usize) {
    for n in 0..times {
        let put = Put {
            key: format!("{prefix}seen/d"),
            value: n.to_string().into_bytes(),
        };
        store.commit(Vec::new(), vec![put]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_past_is_reported_and_read_anew() {
    let etcd = Etcd::start();
    let (store, prefix) = store(&etcd).await;
    write(&store, &prefix, 5).await;
    etcd.compact();
    let (changes, mut receiver) = mpsc::channel(CHANGES_AHEAD);
    let following = follow(&store, &prefix, &changes, 1);
    let ended = timeout(PATIENCE, following)
        .await
        .expect("the watch is cancelled");
    assert!(matches!(ended, Err(Stop::Report(WatchError::Compacted(at))) if at > 1));
    assert!(receiver.try_recv().is_err());

    // The whole task: what it believes to have loaded is gone, so it reports that and loads anew.
    tokio::spawn(run(store, prefix.clone(), changes, (Vec::new(), 1)));
    assert!(matches!(next(&mut receiver).await, Some(Ok(Change::All(rows))) if rows.is_empty()));
    assert!(matches!(
        next(&mut receiver).await,
        Some(Err(WatchError::Compacted(_)))
    ));
    let Some(Ok(Change::All(rows))) = next(&mut receiver).await else {
        panic!("nothing was read anew");
    };
    let [(key, stored)] = &rows[..] else {
        panic!("{} rows", rows.len());
    };
    assert_eq!(
        (key.as_str(), &stored.value[..]),
        (&*format!("{prefix}seen/d"), &b"4"[..])
    );
    assert!(matches!(next(&mut receiver).await, Some(Ok(Change::Alive))));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_still_there_is_told() {
    let etcd = Etcd::start();
    let (store, prefix) = store(&etcd).await;
    let before = store.head(&prefix).await.unwrap();
    write(&store, &prefix, 2).await;
    let (changes, mut receiver) = mpsc::channel(CHANGES_AHEAD);
    tokio::spawn(run(store, prefix, changes, (Vec::new(), before)));
    let mut values = Vec::new();
    while values.len() < 2 {
        if let Some(Ok(Change::Some(keys))) = next(&mut receiver).await {
            values.extend(keys.into_iter().map(|(_, stored)| stored.unwrap().value));
        }
    }
    assert_eq!(values, [b"0", b"1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_reach_the_cluster_is_behind() {
    let etcd = Etcd::start();
    let (store, prefix) = store(&etcd).await;
    let mut client = store.client.watch_client();
    let mut stream = client.watch(prefix.as_str(), None).await.unwrap();
    let now = Instant::now();
    let again = |late| Step::Again { head: 10, late };
    let late = advance(again(now), &store, &prefix, 9, &mut stream).await;
    assert!(matches!(late, Err(Stop::Report(WatchError::Behind))));
    let in_time = advance(
        again(later(Duration::from_secs(9))),
        &store,
        &prefix,
        9,
        &mut stream,
    )
    .await;
    let Ok(proof) = in_time else {
        panic!("given up early")
    };
    assert!(!proof.is_given(9));
    assert!(proof.is_given(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_ends_with_its_receiver() {
    let etcd = Etcd::start();
    let (store, prefix) = store(&etcd).await;
    let (changes, receiver) = mpsc::channel(CHANGES_AHEAD);
    let task = tokio::spawn(run(store, prefix, changes, (Vec::new(), 0)));
    drop(receiver);
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_etcd_ends_says_why() {
    let etcd = Etcd::start();
    let (store, prefix) = store(&etcd).await;
    for words in ["user add root:secret", "user grant-role root root", "auth enable"] {
        etcd.ctl(&words.split(' ').collect::<Vec<_>>());
    }
    let (changes, _receiver) = mpsc::channel(CHANGES_AHEAD);
    let following = follow(&store, &prefix, &changes, 1);
    let stop = timeout(PATIENCE, following)
        .await
        .expect("the watch is cancelled");
    match stop {
        Err(Stop::Report(WatchError::Ended(why))) => assert!(why.contains("etcdserver"), "{why}"),
        Err(Stop::Report(other)) => panic!("{other:?}"),
        _ => panic!("nobody listens"),
    }
}
