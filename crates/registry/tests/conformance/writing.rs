//! Writes: uniqueness, compare-and-swap, what may change and what may not.

use std::sync::Arc;

use domain::{CertificateKeyDigest, EkDigest, PskDigest, TpmName, TpmPublic, UnixTime};
use registry::{
    DeviceRecord, DeviceState, EnrolError, PreviousPsk, ReadError, Registry, Revision, Versioned, WriteError,
};
use tokio::task::JoinSet;

use crate::common::{Bench, device, edit, id, policy, policy_name, psk, seen, spent};

/// Enrols all at once and returns how each fared.
async fn race(registry: &Arc<dyn Registry>, records: Vec<DeviceRecord>) -> Vec<Result<Revision, EnrolError>> {
    let mut tasks = JoinSet::new();
    for record in records {
        let registry = Arc::clone(registry);
        tasks.spawn(async move { registry.enrol(record).await });
    }
    tasks.join_all().await
}

pub(crate) async fn of_many_enrolments_of_one_id_one_wins(bench: &Bench) {
    let records = (0..8).map(|n| DeviceRecord {
        device: id("one"),
        ..device(&format!("d-{n}"))
    });
    let results = race(&bench.registry, records.collect()).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    let losers = results
        .iter()
        .filter(|r| matches!(r, Err(EnrolError::DeviceExists)));
    assert_eq!(losers.count(), 7);
}

pub(crate) async fn of_many_ids_with_one_endorsement_key_one_wins(bench: &Bench) {
    let records = (0..8).map(|n| {
        let mut record = device(&format!("d-{n}"));
        record.tpm.as_mut().unwrap().ek = EkDigest::of(b"the one");
        record
    });
    let results = race(&bench.registry, records.collect()).await;
    let listing = bench.registry.devices().await.unwrap();
    let [winner] = &listing.devices[..] else {
        panic!("{} devices", listing.devices.len());
    };
    let named =
        |r: &Result<_, EnrolError>| matches!(r, Err(EnrolError::EkTaken(by)) if *by == winner.value.device);
    assert_eq!(results.iter().filter(|r| named(r)).count(), 7);
}

pub(crate) async fn of_many_ids_with_one_psk_one_wins(bench: &Bench) {
    let records = (0..8).map(|n| {
        let mut record = device(&format!("d-{n}"));
        record.psk.current = psk("the one");
        record
    });
    let results = race(&bench.registry, records.collect()).await;
    let listing = bench.registry.devices().await.unwrap();
    let [winner] = &listing.devices[..] else {
        panic!("{} devices", listing.devices.len());
    };
    let named =
        |r: &Result<_, EnrolError>| matches!(r, Err(EnrolError::PskTaken(by)) if *by == winner.value.device);
    assert_eq!(results.iter().filter(|r| named(r)).count(), 7);
}

pub(crate) async fn a_previous_psk_is_taken_as_well(bench: &Bench) {
    let mut first = device("first");
    first.psk.previous = Some(PreviousPsk {
        digest: psk("old"),
        until: UnixTime::from_secs(9),
    });
    bench.registry.enrol(first).await.unwrap();
    let mut second = device("second");
    second.psk.current = psk("old");
    let refused = bench.registry.enrol(second.clone()).await;
    assert!(matches!(refused, Err(EnrolError::PskTaken(by)) if by == id("first")));
    second.psk.current = psk("second");
    second.psk.previous = Some(PreviousPsk {
        digest: psk("first"),
        until: UnixTime::from_secs(9),
    });
    let refused = bench.registry.enrol(second).await;
    assert!(matches!(refused, Err(EnrolError::PskTaken(by)) if by == id("first")));
}

pub(crate) async fn a_refused_enrolment_leaves_nothing(bench: &Bench) {
    bench.registry.enrol(device("first")).await.unwrap();
    // Its EK is taken; its id and its PSK must be free afterwards.
    let mut second = device("second");
    second.tpm.as_mut().unwrap().ek = EkDigest::of(b"first");
    let refused = bench.registry.enrol(second).await;
    assert!(matches!(refused, Err(EnrolError::EkTaken(by)) if by == id("first")));
    assert_eq!(bench.registry.device(&id("second")).await.unwrap(), None);
    bench.registry.enrol(device("second")).await.unwrap();
}

pub(crate) async fn a_tombstone_keeps_its_id_key_and_psk(bench: &Bench) {
    let registry = &*bench.registry;
    registry.enrol(device("old")).await.unwrap();
    edit(registry, "old", |r| r.psk.current = psk("newer")).await;
    edit(registry, "old", |r| r.state = DeviceState::Retired).await;

    let fresh = |name: &str| DeviceRecord {
        device: id(name),
        ..device("fresh")
    };
    let refused = registry.enrol(fresh("old")).await;
    assert!(matches!(refused, Err(EnrolError::DeviceExists)));
    let mut same_ek = fresh("fresh");
    same_ek.tpm.as_mut().unwrap().ek = EkDigest::of(b"old");
    assert!(matches!(registry.enrol(same_ek).await, Err(EnrolError::EkTaken(by)) if by == id("old")));
    for digest in [psk("old"), psk("newer")] {
        let mut same_psk = fresh("fresh");
        same_psk.psk.current = digest;
        assert!(matches!(registry.enrol(same_psk).await, Err(EnrolError::PskTaken(by)) if by == id("old")));
    }

    let stored = registry.device(&id("old")).await.unwrap().unwrap();
    let mut back = stored.value;
    back.state = DeviceState::Active;
    back.generation += 1;
    let refused = registry.update_device(back, stored.revision).await;
    assert!(matches!(refused, Err(WriteError::Retired)));
}

pub(crate) async fn an_edit_needs_the_revision_that_was_read(bench: &Bench) {
    let registry = &*bench.registry;
    let first = registry.enrol(device("d")).await.unwrap();
    let edited = |generation| DeviceRecord {
        generation,
        ..device("d")
    };
    let second = registry.update_device(edited(2), first).await.unwrap();
    assert!(second > first);
    let refused = registry.update_device(edited(3), first).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == second));
    let refused = registry.update_device(device("nobody"), first).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: None })));
}

pub(crate) async fn of_many_edits_of_one_revision_one_wins(bench: &Bench) {
    let first = bench.registry.enrol(device("d")).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let registry = Arc::clone(&bench.registry);
        let mut record = device("d");
        record.generation = 2 + n;
        record.psk.current = psk(&format!("rotated-{n}"));
        tasks.spawn(async move { registry.update_device(record, first).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    let stale = |r: &&Result<_, WriteError>| matches!(r, Err(WriteError::Stale { found: Some(_) }));
    assert_eq!(results.iter().filter(stale).count(), 7);
}

pub(crate) async fn an_edit_raises_the_generation(bench: &Bench) {
    let registry = &*bench.registry;
    let start = DeviceRecord {
        generation: 5,
        ..device("d")
    };
    let revision = registry.enrol(start.clone()).await.unwrap();
    for offered in [0, 4, 5] {
        let edited = DeviceRecord {
            generation: offered,
            state: DeviceState::Suspended,
            ..start.clone()
        };
        let refused = registry.update_device(edited, revision).await;
        let Err(WriteError::GenerationNotRisen {
            stored: 5,
            offered: o,
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(o, offered);
    }
    let stored = registry.device(&id("d")).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.revision), (start, revision));
}

pub(crate) async fn what_a_device_is_never_changes(bench: &Bench) {
    let registry = &*bench.registry;
    let revision = registry.enrol(device("d")).await.unwrap();
    type Edit = fn(&mut DeviceRecord);
    let edits: [(&str, Edit); 4] = [
        ("TPM", |r| r.tpm = None),
        ("endorsement key", |r| {
            r.tpm.as_mut().unwrap().ek = EkDigest::of(b"other");
        }),
        ("attestation key", |r| {
            r.tpm.as_mut().unwrap().ak_public = TpmPublic::try_from(vec![9]).unwrap();
        }),
        ("attestation key", |r| {
            r.tpm.as_mut().unwrap().ak_qualified_name = TpmName::try_from(vec![9]).unwrap();
        }),
    ];
    for (part, edit) in edits {
        let mut record = device("d");
        record.generation = 2;
        edit(&mut record);
        let refused = registry.update_device(record, revision).await;
        assert!(
            matches!(refused, Err(WriteError::Immutable(p)) if p == part),
            "{part}: {refused:?}"
        );
    }
    // What the TPM says of itself may change: a firmware update does.
    edit(registry, "d", |r| r.tpm.as_mut().unwrap().firmware_version = 8).await;
}

pub(crate) async fn a_new_psk_must_be_new_to_the_fleet(bench: &Bench) {
    let registry = &*bench.registry;
    bench.with_devices(&["a", "b"]).await;
    let stored = registry.device(&id("a")).await.unwrap().unwrap();
    let rotated = |digest: PskDigest| {
        let mut record = stored.value.clone();
        record.generation += 1;
        record.psk.previous = Some(PreviousPsk {
            digest: record.psk.current,
            until: UnixTime::from_secs(9),
        });
        record.psk.current = digest;
        record
    };
    let refused = registry.update_device(rotated(psk("b")), stored.revision).await;
    assert!(matches!(refused, Err(WriteError::PskTaken(by)) if by == id("b")));
    registry
        .update_device(rotated(psk("a-2")), stored.revision)
        .await
        .unwrap();
    // Back to the previous one while it is there; an ended one never comes back.
    edit(registry, "a", |r| r.psk.current = psk("a")).await;
    edit(registry, "a", |r| r.psk.previous = None).await;
    let stored = registry.device(&id("a")).await.unwrap().unwrap();
    let mut record = stored.value.clone();
    record.generation += 1;
    record.psk.current = psk("a-2");
    let refused = registry.update_device(record, stored.revision).await;
    assert!(matches!(refused, Err(WriteError::PskTaken(by)) if by == id("a")));
}

pub(crate) async fn a_policy_is_replaced_by_a_later_revision_only(bench: &Bench) {
    let registry = &*bench.registry;
    let name = policy_name();
    assert_eq!(registry.policy(&name).await.unwrap(), None);
    let refused = registry
        .put_policy(&name, policy(1), Some(an_old_revision(bench).await))
        .await;
    assert!(matches!(refused, Err(WriteError::Stale { found: None })));
    let first = registry.put_policy(&name, policy(1), None).await.unwrap();
    let refused = registry.put_policy(&name, policy(2), None).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == first));
    let refused = registry.put_policy(&name, policy(1), Some(first)).await;
    assert!(matches!(
        refused,
        Err(WriteError::PolicyRevisionNotRisen {
            stored: 1,
            offered: 1
        })
    ));
    let second = registry.put_policy(&name, policy(2), Some(first)).await.unwrap();
    let refused = registry.put_policy(&name, policy(3), Some(first)).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == second));
    let stored = registry.policy(&name).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.revision), (policy(2), second));
}

async fn an_old_revision(bench: &Bench) -> Revision {
    bench.registry.enrol(device("elsewhere")).await.unwrap()
}

pub(crate) async fn what_was_seen_is_swapped(bench: &Bench) {
    let registry = &*bench.registry;
    let d = id("d");
    assert_eq!(registry.seen(&d).await.unwrap(), None);
    let first = registry.put_seen(&d, seen(1), None).await.unwrap();
    let refused = registry.put_seen(&d, seen(2), None).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == first));
    let second = registry.put_seen(&d, seen(2), Some(first)).await.unwrap();
    let refused = registry.put_seen(&d, seen(3), Some(first)).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == second));
    assert_eq!(registry.seen(&d).await.unwrap().unwrap().value, seen(2));
}

pub(crate) async fn what_was_spent_is_swapped(bench: &Bench) {
    let registry = &*bench.registry;
    let d = id("d");
    assert_eq!(registry.spent(&d).await.unwrap(), None);
    let first = registry.put_spent(&d, spent(1), None).await.unwrap();
    // Two proxies that add to the same sum: one of them has to read again.
    let refused = registry.put_spent(&d, spent(2), None).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == first));
    let second = registry.put_spent(&d, spent(2), Some(first)).await.unwrap();
    let refused = registry.put_spent(&d, spent(3), Some(first)).await;
    assert!(matches!(refused, Err(WriteError::Stale { found: Some(found) }) if found == second));
    assert_eq!(registry.spent(&d).await.unwrap().unwrap().value, spent(2));
}

pub(crate) async fn nothing_is_written_that_no_reader_takes(bench: &Bench) {
    let registry = &*bench.registry;
    let mut record = device("d");
    record.wireguard = Some("x".repeat(1000));
    assert!(matches!(
        registry.enrol(record).await,
        Err(EnrolError::Unreadable(_))
    ));
    assert_eq!(registry.device(&id("d")).await.unwrap(), None);
    let mut short = policy(1);
    short.session_ttl = 1;
    let refused = registry.put_policy(&policy_name(), short, None).await;
    assert!(matches!(refused, Err(WriteError::Unreadable(_))));
    // What is there and not understood is not written over either.
    registry.enrol(device("broken")).await.unwrap();
    let revision = registry.device(&id("broken")).await.unwrap().unwrap().revision;
    bench.put_raw("devices/broken", "{}");
    let mut record = device("broken");
    record.generation = 2;
    let refused = registry.update_device(record, revision).await;
    assert!(matches!(refused, Err(WriteError::Unreadable(_))));
}

pub(crate) async fn a_client_certificate_is_one_devices_for_good(bench: &Bench) {
    let registry = &*bench.registry;
    let key = |name: &str| CertificateKeyDigest::of(name.as_bytes());
    let with = |name: &str, certificate: &str| DeviceRecord {
        client_certificate: Some(key(certificate)),
        ..device(name)
    };
    assert_eq!(registry.certificate_owner(&key("one")).await.unwrap(), None);
    registry.enrol(with("a", "one")).await.unwrap();
    assert_eq!(
        registry.certificate_owner(&key("one")).await.unwrap(),
        Some(id("a"))
    );
    let refused = registry.enrol(with("b", "one")).await;
    assert!(matches!(refused, Err(EnrolError::CertificateTaken(by)) if by == id("a")));
    assert_eq!(registry.device(&id("b")).await.unwrap(), None);
    // What was refused took nothing: neither its PSK nor its EK.
    registry.enrol(with("b", "two")).await.unwrap();
    let change = |stored: &Versioned<DeviceRecord>, certificate: &str| {
        let mut record = stored.value.clone();
        record.generation += 1;
        record.client_certificate = Some(key(certificate));
        record
    };
    let stored = registry.device(&id("b")).await.unwrap().unwrap();
    let refused = registry
        .update_device(change(&stored, "one"), stored.revision)
        .await;
    assert!(matches!(refused, Err(WriteError::CertificateTaken(by)) if by == id("a")));
    let mut both = change(&stored, "one");
    both.psk.current = psk("a");
    let refused = registry.update_device(both, stored.revision).await;
    assert!(matches!(refused, Err(WriteError::PskTaken(by)) if by == id("a")));
    registry
        .update_device(change(&stored, "three"), stored.revision)
        .await
        .unwrap();
    let refused = registry
        .update_device(change(&stored, "four"), stored.revision)
        .await;
    assert!(matches!(refused, Err(WriteError::Stale { .. })));
    // An ended one never comes back, and an edit of something else keeps the one that is there.
    let stored = registry.device(&id("b")).await.unwrap().unwrap();
    let refused = registry
        .update_device(change(&stored, "two"), stored.revision)
        .await;
    assert!(matches!(refused, Err(WriteError::CertificateTaken(by)) if by == id("b")));
    assert_eq!(
        registry.certificate_owner(&key("two")).await.unwrap(),
        Some(id("b"))
    );
    bench.put_raw(&format!("cert/{}", key("strange")), "No Device");
    let strange = registry.certificate_owner(&key("strange")).await;
    assert!(matches!(strange, Err(ReadError::Unreadable(_))), "{strange:?}");
    edit(registry, "b", |r| r.measured_boot = true).await;
    let stored = registry.device(&id("b")).await.unwrap().unwrap().value;
    assert_eq!(stored.client_certificate, Some(key("three")));
}
