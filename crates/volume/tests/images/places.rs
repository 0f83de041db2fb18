//! Kinds of headers whose areas, segments and sizes are in the wrong places, or in unusual ones.

use serde_json::{Value, json};

use crate::{
    common::headers::Which,
    kinds::{Kind, first, kind, set, without},
};

pub fn area_kinds() -> Vec<Kind> {
    let place = |keyslot: &'static str, offset: u64| {
        move |json: &mut Value| json["keyslots"][keyslot]["area"]["offset"] = offset.to_string().into()
    };
    vec![
        first("overlapping-areas-c0-json0", false, place("1", 32768)),
        first("overlapping-areas-c1-json0", false, place("1", 32768 + 4096)),
        first("overlapping-areas-c2-json0", false, place("1", 32768 + 1)),
        first("area-in-json-hdr-space-json0", false, place("0", 16384)),
        first("inv-area-c0", false, place("0", 32767)),
        first("inv-area-c1", false, place("1", 32768 + 4_063_232 - 4096)),
        first("an area that wraps around", false, |json| {
            json["keyslots"]["1"]["area"]["size"] = "18446744073709551615".into();
        }),
        set("an empty area", false, "/keyslots/1/area/size", json!("0")),
        set(
            "invalid-keyslots-size-c0",
            false,
            "/config/keyslots_size",
            json!("4194304"),
        ),
        set(
            "invalid-keyslots-size-c1",
            false,
            "/config/keyslots_size",
            json!("4063233"),
        ),
        set(
            "invalid-keyslots-size-c2",
            false,
            "/config/keyslots_size",
            json!("4096"),
        ),
        set(
            "keyslots-size above the limit",
            false,
            "/config/keyslots_size",
            json!("134221824"),
        ),
        set("invalid-json-size-c0", false, "/config/json_size", json!("16384")),
        set("invalid-json-size-c1", false, "/config/json_size", json!("4096")),
        set("invalid-json-size-c2", false, "/config/json_size", json!("28672")),
        without("no keyslots_size", "/config/keyslots_size"),
    ]
}

pub fn segment_kinds() -> Vec<Kind> {
    let at =
        |pointer: &'static str, good: bool, name: &'static str, value: Value| set(name, good, pointer, value);
    let mut kinds = vec![
        without("segment-missing-type", "/segments/0/type"),
        without("segment-missing-offset", "/segments/0/offset"),
        without("segment-missing-size", "/segments/0/size"),
        without("segment-crypt-missing-encryption", "/segments/0/encryption"),
        without("segment-crypt-missing-ivoffset", "/segments/0/iv_tweak"),
        without("segment-crypt-missing-sectorsize", "/segments/0/sector_size"),
        without("no segment", "/segments/0"),
        without("a digest without segments", "/digests/0/segments"),
        at("/segments/0/type", false, "segment-wrong-type", json!(42)),
        at("/segments/0/offset", false, "segment-wrong-offset", json!("-42")),
        at(
            "/segments/0/offset",
            false,
            "an offset that is odd",
            json!("4194305"),
        ),
        at("/segments/0/offset", true, "a detached header", json!("0")),
        at("/segments/0/size", false, "segment-wrong-size-0", json!(4096)),
        at(
            "/segments/0/size",
            false,
            "segment-wrong-size-1",
            json!("automatic"),
        ),
        at("/segments/0/size", false, "segment-wrong-size-2", json!("511")),
        at("/segments/0/size", false, "a size of nothing", json!("0")),
        at(
            "/segments/0/size",
            true,
            "uint64-max-segment-size",
            json!("18446744073709551104"),
        ),
        at(
            "/segments/0/size",
            false,
            "uint64-overflow-segment-size",
            json!("18446744073709551616"),
        ),
        at(
            "/segments/0/size",
            false,
            "uint64-signed-segment-size",
            json!("-512"),
        ),
        at(
            "/segments/0/encryption",
            false,
            "segment-crypt-wrong-encryption",
            json!({}),
        ),
        at(
            "/segments/0/iv_tweak",
            false,
            "segment-crypt-wrong-ivoffset",
            json!("dynamic"),
        ),
        at(
            "/segments/0/sector_size",
            false,
            "segment-crypt-wrong-sectorsize-0",
            json!("4096"),
        ),
        at(
            "/segments/0/sector_size",
            false,
            "segment-crypt-wrong-sectorsize-1",
            json!(-1024),
        ),
        at(
            "/segments/0/sector_size",
            false,
            "segment-crypt-wrong-sectorsize-2",
            json!(511),
        ),
        at("/segments/0/sector_size", false, "a sector of nothing", json!(0)),
        at("/segments/0/flags", false, "segment-wrong-flags", json!("hello")),
        at(
            "/segments/0/flags",
            false,
            "segment-wrong-flags-element",
            json!(["hello", 1]),
        ),
        at("/segments/0/flags", true, "flags of a segment", json!(["hello"])),
        at(
            "/segments/0/flags",
            false,
            "a backup alone",
            json!(["backup-final"]),
        ),
        at(
            "/segments/0/integrity",
            false,
            "an integrity that is none",
            json!({"type": "hmac(sha256)"}),
        ),
        at(
            "/segments/0/encryption",
            true,
            "the null cipher",
            json!("cipher_null-ecb"),
        ),
        at(
            "/segments/1",
            false,
            "two segments to the end",
            json!({"type": "linear", "offset": "4194304", "size": "dynamic"}),
        ),
    ];
    kinds.push(first("segment-unknown-type", true, |json| {
        json["segments"]["0"] = json!({"type": "some-new", "offset": "4194304", "size": "dynamic"});
    }));
    let two = |second: &'static str, size: &'static str| {
        move |json: &mut Value| {
            json["segments"]["0"]["size"] = "512".into();
            json["segments"]["1"] = json!({"type": "linear", "offset": second, "size": size});
        }
    };
    kinds.push(first("segment-two", true, two("4194816", "dynamic")));
    kinds.push(first("segments that overlap", false, two("4194304", "dynamic")));
    kinds.push(first("a gap between segments' names", false, |json| {
        json["segments"]["0"]["size"] = "512".into();
        json["segments"]["2"] = json!({"type": "linear", "offset": "4194816", "size": "512"});
    }));
    kinds.push(first("segment-wrong-backup-key", false, |json| {
        json["segments"]["268435472"] =
            json!({"type": "linear", "offset": "512", "size": "512", "flags": ["backup-x"]});
    }));
    kinds.push(first("a backup behind", true, |json| {
        json["segments"]["1"] =
            json!({"type": "linear", "offset": "512", "size": "512", "flags": ["backup-x"]});
    }));
    kinds.push(first("a segment behind a backup", false, |json| {
        json["segments"]["1"] =
            json!({"type": "linear", "offset": "512", "size": "512", "flags": ["backup-x"]});
        json["segments"]["2"] = json!({"type": "linear", "offset": "8388608", "size": "512"});
    }));
    kinds
}

pub fn size_kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (name, size) in [
        ("metadata-size-32k", 0x8000),
        ("metadata-size-64k", 0x1_0000),
        ("metadata-size-128k", 0x2_0000),
        ("metadata-size-256k", 0x4_0000),
        ("metadata-size-512k", 0x8_0000),
        ("metadata-size-1m", 0x10_0000),
        ("metadata-size-2m", 0x20_0000),
        ("metadata-size-4m", 0x40_0000),
    ] {
        kinds.push(kind(name, true, move |headers| {
            headers.resize(size, 14 << 20);
            headers.kill(Which::Second);
        }));
        kinds.push(kind(name, true, move |headers| {
            headers.resize(size, 14 << 20);
            headers.kill(Which::First);
        }));
    }
    kinds.push(kind("metadata-size-64k-inv-keyslots-size-c0", false, |headers| {
        headers.resize(0x1_0000, 14 << 20);
        headers.edit(Which::Both, |json| {
            json["config"]["keyslots_size"] = "16777216".into()
        });
    }));
    kinds.push(kind("metadata-size-16k-secondary", true, |headers| {
        headers.kill(Which::First)
    }));
    kinds
}
