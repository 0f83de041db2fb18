//! Headers with right checksums and other values than ours: every refusal is reached, by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod common;

use std::time::Instant;

use common::{SIZE, reseal, secret, touched::Touched};
use serde_json::{Value, json};
use volume::{InspectError, KeyslotId, OpenError, Place, Unsupported, inspect, open};

fn refused(change: impl FnOnce(&mut Value)) -> Unsupported {
    match inspect(&Touched::edited(change)) {
        Err(InspectError::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    }
}

const SLOT: Place = Place::Keyslot(KeyslotId::SEALED);

#[test]
fn every_cipher_but_ours_is_refused_everywhere() {
    for cipher in [
        "null",
        "cipher_null-ecb",
        "aes-xts-plain",
        "aes-cbc-essiv:sha256",
        "capi:xts(aes)-plain64",
        "",
    ] {
        for (pointer, place) in [
            ("/segments/0/encryption", Place::Data),
            ("/keyslots/0/area/encryption", SLOT),
        ] {
            let why = refused(|json| *json.pointer_mut(pointer).unwrap() = json!(cipher));
            assert_eq!(
                why,
                Unsupported::Cipher {
                    place,
                    cipher: cipher.to_owned()
                }
            );
        }
    }
}

#[test]
fn every_other_value_than_ours_is_refused_by_name() {
    let out = Unsupported::OutOfBounds;
    let cases: Vec<(&str, Value, Unsupported)> = vec![
        (
            "/keyslots/0/key_size",
            json!(0),
            Unsupported::KeySize {
                place: SLOT,
                bytes: 0,
            },
        ),
        (
            "/keyslots/0/area/key_size",
            json!(32),
            Unsupported::KeySize {
                place: SLOT,
                bytes: 32,
            },
        ),
        (
            "/keyslots/0/type",
            json!("luks3"),
            Unsupported::KeyslotType(KeyslotId::SEALED, "luks3".into()),
        ),
        (
            "/keyslots/0/area/type",
            json!("datashift"),
            Unsupported::KeyslotType(KeyslotId::SEALED, "datashift".into()),
        ),
        ("/keyslots/0/type", json!("reencrypt"), Unsupported::Reencryption),
        (
            "/keyslots/0/af/stripes",
            json!(1),
            Unsupported::Split(KeyslotId::SEALED),
        ),
        (
            "/keyslots/0/af/stripes",
            json!(u64::MAX),
            Unsupported::Split(KeyslotId::SEALED),
        ),
        (
            "/keyslots/0/af/type",
            json!("none"),
            Unsupported::Split(KeyslotId::SEALED),
        ),
        (
            "/keyslots/0/af/hash",
            json!("md5"),
            Unsupported::Hash {
                place: SLOT,
                hash: "md5".into(),
            },
        ),
        (
            "/keyslots/0/kdf/hash",
            json!("sha1"),
            Unsupported::Hash {
                place: SLOT,
                hash: "sha1".into(),
            },
        ),
        ("/keyslots/0/kdf/iterations", json!(0), Unsupported::KdfCost(SLOT)),
        (
            "/keyslots/0/kdf/iterations",
            json!(4_000_000_000_u64),
            Unsupported::KdfCost(SLOT),
        ),
        (
            "/keyslots/0/kdf/iterations",
            json!(u64::MAX),
            Unsupported::KdfCost(SLOT),
        ),
        ("/keyslots/0/kdf/salt", json!(""), Unsupported::KdfCost(SLOT)),
        ("/keyslots/0/kdf/salt", json!("%"), Unsupported::Base64(SLOT)),
        ("/keyslots/0/area/offset", json!("0"), out(SLOT)),
        ("/keyslots/0/area/offset", json!("16384"), out(SLOT)),
        ("/keyslots/0/area/offset", json!("32769"), out(SLOT)),
        ("/keyslots/0/area/offset", json!("16777216"), out(SLOT)),
        (
            "/keyslots/0/area/offset",
            json!("18446744073709551615"),
            out(SLOT),
        ),
        ("/keyslots/0/area/size", json!("4096"), out(SLOT)),
        ("/keyslots/0/area/size", json!("18446744073709547520"), out(SLOT)),
        ("/segments/0/type", json!("linear"), Unsupported::Segments),
        (
            "/segments/0/iv_tweak",
            json!("8"),
            Unsupported::SegmentOption("an IV tweak"),
        ),
        ("/segments/0/sector_size", json!(0), Unsupported::SectorSize(0)),
        (
            "/segments/0/sector_size",
            json!(1024),
            Unsupported::SectorSize(1024),
        ),
        ("/segments/0/offset", json!("0"), out(Place::Data)),
        ("/segments/0/offset", json!("32768"), out(Place::Data)),
        ("/segments/0/offset", json!("16777728"), out(Place::Data)),
        ("/segments/0/size", json!("0"), out(Place::Data)),
        ("/segments/0/size", json!("4097"), out(Place::Data)),
        ("/segments/0/size", json!("much"), out(Place::Data)),
        (
            "/segments/0/size",
            json!("18446744073709551615"),
            out(Place::Data),
        ),
        (
            "/segments/0/size",
            json!("16781312"),
            Unsupported::Truncated {
                needed: SIZE + 4096,
                found: SIZE,
            },
        ),
        (
            "/digests/0/type",
            json!("null"),
            Unsupported::DigestType("null".into()),
        ),
        ("/digests/0/segments", json!([]), Unsupported::Digests(0)),
        ("/digests/0/keyslots", json!([]), Unsupported::NoKeyslot),
        (
            "/digests/0/keyslots",
            json!(["1"]),
            Unsupported::KeyslotName("1".into()),
        ),
        (
            "/digests/0/keyslots",
            json!(["0", "0"]),
            Unsupported::KeyslotName("0".into()),
        ),
        (
            "/digests/0/hash",
            json!("crc32"),
            Unsupported::Hash {
                place: Place::Digest,
                hash: "crc32".into(),
            },
        ),
        (
            "/digests/0/iterations",
            json!(0),
            Unsupported::KdfCost(Place::Digest),
        ),
        (
            "/digests/0/digest",
            json!(""),
            Unsupported::KdfCost(Place::Digest),
        ),
        (
            "/digests/0/digest",
            json!("AA=="),
            Unsupported::KdfCost(Place::Digest),
        ),
        (
            "/digests/0/digest",
            json!("?"),
            Unsupported::Base64(Place::Digest),
        ),
        ("/config/json_size", json!("4096"), Unsupported::JsonSize(4096)),
        (
            "/config/json_size",
            json!("18446744073709551615"),
            Unsupported::JsonSize(u64::MAX),
        ),
        ("/config/keyslots_size", json!("4095"), out(Place::KeyslotRoom)),
        ("/segments/0/size", json!("+1048576"), out(Place::Data)),
        ("/segments/0/size", json!(" 1048576"), out(Place::Data)),
        ("/segments/0/size", json!(""), out(Place::Data)),
        (
            "/config/keyslots_size",
            json!("1099511627776"),
            out(Place::KeyslotRoom),
        ),
        (
            "/config/keyslots_size",
            json!("18446744073709551615"),
            out(Place::KeyslotRoom),
        ),
    ];
    for (pointer, value, expected) in cases {
        let shown = format!("{pointer} = {value}");
        let why = refused(|json| *json.pointer_mut(pointer).unwrap() = value);
        assert_eq!(why, expected, "{shown}");
        assert!(why.to_string().len() > 10);
    }
}

#[test]
fn requirements_reencryption_and_options_are_refused() {
    let with = |pointer: &str, field: &str, value: Value| {
        refused(|json| json.pointer_mut(pointer).unwrap()[field] = value)
    };
    assert_eq!(
        with("/config", "requirements", json!({"mandatory": ["future"]})),
        Unsupported::Requirements
    );
    assert_eq!(
        with("/config", "requirements", json!({})),
        Unsupported::Requirements
    );
    for flag in ["online-reencrypt", "online-reencrypt-v2", "offline-reencrypt"] {
        let why = with("/config", "requirements", json!({"mandatory": [flag]}));
        assert_eq!(why, Unsupported::Reencryption);
    }
    assert_eq!(
        with("/keyslots/0", "mode", json!("decrypt")),
        Unsupported::Reencryption
    );
    assert_eq!(
        with("/keyslots/0", "direction", json!("backward")),
        Unsupported::Reencryption
    );
    for field in ["hash", "sector_size", "shift_size"] {
        assert_eq!(
            with("/keyslots/0/area", field, json!(512)),
            Unsupported::Reencryption
        );
    }
    let segment = |field, value| with("/segments/0", field, value);
    assert_eq!(
        segment("integrity", json!({"type": "none"})),
        Unsupported::SegmentOption("integrity")
    );
    assert_eq!(
        segment("flags", json!(["backup-final"])),
        Unsupported::SegmentOption("flags")
    );
}

#[test]
fn a_second_segment_or_digest_or_a_slot_over_another_is_refused() {
    let copy = |list: &'static str, to: &'static str| {
        move |json: &mut Value| json[list][to] = json[list]["0"].clone()
    };
    assert_eq!(refused(copy("segments", "1")), Unsupported::Segments);
    assert_eq!(refused(copy("digests", "1")), Unsupported::Digests(2));
    let (zero, five) = (KeyslotId::SEALED, KeyslotId::new(5).unwrap());
    assert_eq!(refused(copy("keyslots", "5")), Unsupported::Overlap(zero, five));
    assert_eq!(
        refused(copy("keyslots", "32")),
        Unsupported::KeyslotName("32".into())
    );
    assert_eq!(
        refused(copy("keyslots", "00")),
        Unsupported::KeyslotName("00".into())
    );
    assert_eq!(
        refused(|json| json["segments"] = json!({})),
        Unsupported::Segments
    );
    let many = |json: &mut Value| (0..33).for_each(|n| json["tokens"][n.to_string()] = json!({"type": "x"}));
    assert_eq!(refused(many), Unsupported::TooMany);
    // Half over the first one.
    let shifted = refused(|json| {
        json["keyslots"]["5"] = json["keyslots"]["0"].clone();
        json["keyslots"]["5"]["area"]["offset"] = json!("36864");
    });
    assert_eq!(shifted, Unsupported::Overlap(zero, five));
}

fn argon2(time: u64, memory: u64, salt: &str) -> Value {
    json!({"type": "argon2id", "time": time, "memory": memory, "cpus": 4, "salt": salt})
}

#[test]
fn argon2_is_bounded() {
    let salt = "AAAAAAAAAAAAAAAAAAAAAA==";
    for (time, memory, salt) in [
        (1000, 1 << 20, salt),
        (4, 1 << 30, salt),
        (4, u64::MAX, salt),
        (0, 1024, salt),
        (4, 1024, ""),
    ] {
        let why = refused(|json| json["keyslots"]["0"]["kdf"] = argon2(time, memory, salt));
        assert_eq!(why, Unsupported::KdfCost(SLOT), "{time} {memory}");
    }
    assert_eq!(
        refused(|json| json["keyslots"]["0"]["kdf"] = argon2(4, 1024, "%")),
        Unsupported::Base64(SLOT)
    );
    let absent = refused(|json| drop(json["keyslots"]["0"].as_object_mut().unwrap().remove("kdf")));
    assert_eq!(absent, Unsupported::KdfCost(SLOT));
    let other = Touched::edited(|json| json["keyslots"]["0"]["kdf"] = argon2(1, 1024, salt));
    assert!(matches!(open(other, &secret()), Err(OpenError::WrongSecret)));
}

#[test]
fn costs_are_bounded_over_all_keyslots_before_the_first_round() {
    let volume = Touched::edited(|json| {
        json["keyslots"]["0"]["kdf"]["iterations"] = json!(20_000_000);
        json["digests"]["0"]["iterations"] = json!(20_000_000);
        json["digests"]["0"]["keyslots"] = json!(["0", "1"]);
        json["tokens"] = json!({});
        json["keyslots"]["1"] = json["keyslots"]["0"].clone();
        json["keyslots"]["1"]["area"]["offset"] = json!("290816");
    });
    let start = Instant::now();
    assert!(matches!(
        open(volume, &secret()),
        Err(OpenError::TooCostly(80_000_000))
    ));
    assert!(start.elapsed().as_secs() < 2);
}

#[test]
fn json_that_is_none_is_refused() {
    for text in ["", "{}", "[]", "{\"keyslots\":", "nul", "{\"keyslots\":{}}"] {
        let mut volume = Touched::new();
        for start in [4096, 0x5000] {
            volume.head[start..start + 0x3000].fill(0);
            volume.head[start..start + text.len()].copy_from_slice(text.as_bytes());
        }
        reseal(&mut volume.head);
        assert!(
            matches!(inspect(&volume), Err(InspectError::Metadata(_))),
            "{text}"
        );
    }
    for place in [
        "/segments/0",
        "/keyslots/0",
        "/keyslots/0/area",
        "/keyslots/0/af",
        "/keyslots/0/kdf",
        "/digests/0",
        "/config",
    ] {
        let unknown = Touched::edited(|json| json.pointer_mut(place).unwrap()["new"] = json!(1));
        assert!(
            matches!(inspect(&unknown), Err(InspectError::Metadata(_))),
            "{place}"
        );
    }
}

/// What cryptsetup refuses of its own evil images, and a reader that only looks for what it needs would take.
#[test]
fn what_names_something_names_what_is_there() {
    assert_eq!(
        refused(|json| {
            let mut other = json["keyslots"]["0"].clone();
            other["area"]["offset"] = json!("1048576");
            json["keyslots"]["5"] = other;
        }),
        Unsupported::Unassigned {
            keyslot: KeyslotId::new(5).unwrap(),
            digests: 0
        }
    );
    assert_eq!(
        refused(|json| json["digests"]["0"]["keyslots"] = json!(["0", "0"])),
        Unsupported::KeyslotName("0".to_owned())
    );
    assert_eq!(
        refused(|json| json["digests"]["0"]["segments"] = json!(["0", "1"])),
        Unsupported::SegmentName("1".to_owned())
    );
    for token in [
        json!({"type": "x", "keyslots": ["1"]}),
        json!({"type": "x", "keyslots": [0]}),
        json!({"type": "x"}),
        json!({"keyslots": []}),
        json!(42),
    ] {
        assert_eq!(
            refused(|json| json["tokens"]["7"] = token.clone()),
            Unsupported::Token("7".to_owned()),
            "{token}"
        );
    }
    assert_eq!(
        refused(|json| json["keyslots"]["0"]["kdf"]["type"] = json!("argon2")),
        Unsupported::KdfType(KeyslotId::SEALED)
    );
    assert_eq!(
        refused(|json| {
            json["segments"]["0"].as_object_mut().unwrap().remove("iv_tweak");
        }),
        Unsupported::SegmentOption("an IV tweak")
    );
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let mut volume = Touched::new();
    let end = 4096 + volume.head[4096..0x4000].iter().position(|b| *b == 0).unwrap();
    let text = String::from_utf8(volume.head[4096..end].to_vec()).unwrap();
    for (list, twice) in [
        (
            "\"tokens\":{",
            "\"tokens\":{\"0\":{\"type\":\"x\",\"keyslots\":[]},",
        ),
        ("\"config\":{", "\"config\":{\"json_size\":\"12288\","),
        ("{\"keyslots\":{", "{\"segments\":{},\"keyslots\":{"),
    ] {
        let text = text.replacen(list, twice, 1);
        for start in [4096, 0x5000] {
            let area = &mut volume.head[start..start + 0x3000];
            area.fill(0);
            area[..text.len()].copy_from_slice(text.as_bytes());
        }
        reseal(&mut volume.head);
        let why = inspect(&volume).unwrap_err();
        assert!(matches!(why, InspectError::Metadata(_)), "{why}");
    }
}
