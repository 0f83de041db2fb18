//! What is accepted: the example manifests mean what their comments say, and the published schema is current.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::time::Duration;

use domain::{Endpoint, HashAlg, Part, PcrIndex, PcrValue, UnixTime};
use evidence::DenyList;
use manifest::{EkKind, EkTrust, Fleet, KeyStore, parse};
use sha2::{Digest as _, Sha256};

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");
const KIOSKS: &str = include_str!("../../../manifests/examples/kiosk-fleet.toml");
const SCHEMA: &str = include_str!("../../../manifests/schema/fleet.schema.json");

fn fleet(text: &str) -> Fleet {
    parse("example.toml", text).unwrap_or_else(|wrong| panic!("{}", wrong.render()))
}

fn pcr(index: u64) -> PcrIndex {
    PcrIndex::try_from(index).unwrap()
}

#[test]
fn the_demo_expects_what_the_demo_measures() {
    let fleet = fleet(DEMO);
    let extended_once = |text: &str| {
        let mut input = vec![0; 32];
        input.extend(Sha256::digest(text));
        PcrValue::new(HashAlg::Sha256, &Sha256::digest(&input)).unwrap()
    };
    let policy = fleet.policies.values().next().unwrap();
    let evidence = policy.evidence.as_ref().unwrap();
    assert_eq!(evidence.bank(), HashAlg::Sha256);
    assert_eq!(evidence.parts().exact.len(), 2);
    assert_eq!(
        evidence.parts().exact[&pcr(7)],
        extended_once("signalbox demo: secure boot state")
    );
    assert_eq!(
        evidence.parts().exact[&pcr(11)],
        extended_once("signalbox demo: kernel image")
    );
    assert_eq!(policy.models, ["smollm2:135m".parse().unwrap()]);
    assert!(policy.endpoints.is_none() && policy.options.is_none() && policy.limits.is_none());
    assert_eq!(policy.session_ttl, Duration::from_secs(600));
}

#[test]
fn the_demo_is_one_kiosk_in_a_software_tpm() {
    let fleet = fleet(DEMO);
    assert_eq!(fleet.name.as_str(), "demo");
    assert_eq!(fleet.audience.as_str(), "https://llm.demo.example");
    assert_eq!(fleet.registry, "sqlite:registry.db");
    assert_eq!(fleet.devices.len(), 1);
    let device = &fleet.devices[0];
    let (profile, _) = fleet.of(device).unwrap();
    let KeyStore::Tpm(store) = &profile.key_store else {
        panic!("another key store")
    };
    assert_eq!(store.tcti, "swtpm:host=127.0.0.1,port=2321");
    assert_eq!(store.ak_handle, 0x8101_0020);
    assert_eq!(store.ek, EkKind::Rsa2048);
    assert_eq!(store.ek_trust, EkTrust::FirstUse);
    assert!(!profile.measured_boot);
    assert_eq!(profile.volume.path_for(&device.id), "out/kiosk-bern-01.luks");
    assert_eq!(profile.volume.size, 32 * 1024 * 1024);
    assert_eq!(store.seal.exact.unwrap().to_string(), "sha256:7");
}

#[test]
fn the_kiosk_fleet_uses_every_key() {
    let fleet = fleet(KIOSKS);
    assert_eq!(fleet.devices.len(), 5);
    let (bench, workshop) = fleet.of(&fleet.devices[3]).unwrap();
    assert!(workshop.evidence.is_none());
    assert_eq!(workshop.session_ttl, Duration::from_secs(3600));
    assert_eq!(fleet.devices[3].tcti.as_deref(), Some("device:/dev/tpmrm1"));
    let KeyStore::Tpm(store) = &bench.key_store else {
        panic!("another key store")
    };
    assert_eq!(store.tcti, "device:/dev/tpmrm0", "the default");
    assert_eq!(store.ek_trust, EkTrust::FirstUse);
    let (kiosk, _) = fleet.of(&fleet.devices[0]).unwrap();
    let KeyStore::Tpm(store) = &kiosk.key_store else {
        panic!("another key store")
    };
    let EkTrust::Allow(allowed) = &store.ek_trust else {
        panic!("no list")
    };
    assert_eq!(allowed.len(), 2);
    assert!(kiosk.measured_boot);
}

#[test]
fn the_kiosks_may_chat_within_bounds() {
    let fleet = fleet(KIOSKS);
    let (_, kiosk) = fleet.of(&fleet.devices[0]).unwrap();
    let endpoints = kiosk.endpoints.as_ref().unwrap();
    assert!(endpoints.contains(&Endpoint::Chat) && !endpoints.contains(&Endpoint::Generate));
    let options = &kiosk.options;
    assert_eq!(options.keep_alive.min().unwrap().get(), 60);
    assert_eq!(options.keep_alive.max().unwrap().get(), 1800);
    assert_eq!(options.max_num_ctx.unwrap().get(), 8192);
    assert_eq!(options.max_num_predict.unwrap().get(), 1024);
    assert!(options.refuses(Part::System) && !options.refuses(Part::Tools));
    assert_eq!(kiosk.limits.requests_per_minute.unwrap().get(), 30);
    assert_eq!(kiosk.limits.streams.unwrap().get(), 2);
    assert_eq!(kiosk.limits.prompt_tokens_per_day.unwrap().get(), 500_000);
    assert_eq!(kiosk.limits.output_tokens_per_day.unwrap().get(), 200_000);
}

#[test]
fn the_kiosks_have_exact_values_and_golden_sets_that_overlap() {
    let fleet = fleet(KIOSKS);
    let (_, policy) = fleet.of(&fleet.devices[0]).unwrap();
    let evidence = policy.evidence.as_ref().unwrap();
    assert_eq!(evidence.selection().to_string(), "sha256:4,7,11");
    let parts = evidence.parts();
    assert_eq!(
        parts.exact.keys().map(|index| index.get()).collect::<Vec<_>>(),
        [7]
    );
    let ends = parts.golden.iter().map(|set| (set.name.as_str(), set.until));
    let until = UnixTime::from_secs(1_796_083_200);
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [("2026-09", Some(until)), ("2026-10", None)]
    );
    let events = &parts.golden_events[&"2026-10".parse().unwrap()];
    assert_eq!(events[&pcr(11)].len(), 2);
    assert!(parts.statement.is_none() && parts.log.is_none());
}

#[test]
fn the_signs_have_a_statement_rules_and_a_makers_root() {
    let fleet = fleet(KIOSKS);
    let (profile, policy) = fleet.of(&fleet.devices[2]).unwrap();
    let evidence = policy.evidence.as_ref().unwrap();
    assert_eq!(evidence.selection().to_string(), "sha256:2,4,7,8,11,12");
    assert!(evidence.policy().wants_event_log() && evidence.policy().wants_image_statement());
    let statement = evidence.parts().statement.as_ref().unwrap();
    assert_eq!(u64::from(statement.least_release), 41);
    assert_eq!(
        (
            statement.keys.len(),
            statement.revoked.len(),
            statement.pcrs.len()
        ),
        (1, 1, 2)
    );
    let log = evidence.parts().log.as_ref().unwrap();
    assert!(log.secure_boot && log.no_debug_shell);
    assert_eq!(
        (log.keys.len(), log.command_line.len(), log.replays.len()),
        (3, 1, 1)
    );
    assert_eq!(log.authorities.as_ref().unwrap().len(), 1);

    let KeyStore::Tpm(store) = &profile.key_store else {
        panic!("another key store")
    };
    let EkTrust::Chain(chain) = &store.ek_trust else {
        panic!("no chain")
    };
    assert_eq!(chain.roots, "keys/ek-roots");
    let denied = |maker: &str, version: &str| {
        let list = DenyList::new(chain.deny.clone());
        list.check_device(maker.parse().unwrap(), Some(version.parse().unwrap()))
            .is_err()
    };
    assert!(denied("IFX", "7.0") && denied("IFX", "7.61") && !denied("IFX", "7.62"));
    assert!(denied("STM", "73.4") && !denied("STM", "74.0"));
}

#[test]
fn the_published_schema_is_current() {
    assert!(
        manifest::json_schema() == SCHEMA,
        "manifests/schema/fleet.schema.json is old: `provisioner schema > manifests/schema/fleet.schema.json`"
    );
}

/// The schema lists the keys that the reader takes: an unknown key's hint names every known one.
#[test]
fn schema_and_reader_know_the_same_keys() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let keys = |object: &serde_json::Value| -> Vec<String> {
        let mut keys: Vec<String> = object["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    let known = |text: &str| -> Vec<String> {
        let wrong = parse("x.toml", text).unwrap_err();
        let finding = wrong
            .findings()
            .iter()
            .find(|f| f.message == "unknown key `0`")
            .unwrap();
        let hint = finding
            .hint
            .as_deref()
            .unwrap()
            .strip_prefix("known here: ")
            .unwrap();
        let mut keys: Vec<String> = hint.split(", ").map(|k| k.trim_matches('`').to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&schema), known("0 = 1\n"));
    for (definition, text) in [
        ("fleet", "[fleet]\n0 = 1\n"),
        ("policy", "[policies.a]\n0 = 1\n"),
        ("options", "[policies.a.options]\n0 = 1\n"),
        ("limits", "[policies.a.limits]\n0 = 1\n"),
        ("evidence", "[policies.a.evidence]\n0 = 1\n"),
        ("golden-set", "[policies.a.evidence.golden.x]\n0 = 1\n"),
        ("image-statement", "[policies.a.evidence.statement]\n0 = 1\n"),
        ("log-rules", "[policies.a.evidence.log]\n0 = 1\n"),
        ("ek-chain", "[profiles.a.ek-trust]\nroots = \"r\"\n0 = 1\n"),
        (
            "ek-deny",
            "[profiles.a.ek-trust]\nroots = \"r\"\ndeny = [{ 0 = 1 }]\n",
        ),
        ("profile", "[profiles.a]\n0 = 1\n"),
        ("volume", "[profiles.a.volume]\n0 = 1\n"),
        ("signed-seal", "[profiles.a.volume]\nseal-signed = { 0 = 1 }\n"),
        ("device", "[[devices]]\n0 = 1\n"),
        ("certificate-key", "[[devices]]\nclient-certificate = { 0 = 1 }\n"),
    ] {
        assert_eq!(keys(&schema["$defs"][definition]), known(text), "{definition}");
    }
}
