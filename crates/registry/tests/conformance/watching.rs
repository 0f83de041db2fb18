//! The watch: every change, and what it makes of records that do not fit.

use std::{sync::Arc, time::Duration};

use domain::{CertificateKeyDigest, DeviceId, PskDigest, UnixTime};
use registry::{
    DeviceRecord, DeviceState, Entry, Lookup, PreviousPsk, Snapshot, Unreadable, Unusable, Update,
};
use tokio::time::{Instant, timeout};

use crate::common::{Bench, change, device, edit, id, policy, policy_name, psk, seen, snapshot_where, spent};

const NOW: UnixTime = UnixTime::from_secs(3000);

fn found<'a>(snapshot: &'a Snapshot, digest: &PskDigest) -> Option<&'a Arc<Entry>> {
    match snapshot.find(digest, NOW) {
        Lookup::Found(entry) => Some(entry),
        _ => None,
    }
}

fn refused<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Unusable> {
    match snapshot.find(&psk(name), NOW) {
        Lookup::Unusable { device, why } if *device == id(name) => Some(why),
        _ => None,
    }
}

pub(crate) async fn the_first_update_is_everything(bench: &Bench) {
    bench.with_devices(&["a", "b"]).await;
    bench.registry.put_seen(&id("a"), seen(4), None).await.unwrap();
    let mut watch = bench.registry.watch().await.unwrap();
    let Some(Ok(Update::Snapshot(snapshot))) = watch.next().await else {
        panic!("the first update is no snapshot");
    };
    assert_eq!(snapshot.entries().count(), 2);
    assert_eq!(snapshot.unusable().count(), 0);
    assert!(snapshot.strays().is_empty());
    let a = found(&snapshot, &psk("a")).unwrap();
    assert_eq!((&*a.record, &*a.policy), (&device("a"), &policy(1)));
    assert_eq!(snapshot.seen(&id("a")).unwrap().value, seen(4));
    assert_eq!(snapshot.seen(&id("b")), None);
    assert_eq!(snapshot.find(&psk("nobody"), NOW), Lookup::Unknown);
    assert!(snapshot.device(&id("b")).unwrap().is_ok());
    assert!(snapshot.device(&id("nobody")).is_none());
}

pub(crate) async fn a_suspended_device_is_refused_within_a_second(bench: &Bench) {
    bench.with_devices(&["a", "b"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 2).await;
    edit(&*bench.registry, "a", |r| r.state = DeviceState::Suspended).await;
    let written = Instant::now();
    let snapshot = snapshot_where(&mut watch, |s| refused(s, "a").is_some()).await;
    assert!(
        written.elapsed() < Duration::from_secs(1),
        "{:?}",
        written.elapsed()
    );
    assert_eq!(refused(&snapshot, "a"), Some(&Unusable::Suspended));
    assert!(found(&snapshot, &psk("b")).is_some());

    edit(&*bench.registry, "a", |r| r.state = DeviceState::Active).await;
    snapshot_where(&mut watch, |s| found(s, &psk("a")).is_some()).await;
    edit(&*bench.registry, "a", |r| r.state = DeviceState::Retired).await;
    snapshot_where(&mut watch, |s| refused(s, "a") == Some(&Unusable::Retired)).await;
}

pub(crate) async fn a_new_device_is_admitted(bench: &Bench) {
    bench.with_devices(&[]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 0).await;
    bench.registry.enrol(device("new")).await.unwrap();
    let written = Instant::now();
    snapshot_where(&mut watch, |s| found(s, &psk("new")).is_some()).await;
    assert!(written.elapsed() < Duration::from_secs(1));
}

pub(crate) async fn a_rotated_psk_ends_at_its_time(bench: &Bench) {
    bench.with_devices(&["a"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    edit(&*bench.registry, "a", |r| {
        r.psk.current = psk("a-2");
        r.psk.previous = Some(PreviousPsk {
            digest: psk("a"),
            until: UnixTime::from_secs(3001),
        });
    })
    .await;
    let snapshot = snapshot_where(&mut watch, |s| found(s, &psk("a-2")).is_some()).await;
    assert!(found(&snapshot, &psk("a")).is_some());
    let late = snapshot.find(&psk("a"), UnixTime::from_secs(3001));
    assert!(matches!(
        late,
        Lookup::Unusable {
            why: Unusable::PskEnded,
            ..
        }
    ));
    edit(&*bench.registry, "a", |r| r.psk.previous = None).await;
    snapshot_where(&mut watch, |s| refused(s, "a") == Some(&Unusable::PskEnded)).await;
}

pub(crate) async fn entries_that_did_not_change_are_the_same(bench: &Bench) {
    bench.with_devices(&["a", "b"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    let before = snapshot_where(&mut watch, |s| s.entries().count() == 2).await;
    edit(&*bench.registry, "a", |r| r.measured_boot = true).await;
    let after = snapshot_where(&mut watch, |s| {
        found(s, &psk("a")).is_some_and(|e| e.record.measured_boot)
    })
    .await;
    let same = |name| {
        Arc::ptr_eq(
            found(&before, &psk(name)).unwrap(),
            found(&after, &psk(name)).unwrap(),
        )
    };
    assert!(same("b"));
    assert!(!same("a"));
    let revision = bench
        .registry
        .policy(&policy_name())
        .await
        .unwrap()
        .unwrap()
        .revision;
    bench
        .registry
        .put_policy(&policy_name(), policy(2), Some(revision))
        .await
        .unwrap();
    snapshot_where(&mut watch, |s| s.entries().all(|e| e.policy.revision == 2)).await;
}

pub(crate) async fn what_was_seen_is_told_alone(bench: &Bench) {
    bench.with_devices(&["a"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    let revision = bench.registry.put_seen(&id("a"), seen(1), None).await.unwrap();
    // A backend may tell it as a snapshot as well; either way it is there.
    match change(&mut watch).await {
        Update::Seen(device, told) => {
            assert_eq!(device, id("a"));
            assert_eq!((told.value, told.revision), (seen(1), revision));
        }
        Update::Snapshot(snapshot) => assert_eq!(snapshot.seen(&id("a")).unwrap().value, seen(1)),
        other @ (Update::Alive | Update::Spent(..)) => panic!("passed over: {other:?}"),
    }
}

pub(crate) async fn what_was_spent_is_told_alone(bench: &Bench) {
    bench.with_devices(&["a"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 1).await;
    let revision = bench.registry.put_spent(&id("a"), spent(7), None).await.unwrap();
    match change(&mut watch).await {
        Update::Spent(device, told) => {
            let told = told.unwrap();
            assert_eq!(device, id("a"));
            assert_eq!((told.value, told.revision), (spent(7), revision));
        }
        Update::Snapshot(snapshot) => assert_eq!(snapshot.spent(&id("a")).unwrap().value, spent(7)),
        other @ (Update::Alive | Update::Seen(..)) => panic!("passed over: {other:?}"),
    }
    // An operator gives the day's budget back.
    bench.remove_raw("spent/a");
    match change(&mut watch).await {
        Update::Spent(device, told) => assert_eq!((device, told), (id("a"), None)),
        Update::Snapshot(snapshot) => assert_eq!(snapshot.spent(&id("a")), None),
        other @ (Update::Alive | Update::Seen(..)) => panic!("passed over: {other:?}"),
    }
}

pub(crate) async fn a_quiet_watch_gives_signs_of_life(bench: &Bench) {
    let mut watch = bench.registry.watch().await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(Update::Snapshot(_)))));
    for _ in 0..3 {
        let next = timeout(Duration::from_secs(5), watch.next())
            .await
            .expect("a sign of life");
        assert!(matches!(next, Some(Ok(Update::Alive))), "{next:?}");
    }
}

pub(crate) async fn each_broken_record_refuses_its_device_only(bench: &Bench) {
    let names = [
        "field",
        "newer",
        "stolen",
        "seen-broken",
        "spent-broken",
        "no-policy",
        "bad-policy",
        "good",
    ];
    bench.with_devices(&names).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == names.len()).await;

    let json = |record: &DeviceRecord| serde_json::to_string(record).unwrap();
    let under = |name: &str, policy: &str| DeviceRecord {
        policy: policy.parse().unwrap(),
        generation: 2,
        ..device(name)
    };
    bench.put_raw(
        "devices/field",
        &json(&device("field")).replacen('{', "{\"admin\":true,", 1),
    );
    bench.put_raw("devices/newer", r#"{"version":2,"device":"newer"}"#);
    bench.put_raw("devices/stolen", &json(&device("good")));
    bench.put_raw("seen/seen-broken", "{}");
    bench.put_raw("spent/spent-broken", r#"{"version":1,"day":1}"#);
    bench.put_raw("devices/no-policy", &json(&under("no-policy", "nowhere")));
    bench.put_raw("devices/bad-policy", &json(&under("bad-policy", "broken")));
    bench.put_raw("policies/broken", r#"{"version":3}"#);
    bench.put_raw("unheard/of", "x");
    bench.put_raw(&format!("psk/{}", psk("ghost")), "ghost");

    let snapshot = snapshot_where(&mut watch, |s| s.device(&id("ghost")).is_some()).await;
    let why = |name: &str| refused(&snapshot, name).unwrap_or_else(|| panic!("{name} is not refused"));
    assert!(matches!(why("field"), Unusable::Unreadable(Unreadable::Malformed(m)) if m.contains("admin")));
    assert_eq!(why("newer"), &Unusable::Unreadable(Unreadable::Version(2)));
    assert_eq!(
        why("stolen"),
        &Unusable::Unreadable(Unreadable::OtherDevice(id("good")))
    );
    assert!(matches!(why("seen-broken"), Unusable::SeenUnreadable(_)));
    assert!(matches!(why("spent-broken"), Unusable::SpentUnreadable(_)));
    assert_eq!(
        why("no-policy"),
        &Unusable::PolicyMissing("nowhere".parse().unwrap())
    );
    assert!(matches!(
        why("bad-policy"),
        Unusable::PolicyUnreadable {
            why: Unreadable::Version(3),
            ..
        }
    ));
    assert_eq!(why("ghost"), &Unusable::RecordMissing);
    assert_eq!(snapshot.strays(), ["/signalbox/v1/demo/unheard/of"]);
    let left: Vec<&DeviceId> = snapshot.entries().map(|e| &e.record.device).collect();
    assert_eq!(left, [&id("good")]);

    // Repaired, it is usable again without a restart.
    bench.put_raw("devices/field", &json(&device("field")));
    snapshot_where(&mut watch, |s| found(s, &psk("field")).is_some()).await;
}

pub(crate) async fn old_records_that_are_put_back_are_refused(bench: &Bench) {
    bench.with_devices(&["a", "b"]).await;
    let old = serde_json::to_string(&device("a")).unwrap();
    edit(&*bench.registry, "a", |r| r.state = DeviceState::Suspended).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| refused(s, "a") == Some(&Unusable::Suspended)).await;
    bench.put_raw("devices/a", &old);
    let back = Unusable::GenerationWentBack { highest: 2, found: 1 };
    let snapshot = snapshot_where(&mut watch, |s| refused(s, "a") == Some(&back)).await;
    assert!(found(&snapshot, &psk("b")).is_some());

    let revision = bench
        .registry
        .policy(&policy_name())
        .await
        .unwrap()
        .unwrap()
        .revision;
    bench
        .registry
        .put_policy(&policy_name(), policy(2), Some(revision))
        .await
        .unwrap();
    snapshot_where(&mut watch, |s| s.entries().any(|e| e.policy.revision == 2)).await;
    bench.put_raw("policies/kiosk", &serde_json::to_string(&policy(1)).unwrap());
    let back = Unusable::PolicyWentBack {
        policy: policy_name(),
        highest: 2,
        found: 1,
    };
    snapshot_where(&mut watch, |s| refused(s, "b") == Some(&back)).await;
}

pub(crate) async fn removed_keys_are_noticed(bench: &Bench) {
    bench.with_devices(&["a", "b"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    snapshot_where(&mut watch, |s| s.entries().count() == 2).await;
    bench.remove_raw("devices/a");
    snapshot_where(&mut watch, |s| refused(s, "a") == Some(&Unusable::RecordMissing)).await;
    bench.remove_raw(&format!("psk/{}", psk("b")));
    let snapshot = snapshot_where(&mut watch, |s| found(s, &psk("b")).is_none()).await;
    assert_eq!(snapshot.find(&psk("b"), NOW), Lookup::Unknown);
    bench.remove_raw("policies/kiosk");
    snapshot_where(&mut watch, |s| s.entries().count() == 0).await;
}

pub(crate) async fn a_replaced_client_certificate_ends_at_once(bench: &Bench) {
    let key = |name: &str| CertificateKeyDigest::of(name.as_bytes());
    bench.with_devices(&["a"]).await;
    let mut watch = bench.registry.watch().await.unwrap();
    edit(&*bench.registry, "a", |r| r.client_certificate = Some(key("one"))).await;
    let is = |s: &Snapshot, name| matches!(s.find_certificate(&key(name)), Lookup::Found(e) if e.record.device == id("a"));
    let snapshot = snapshot_where(&mut watch, |s| is(s, "one")).await;
    assert!(matches!(snapshot.find_certificate(&key("two")), Lookup::Unknown));
    edit(&*bench.registry, "a", |r| r.client_certificate = Some(key("two"))).await;
    let snapshot = snapshot_where(&mut watch, |s| is(s, "two")).await;
    let ended = Unusable::CertificateEnded;
    assert!(matches!(snapshot.find_certificate(&key("one")), Lookup::Unusable { why, .. } if *why == ended));
    edit(&*bench.registry, "a", |r| r.state = DeviceState::Suspended).await;
    let off = Unusable::Suspended;
    snapshot_where(
        &mut watch,
        |s| matches!(s.find_certificate(&key("two")), Lookup::Unusable { why, .. } if *why == off),
    )
    .await;
    // An index key that names no device, or one that does not name it back, finds none.
    bench.put_raw(&format!("cert/{}", key("three")), "not a device");
    bench.put_raw(&format!("cert/{}", key("four")), "a");
    let snapshot = snapshot_where(&mut watch, |s| !s.strays().is_empty()).await;
    assert!(matches!(
        snapshot.find_certificate(&key("three")),
        Lookup::Unknown
    ));
    bench.remove_raw(&format!("cert/{}", key("two")));
    snapshot_where(&mut watch, |s| {
        matches!(s.find_certificate(&key("two")), Lookup::Unknown)
    })
    .await;
}
