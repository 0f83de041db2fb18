//! Reads: what was written comes back, and what is not understood is said.

use domain::{CertificateDigest, UnixTime, VolumeKeyDigest};
use registry::{DeviceState, EkTrust, EnrolError, PreviousPsk, ReadError, Unreadable};

use crate::common::{Bench, device, id, policy, policy_name, psk, quick, seen};

pub(crate) async fn records_come_back_as_they_were(bench: &Bench) {
    let registry = &*bench.registry;
    let mut full = device("full");
    full.state = DeviceState::Suspended;
    full.measured_boot = true;
    full.volume_key = Some(VolumeKeyDigest::of(b"v"));
    full.wireguard = Some("k".repeat(44));
    full.psk.previous = Some(PreviousPsk {
        digest: psk("before"),
        until: UnixTime::from_secs(5000),
    });
    let tpm = full.tpm.as_mut().unwrap();
    tpm.ek_trust = EkTrust::Chain;
    tpm.ek_certificate = Some(CertificateDigest::of(b"c"));
    let mut bare = device("bare");
    bare.tpm = None;

    let revision = registry.enrol(full.clone()).await.unwrap();
    registry.enrol(bare.clone()).await.unwrap();
    let stored = registry.device(&id("full")).await.unwrap().unwrap();
    assert_eq!((&stored.value, stored.revision), (&full, revision));
    assert_eq!(registry.device(&id("nobody")).await.unwrap(), None);
    let listing = registry.devices().await.unwrap();
    let listed: Vec<_> = listing.devices.into_iter().map(|d| d.value).collect();
    assert_eq!(listed, [bare, full]);
    assert!(listing.unreadable.is_empty());

    registry
        .put_policy(&policy_name(), policy(1), None)
        .await
        .unwrap();
    assert_eq!(
        registry.policy(&policy_name()).await.unwrap().unwrap().value,
        policy(1)
    );
    registry.put_seen(&id("full"), seen(1), None).await.unwrap();
    assert_eq!(registry.seen(&id("full")).await.unwrap().unwrap().value, seen(1));
}

pub(crate) async fn what_is_not_understood_is_said_and_never_dropped(bench: &Bench) {
    let registry = &*bench.registry;
    bench.with_devices(&["good", "other"]).await;
    let other = serde_json::to_string(&device("other")).unwrap();
    bench.put_raw(
        "devices/unknown-field",
        &other.replacen('{', "{\"admin\":true,", 1),
    );
    bench.put_raw("devices/newer", r#"{"version":2}"#);
    bench.put_raw("devices/stolen", &other);
    bench.put_raw("devices/NOT-AN-ID", &other);
    bench.put_raw("policies/broken", "[]");
    bench.put_raw("seen/good", "0");

    let read = |name: &'static str| async move {
        match registry.device(&id(name)).await {
            Err(ReadError::Unreadable(why)) => why,
            other => panic!("{name}: {other:?}"),
        }
    };
    assert!(matches!(read("unknown-field").await, Unreadable::Malformed(why) if why.contains("admin")));
    assert_eq!(read("newer").await, Unreadable::Version(2));
    assert_eq!(read("stolen").await, Unreadable::OtherDevice(id("other")));
    let broken = registry.policy(&"broken".parse().unwrap()).await;
    assert!(matches!(
        broken,
        Err(ReadError::Unreadable(Unreadable::Malformed(_)))
    ));
    let broken = registry.seen(&id("good")).await;
    assert!(matches!(
        broken,
        Err(ReadError::Unreadable(Unreadable::Malformed(_)))
    ));

    let listing = registry.devices().await.unwrap();
    assert_eq!(listing.devices.len(), 2);
    let names: Vec<_> = listing.unreadable.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["NOT-AN-ID", "newer", "stolen", "unknown-field"]);

    // An index entry that names nobody still takes what it stands for.
    bench.put_raw(&format!("psk/{}", psk("victim")), "NOT AN ID");
    let refused = registry.enrol(device("victim")).await;
    assert!(matches!(refused, Err(EnrolError::Unreadable(_))), "{refused:?}");
}

pub(crate) async fn fleets_do_not_see_each_other(bench: &Bench) {
    let other = registry::open(&bench.url, &quick(), &"demo-2".parse().unwrap())
        .await
        .unwrap();
    bench.registry.enrol(device("d")).await.unwrap();
    assert_eq!(other.device(&id("d")).await.unwrap(), None);
    other.enrol(device("d")).await.unwrap();
    assert_eq!(bench.registry.devices().await.unwrap().devices.len(), 1);
}
