//! The fold alone: what the conformance suite sees through a backend, and what it cannot bring about.

use super::*;
use crate::{Lookup, Revision, record::encode};
use domain::UnixTime;

fn stored(value: impl Into<Vec<u8>>) -> Option<Stored> {
    Some(Stored {
        value: value.into(),
        revision: Revision::new(3),
    })
}

fn view() -> View {
    View::new(Keyspace::new(&"demo".parse().unwrap()))
}

fn device(generation: u64) -> DeviceRecord {
    let json = format!(
        r#"{{"version":1,"device":"d","state":"active","policy":"p","profile":"q","psk":{{"current":"{}"}},
        "measured_boot":false,"generation":{generation},"enrolled_at":1}}"#,
        psk()
    );
    decode(json.as_bytes()).unwrap()
}

fn policy() -> PolicyRecord {
    decode(br#"{"version":1,"revision":1,"models":["*"],"session_ttl":60}"#).unwrap()
}

fn psk() -> PskDigest {
    PskDigest::of(b"d")
}

fn id() -> DeviceId {
    "d".parse().unwrap()
}

fn rows(generation: u64) -> Vec<Row> {
    let row = |key: &str, value: Vec<u8>| (format!("/signalbox/v1/demo/{key}"), stored(value).unwrap());
    vec![
        row("devices/d", encode(&device(generation)).unwrap()),
        row("policies/p", encode(&policy()).unwrap()),
        row(&format!("psk/{}", psk()), b"d".to_vec()),
        row(&format!("ek/{}", "00".repeat(32)), b"d".to_vec()),
    ]
}

fn entry(snapshot: &Snapshot) -> Result<&Arc<Entry>, &Unusable> {
    snapshot.device(&id()).unwrap()
}

#[test]
fn loading_the_same_again_changes_no_entry() {
    let mut view = view();
    view.load(rows(1));
    let before = view.snapshot();
    view.load(rows(1));
    let after = view.snapshot();
    assert!(Arc::ptr_eq(entry(&before).unwrap(), entry(&after).unwrap()));
}

#[test]
fn a_generation_that_went_back_is_noticed_across_loads_and_removals() {
    let mut view = view();
    view.load(rows(5));
    assert!(entry(&view.snapshot()).is_ok());
    view.load(Vec::new());
    assert!(view.snapshot().device(&id()).is_none());
    view.load(rows(4));
    let back = Unusable::GenerationWentBack { highest: 5, found: 4 };
    assert_eq!(entry(&view.snapshot()).unwrap_err(), &back);
    view.load(rows(5));
    assert!(entry(&view.snapshot()).is_ok());
}

#[test]
fn an_index_key_does_not_make_a_psk() {
    let mut view = view();
    view.load(rows(1));
    let stolen = PskDigest::of(b"of another time");
    view.apply(&format!("/signalbox/v1/demo/psk/{stolen}"), stored("d"));
    let snapshot = view.snapshot();
    let now = UnixTime::from_secs(0);
    assert!(matches!(snapshot.find(&psk(), now), Lookup::Found(_)));
    let why = &Unusable::PskEnded;
    assert_eq!(
        snapshot.find(&stolen, now),
        Lookup::Unusable { device: &id(), why }
    );
}

#[test]
fn what_was_seen_is_an_effect_of_its_own_unless_it_breaks_or_heals() {
    let mut view = view();
    view.load(rows(1));
    let key = "/signalbox/v1/demo/seen/d";
    let json = r#"{"version":1,"reset_count":3,"restart_count":0,"clock":9,"safe":true,"firmware_version":7,"at":1}"#;
    assert!(matches!(view.apply(key, stored(json)), Effect::Seen(d, s) if d == id() && s.value.clock == 9));
    assert_eq!(view.apply(key, stored("{}")), Effect::Snapshot);
    assert!(matches!(
        entry(&view.snapshot()),
        Err(Unusable::SeenUnreadable(_))
    ));
    assert_eq!(view.apply(key, stored(json)), Effect::Snapshot);
    assert!(entry(&view.snapshot()).is_ok());
    assert_eq!(view.apply(key, None), Effect::Snapshot);
    assert_eq!(view.snapshot().seen(&id()), None);
    let ek = format!("/signalbox/v1/demo/ek/{}", "11".repeat(32));
    assert_eq!(view.apply(&ek, stored("d")), Effect::Nothing);
}

#[test]
fn strays_are_bounded_escaped_and_forgotten() {
    let mut view = view();
    for n in 0..500 {
        view.apply(&format!("/signalbox/v1/demo/x/\u{1b}[2J{n}"), stored("v"));
    }
    let snapshot = view.snapshot();
    assert_eq!(snapshot.strays().len(), MAX_STRAYS);
    assert!(!snapshot.strays()[0].contains('\u{1b}'));
    view.apply("/signalbox/v1/demo/x/\u{1b}[2J0", None);
    assert_eq!(view.snapshot().strays().len(), MAX_STRAYS - 1);
    let index = format!("/signalbox/v1/demo/psk/{}", psk());
    view.apply(&index, stored("no\nid"));
    assert!(view.snapshot().strays().contains(&index));
    assert_eq!(
        view.snapshot().find(&psk(), UnixTime::from_secs(0)),
        Lookup::Unknown
    );
}

#[test]
fn a_snapshot_is_made_of_records_at_hand() {
    let snapshot = Snapshot::of([device(1)], [("p".parse().unwrap(), policy())], []);
    assert!(
        matches!(snapshot.find(&psk(), UnixTime::from_secs(0)), Lookup::Found(e) if *e.record == device(1))
    );
    let without = Snapshot::of([device(1)], [], []);
    assert!(matches!(entry(&without), Err(Unusable::PolicyMissing(_))));
}
