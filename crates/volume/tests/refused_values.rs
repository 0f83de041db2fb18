//! Headers with right checksums and other values than ours: every refusal is reached, by name.
#![allow(
    clippy::semicolon_if_nothing_returned,
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
use volume::{HeaderFault, InspectError, KeyslotId, OpenError, Place, Unsupported, inspect, open};

fn refused(change: impl FnOnce(&mut Value)) -> Unsupported {
    match inspect(&Touched::edited(change)) {
        Err(InspectError::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Which of the values break a rule of LUKS2 itself, so that no reader takes them.
const RULES: &str = r#"/keyslots/0/area/type = "datashift": keyslot 0 has no area that is one
/keyslots/0/af/type = "none": keyslot 0 has no anti-forensic split that is one
/keyslots/0/area/offset = "0": keyslot 0 has an area outside of the room for keyslots
/keyslots/0/area/offset = "16384": keyslot 0 has an area outside of the room for keyslots
/keyslots/0/area/offset = "16777216": keyslot 0 has an area outside of the room for keyslots
/keyslots/0/area/offset = "18446744073709551615": keyslot 0 has an area outside of the room for keyslots
/keyslots/0/area/size = "18446744073709547520": keyslot 0 has an area outside of the room for keyslots
/segments/0/sector_size = 0: segment 0 has no sector size that is one
/segments/0/offset = "32768": the configuration has keyslots that reach into the data
/segments/0/size = "0": segment 0 has no size that is one
/segments/0/size = "4097": segment 0 has no size that is one
/segments/0/size = "much": segment 0 has no size that is one
/segments/0/size = "18446744073709551615": segment 0 has no size that is one
/digests/0/segments = []: segment 0 has no digest
/digests/0/keyslots = []: keyslot 0 is not named by exactly one digest
/digests/0/keyslots = ["1"]: digest 0 names a keyslot that is not there
/config/json_size = "4096": the configuration has another size of the JSON area than there is
/config/json_size = "18446744073709551615": the configuration has another size of the JSON area than there is
/config/keyslots_size = "4095": the configuration has no size of the keyslots that is one
/segments/0/size = "+1048576": segment 0 has no size that is one
/segments/0/size = " 1048576": segment 0 has no size that is one
/segments/0/size = "": segment 0 has no size that is one
/config/keyslots_size = "1099511627776": the configuration has no size of the keyslots that is one
/config/keyslots_size = "18446744073709551615": the configuration has no size of the keyslots that is one"#;

/// The rule of LUKS2 that a change breaks.
fn broken(change: impl FnOnce(&mut Value)) -> String {
    match inspect(&Touched::edited(change)) {
        Err(InspectError::NoHeader {
            primary: HeaderFault::Metadata(fault),
            ..
        }) => fault.to_string(),
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
        ("/config/json_size", json!("4096"), out(Place::Data)),
        (
            "/config/json_size",
            json!("18446744073709551615"),
            out(Place::Data),
        ),
        ("/config/keyslots_size", json!("4095"), out(Place::Data)),
        ("/segments/0/size", json!("+1048576"), out(Place::Data)),
        ("/segments/0/size", json!(" 1048576"), out(Place::Data)),
        ("/segments/0/size", json!(""), out(Place::Data)),
        ("/config/keyslots_size", json!("1099511627776"), out(Place::Data)),
        (
            "/config/keyslots_size",
            json!("18446744073709551615"),
            out(Place::Data),
        ),
    ];
    let mut broken = Vec::new();
    for (pointer, value, expected) in cases {
        let shown = format!("{pointer} = {value}");
        match inspect(&Touched::edited(|json| {
            *json.pointer_mut(pointer).unwrap() = value
        })) {
            Err(InspectError::Unsupported(why)) => {
                assert_eq!(why, expected, "{shown}");
                assert!(why.to_string().len() > 10);
            }
            Err(InspectError::NoHeader {
                primary: HeaderFault::Metadata(fault),
                ..
            }) => broken.push(format!("{shown}: {fault}")),
            other => panic!("{shown}: {other:?}"),
        }
    }
    let expected: Vec<&str> = RULES.lines().map(str::trim).collect();
    assert_eq!(broken, expected, "{broken:#?}");
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
        segment(
            "integrity",
            json!({"type": "none", "journal_encryption": "none", "journal_integrity": "none"})
        ),
        Unsupported::SegmentOption("integrity")
    );
    assert_eq!(
        segment("flags", json!(["future"])),
        Unsupported::SegmentOption("flags")
    );
}

#[test]
fn a_second_segment_or_digest_or_a_slot_over_another_is_refused() {
    let copy = |list: &'static str, to: &'static str| {
        move |json: &mut Value| json[list][to] = json[list]["0"].clone()
    };
    let two = refused(|json| {
        json["segments"]["0"]["size"] = json!("4096");
        json["segments"]["1"] = json!({"type": "linear", "offset": "16781312", "size": "dynamic"});
    });
    assert_eq!(two, Unsupported::Segments);
    assert_eq!(broken(copy("segments", "1")), "segment 1 has no digest");
    let digests = refused(|json| {
        json["digests"]["1"] = json["digests"]["0"].clone();
        json["digests"]["1"]["keyslots"] = json!([]);
    });
    assert_eq!(digests, Unsupported::Digests(2));
    assert_eq!(
        broken(copy("digests", "1")),
        "keyslot 0 is not named by exactly one digest"
    );
    for name in ["32", "00"] {
        let named = refused(|json| {
            json["keyslots"][name] = json["keyslots"]["0"].clone();
            json["keyslots"][name]["area"]["offset"] = json!("1048576");
            json["digests"]["0"]["keyslots"] = json!(["0", name]);
        });
        assert_eq!(named, Unsupported::KeyslotName(name.into()));
    }
    assert_eq!(
        broken(|json| {
            json["segments"] = json!({});
            json["digests"]["0"]["segments"] = json!([]);
        }),
        "the JSON area has no segment"
    );
    let many = |most: usize| {
        move |json: &mut Value| {
            (0..most).for_each(|n| json["tokens"][n.to_string()] = json!({"type": "x", "keyslots": []}));
        }
    };
    assert_eq!(refused(many(33)), Unsupported::TooMany);
    assert_eq!(
        broken(many(257)),
        "the JSON area has more objects than anybody needs"
    );
    for offset in ["32768", "36864"] {
        let over = broken(|json| {
            json["keyslots"]["5"] = json["keyslots"]["0"].clone();
            json["keyslots"]["5"]["area"]["offset"] = json!(offset);
            json["digests"]["0"]["keyslots"] = json!(["0", "5"]);
        });
        assert_eq!(over, "keyslot 5 has an area that overlaps another");
    }
    let unbound = refused(|json| {
        json["digests"]["1"] = json["digests"]["0"].clone();
        json["digests"]["1"]["segments"] = json!([]);
        json["digests"]["0"]["keyslots"] = json!([]);
    });
    assert_eq!(unbound, Unsupported::NoKeyslot);
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
    let absent = broken(|json| drop(json["keyslots"]["0"].as_object_mut().unwrap().remove("kdf")));
    assert_eq!(absent, "keyslot 0 has no key derivation");
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
            matches!(
                inspect(&volume),
                Err(InspectError::NoHeader {
                    primary: HeaderFault::Metadata(_),
                    ..
                })
            ),
            "{text}"
        );
    }
    for place in [
        "/segments/0",
        "/keyslots/0",
        "/keyslots/0/area",
        "/keyslots/0/af",
        "/digests/0",
        "/config",
    ] {
        let unknown = Touched::edited(|json| json.pointer_mut(place).unwrap()["new"] = json!(1));
        assert!(
            matches!(
                inspect(&unknown),
                Err(InspectError::Unsupported(Unsupported::Field(_)))
            ),
            "{place}"
        );
    }
}

/// A reader that only looks for what it needs would take these.
#[test]
fn what_names_something_names_what_is_there() {
    let unassigned = broken(|json| {
        json["keyslots"]["5"] = json["keyslots"]["0"].clone();
        json["keyslots"]["5"]["area"]["offset"] = json!("1048576");
    });
    assert_eq!(unassigned, "keyslot 5 is not named by exactly one digest");
    assert_eq!(
        refused(|json| json["digests"]["0"]["keyslots"] = json!(["0", "0"])),
        Unsupported::KeyslotName("0".to_owned())
    );
    assert_eq!(
        broken(|json| json["digests"]["0"]["segments"] = json!(["0", "1"])),
        "digest 0 names a segment that is not there"
    );
    for (token, why) in [
        (
            json!({"type": "x", "keyslots": ["1"]}),
            "token 7 names a keyslot that is not there",
        ),
        (
            json!({"type": "x", "keyslots": [0]}),
            "token 7 has no list of keyslots",
        ),
        (json!({"type": "x"}), "token 7 has no list of keyslots"),
        (json!({"keyslots": []}), "token 7 has no type"),
        (json!(42), "token 7 has no type"),
    ] {
        assert_eq!(broken(|json| json["tokens"]["7"] = token), why);
    }
    assert_eq!(
        refused(|json| json["keyslots"]["0"]["kdf"]["type"] = json!("argon2")),
        Unsupported::KdfType(KeyslotId::SEALED)
    );
    let no_tweak = broken(|json| {
        json["segments"]["0"].as_object_mut().unwrap().remove("iv_tweak");
    });
    assert_eq!(no_tweak, "segment 0 has no IV tweak that is a number");
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
        assert!(
            matches!(
                why,
                InspectError::NoHeader {
                    primary: HeaderFault::Metadata(_),
                    ..
                }
            ),
            "{why}"
        );
    }
}
