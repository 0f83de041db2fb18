//! The kinds: what each does to the headers of a good volume, and whether cryptsetup's own test wants it read.

use serde_json::{Value, json};

use crate::{
    common::headers::{Headers, Which},
    places::{area_kinds, segment_kinds, size_kinds},
};

pub struct Kind {
    pub name: &'static str,
    pub good: bool,
    pub make: Box<dyn Fn(&mut Headers)>,
}

pub fn kind(name: &'static str, good: bool, make: impl Fn(&mut Headers) + 'static) -> Kind {
    Kind {
        name,
        good,
        make: Box::new(make),
    }
}

/// A change of the first copy's metadata; the second copy is killed.
pub fn first(name: &'static str, good: bool, change: impl Fn(&mut Value) + 'static) -> Kind {
    kind(name, good, move |headers| {
        headers.edit(Which::First, &change);
        headers.kill(Which::Second);
    })
}

/// A change of both copies' metadata.
fn both(name: &'static str, good: bool, change: impl Fn(&mut Value) + 'static) -> Kind {
    kind(name, good, move |headers| headers.edit(Which::Both, &change))
}

/// A value at a place of the first copy.
pub fn set(name: &'static str, good: bool, pointer: &'static str, value: Value) -> Kind {
    first(name, good, move |json| {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value.clone();
    })
}

/// A place of the first copy that is not there.
pub fn without(name: &'static str, pointer: &'static str) -> Kind {
    first(name, false, move |json| {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(field)
            .unwrap();
    })
}

fn text_kinds() -> Vec<Kind> {
    let text = |change: fn(&mut Vec<u8>)| {
        move |headers: &mut Headers| {
            let mut text = serde_json::to_vec(&headers.json()).unwrap();
            change(&mut text);
            headers.text(Which::First, &text);
            headers.kill(Which::Second);
        }
    };
    vec![
        kind("untouched", true, |_| {}),
        kind("invalid-checksum-hdr0", true, |headers| {
            headers.put(Which::First, 448, &[0x5a; 32]);
            headers.unsealed[0] = true;
        }),
        kind("invalid-checksum-hdr1", true, |headers| {
            headers.put(Which::Second, 448, &[0x5a; 32]);
            headers.unsealed[1] = true;
        }),
        kind("invalid-checksum-both-hdrs", false, |headers| {
            headers.put(Which::Both, 448, &[0x5a; 32]);
            headers.unsealed = [true; 2];
        }),
        kind("corrupted-hdr0-with-correct-chks", true, |headers| {
            headers.area(Which::First, |area| area[..512].fill(b'!'))
        }),
        kind("corrupted-hdr1-with-correct-chks", true, |headers| {
            headers.area(Which::Second, |area| area[..512].fill(b'!'))
        }),
        kind("correct-full-json0", true, |headers| {
            let mut json = headers.json();
            json["tokens"]["9"] = json!({"type": "dummy", "keyslots": [], "fill": ""});
            let short = serde_json::to_vec(&json).unwrap().len();
            json["tokens"]["9"]["fill"] = "x".repeat(12288 - 1 - short).into();
            headers.set(Which::First, &json);
            headers.kill(Which::Second);
        }),
        kind("missing-trailing-null-byte-json0", false, |headers| {
            let mut json = headers.json();
            json["tokens"]["9"] = json!({"type": "dummy", "keyslots": [], "fill": ""});
            let short = serde_json::to_vec(&json).unwrap().len();
            json["tokens"]["9"]["fill"] = "x".repeat(12288 - short).into();
            headers.set(Which::First, &json);
            headers.kill(Which::Second);
        }),
        kind("non-null-byte-beyond-json0", false, text(|text| text.push(b'X'))),
        kind("white space beyond json0", true, text(|text| text.extend(b" \n"))),
        kind(
            "non-null-bytes-beyond-json0",
            false,
            text(|text| text.extend(b"\0\0some text")),
        ),
        kind("non-null byte at the end of json0", false, |headers| {
            headers.area(Which::First, |area| *area.last_mut().unwrap() = b'x');
            headers.kill(Which::Second);
        }),
        kind("invalid-opening-char-json0", false, text(|text| text[0] = b'[')),
        kind(
            "white space before json0",
            false,
            text(|text| text.insert(0, b' ')),
        ),
        kind(
            "invalid-closing-char",
            false,
            text(|text| *text.last_mut().unwrap() = b']'),
        ),
        kind(
            "invalid-object-type-json0",
            false,
            text(|text| *text = br#"["keyslots"]"#.to_vec()),
        ),
        kind("half of it", false, text(|text| text.truncate(text.len() / 2))),
        kind("non-compact-json", true, |headers| {
            headers.text(Which::Both, &serde_json::to_vec_pretty(&headers.json()).unwrap());
        }),
        kind("sizes of the copies differ", true, |headers| {
            headers.put(Which::Second, 8, &0x8000_u64.to_be_bytes())
        }),
        kind("metadata-size-invalid", false, |headers| {
            headers.put(Which::Both, 8, &0x5000_u64.to_be_bytes())
        }),
        kind("magic of the second copy in the first", true, |headers| {
            headers.put(Which::First, 0, b"SKUL\xba\xbe")
        }),
        kind("magic of the first copy in the second", true, |headers| {
            headers.put(Which::Second, 0, b"LUKS\xba\xbe")
        }),
        kind("version 1 in the first", false, |headers| {
            headers.put(Which::First, 6, &[0, 1])
        }),
        kind("version 3 in the first", false, |headers| {
            headers.put(Which::First, 6, &[0, 3])
        }),
        kind("version 3 in the second", true, |headers| {
            headers.put(Which::Second, 6, &[0, 3])
        }),
        kind("offset of the first elsewhere", true, |headers| {
            headers.put(Which::First, 256, &[0, 0, 0, 1])
        }),
        kind("label and UUID that are no text", true, |headers| {
            headers.put(Which::Both, 24, &[0xff; 48]);
            headers.put(Which::Both, 168, &[0xfe; 40]);
        }),
        kind("rest of the checksum's field", true, |headers| {
            headers.put(Which::Both, 480, &[7; 32])
        }),
    ]
}

fn object_kinds() -> Vec<Kind> {
    vec![
        both("invalid-tokens", false, |json| json["tokens"] = json!(42)),
        both("invalid-top-objects", false, |json| {
            json["tokens"] = json!(42);
            json["digests"] = json!(42);
        }),
        both("keyslots are none", false, |json| json["keyslots"] = json!([])),
        both("segments are none", false, |json| json["segments"] = json!("0")),
        both("config is none", false, |json| json["config"] = json!(null)),
        both("keyslot-invalid-objects", false, |json| {
            json["keyslots"]["0"]["kdf"] = json!(42);
            json["keyslots"]["0"]["af"] = json!(42);
        }),
        both("keyslot-invalid-area", false, |json| {
            json["keyslots"]["0"]["area"] = json!(42)
        }),
        both("keyslot-invalid-area-size", false, |json| {
            json["keyslots"]["0"]["area"]["size"] = json!(42)
        }),
        both("keyslot-invalid-af", false, |json| {
            json["keyslots"]["0"]["af"]["type"] = json!(42)
        }),
        both("a keyslot of another type", true, |json| {
            json["keyslots"]["1"]["type"] = json!("future")
        }),
        both("a keyslot's name is no number", false, |json| {
            json["keyslots"]["x"] = json["keyslots"]["1"].clone()
        }),
        both("key size above 32 bits", false, |json| {
            json["keyslots"]["0"]["key_size"] = json!(1_u64 << 32)
        }),
        both("key size below zero", false, |json| {
            json["keyslots"]["0"]["key_size"] = json!(-1)
        }),
        both("key size with a fraction", false, |json| {
            json["keyslots"]["0"]["key_size"] = json!(32.5)
        }),
        both("too few stripes", true, |json| {
            json["keyslots"]["1"]["af"]["stripes"] = json!(2)
        }),
        both("too many stripes", true, |json| {
            json["keyslots"]["1"]["af"]["stripes"] = json!(4_000_000)
        }),
        both("priorities", true, |json| {
            json["keyslots"]["0"]["priority"] = json!(2);
            json["keyslots"]["1"]["priority"] = json!(0);
        }),
        both("missing-keyslot-referenced-in-digest", false, |json| {
            json["digests"]["0"]["keyslots"] = json!(["0", "1", "9"])
        }),
        both("missing-segment-referenced-in-digest", false, |json| {
            json["digests"]["0"]["segments"] = json!(["0", "9"])
        }),
        both("missing-keyslot-referenced-in-token", false, |json| {
            json["tokens"]["0"] = json!({"type": "dummy", "keyslots": ["0", "9"]});
        }),
        both("a token of two keyslots", true, |json| {
            json["tokens"]["0"] = json!({"type": "dummy", "keyslots": ["0", "1"], "more": {"a": [1, {}]}});
        }),
        both("keyslot-missing-digest", false, |json| {
            json["digests"]["0"]["keyslots"] = json!(["1"])
        }),
        both("keyslot-too-many-digests", false, |json| {
            json["digests"]["1"] = json["digests"]["0"].clone();
            json["digests"]["1"]["segments"] = json!([]);
        }),
        both("an unbound keyslot", true, |json| {
            json["digests"]["1"] = json["digests"]["0"].clone();
            json["digests"]["1"]["segments"] = json!([]);
            json["digests"]["1"]["keyslots"] = json!(["1"]);
            json["digests"]["0"]["keyslots"] = json!(["0"]);
        }),
        first("argon2-leftover-params", true, |json| {
            let salt = json["keyslots"]["1"]["kdf"]["salt"].clone();
            json["keyslots"]["1"]["kdf"] = json!({"type": "argon2i", "time": 4, "memory": 1024, "cpus": 1, "salt": salt, "hash": "sha256", "iterations": 9});
        }),
        first("pbkdf2-leftover-params", true, |json| {
            json["keyslots"]["1"]["kdf"]["time"] = json!(4);
            json["keyslots"]["1"]["kdf"]["memory"] = json!(1024);
        }),
        without("argon2 without memory", "/keyslots/0/kdf/salt"),
        first("an unknown requirement", true, |json| {
            json["config"]["requirements"] = json!({"mandatory": ["future"]})
        }),
        set(
            "requirements that are none",
            false,
            "/config/requirements",
            json!(["future"]),
        ),
        set(
            "requirements of numbers",
            false,
            "/config/requirements",
            json!({"mandatory": [1]}),
        ),
        set(
            "flags of the configuration",
            true,
            "/config/flags",
            json!(["allow-discards", "future"]),
        ),
        set(
            "wrong flags of the configuration",
            false,
            "/config/flags",
            json!({}),
        ),
    ]
}

pub fn kinds() -> Vec<Kind> {
    let lists = [
        text_kinds(),
        object_kinds(),
        area_kinds(),
        segment_kinds(),
        size_kinds(),
    ];
    lists.into_iter().flatten().collect()
}
