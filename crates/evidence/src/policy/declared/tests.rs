use serde_json::{Value, json};

use super::*;
use crate::{policy::GoldenSet, rules::LogRules, statement::ImageKey};

/// The generator of P-256 and its double: as good public keys as any.
const G: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
const TWO_G: &str = "047cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978\
                     07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1";
const HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

fn key(point: &str) -> String {
    let der = data_encoding::HEXLOWER
        .decode(format!("{HEAD}{point}").as_bytes())
        .unwrap();
    data_encoding::BASE64.encode(&der)
}

fn hex(fill: u8) -> String {
    format!("{fill:02x}").repeat(32)
}

/// PCR 4 after the one event of 32 octets 0x44.
fn after_one_event() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &[[0; 32].as_slice(), &[0x44; 32]].concat());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// A policy with every part, in its own spelling.
fn whole() -> Value {
    json!({
        "bank": "sha256",
        "pcrs": { "0": hex(1) },
        "golden": {
            "2026-09": { "until": 1_795_000_000_u64, "pcrs": { "4": hex(2) } },
            "2026-10": { "pcrs": { "4": after_one_event() }, "events": { "4": [hex(0x44)] } },
        },
        "statement": {
            "keys": [key(G), key(TWO_G)],
            "profile": "kiosk",
            "least_release": 7,
            "pcrs": [11],
            "revoked": [hex(3)],
        },
        "log": {
            "secure_boot": true,
            "keys": { "PK": [hex(4)], "KEK": [hex(5)], "db": [hex(6), hex(7)], "dbx": [hex(8)] },
            "authorities": [hex(9)],
            "command_line": ["/vmlinuz-* root=UUID=* ro", "BOOT_IMAGE=* ** quiet"],
            "no_debug_shell": true,
            "replays": [2],
        },
    })
}

fn read(value: &Value) -> Result<DeclaredPolicy, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

fn with(pointer: &str, value: Value) -> Value {
    let mut whole = whole();
    *whole.pointer_mut(pointer).unwrap() = value;
    whole
}

#[test]
fn every_part_travels_and_comes_back_in_one_spelling() {
    let declared = read(&whole()).unwrap();
    assert_eq!(declared.selection().to_string(), "sha256:0,2,4,7,8,11,12");
    assert!(declared.policy().wants_event_log() && declared.policy().wants_image_statement());
    let parts = declared.parts();
    assert_eq!(parts.golden.len(), 2);
    assert_eq!(parts.golden[0].until.unwrap().as_secs(), 1_795_000_000);
    assert_eq!(parts.golden_events.len(), 1);
    let statement = parts.statement.as_ref().unwrap();
    assert_eq!((statement.keys.len(), statement.revoked.len()), (2, 1));
    let log = parts.log.as_ref().unwrap();
    assert_eq!((log.keys.len(), log.command_line.len()), (4, 2));

    let text = serde_json::to_string(&declared).unwrap();
    let again: DeclaredPolicy = serde_json::from_str(&text).unwrap();
    assert_eq!(again, declared);
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    assert_eq!(PcrPolicy::from(&declared), *declared.policy());
}

#[test]
fn exact_values_alone_are_the_records_of_before() {
    let text = format!(
        r#"{{"bank":"sha256","pcrs":{{"7":"{}","11":"{}"}}}}"#,
        hex(1),
        hex(2)
    );
    let declared: DeclaredPolicy = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&declared).unwrap(), text);
    let values = declared.parts().exact.clone();
    assert_eq!(
        *declared.policy(),
        PcrPolicy::exact(HashAlg::Sha256, values.clone()).unwrap()
    );
    assert_eq!(DeclaredPolicy::exact(HashAlg::Sha256, values), Ok(declared));
}

#[test]
fn the_order_of_lists_has_no_meaning() {
    let mut other = whole();
    for pointer in ["/statement/keys", "/log/command_line", "/log/keys/db"] {
        let list = other.pointer_mut(pointer).unwrap();
        list.as_array_mut().unwrap().reverse();
    }
    let (a, b) = (read(&whole()).unwrap(), read(&other).unwrap());
    assert_eq!(a, b);
    assert_eq!(serde_json::to_vec(&a).unwrap(), serde_json::to_vec(&b).unwrap());
}

#[test]
fn an_end_is_part_of_the_meaning() {
    let later = with("/golden/2026-09/until", json!(1_795_000_001_u64));
    assert_ne!(read(&whole()).unwrap(), read(&later).unwrap());
}

#[test]
fn pem_is_a_spelling_of_a_key() {
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        key(G)
    );
    let declared = read(&with("/statement/keys", json!([pem, key(TWO_G)]))).unwrap();
    assert_eq!(declared, read(&whole()).unwrap());
}

#[test]
fn a_field_that_nobody_knows_is_refused_at_every_depth() {
    for depth in [
        "",
        "/golden/2026-09",
        "/golden/2026-10",
        "/statement",
        "/log",
        "/log/keys",
    ] {
        let mut spoilt = whole();
        let object = spoilt.pointer_mut(depth).unwrap().as_object_mut().unwrap();
        object.insert("unheard_of".to_owned(), Value::Null);
        let why = read(&spoilt).unwrap_err();
        assert!(why.contains("unknown field `unheard_of`"), "{depth}: {why}");
    }
}

#[test]
fn nothing_is_spelt_in_a_second_way() {
    for (pointer, bad) in [
        ("/statement", Value::Null),
        ("/log", Value::Null),
        ("/log/keys", Value::Null),
        ("/log/keys/db", Value::Null),
        ("/log/authorities", Value::Null),
        ("/golden/2026-09/until", Value::Null),
        ("/pcrs", Value::Null),
        ("/golden", json!([])),
        ("/log/keys", json!([[hex(1)]])),
        ("/golden/2026-09", json!([null, { "4": hex(2) }])),
        ("/log/secure_boot", json!(1)),
        ("/statement/least_release", json!(1_u64 << 53)),
        ("/statement/least_release", json!("7")),
        ("/statement/keys", json!(["!"])),
        ("/statement/keys", json!(["AAAA"])),
        ("/log/command_line", json!([" "])),
        ("/statement/pcrs", json!([11, 11])),
        ("/statement/revoked", json!([hex(3), hex(3)])),
        ("/log/keys/db", json!([hex(6), hex(6)])),
        ("/log/replays", json!([24])),
        ("/bank", json!("md5")),
    ] {
        assert!(read(&with(pointer, bad.clone())).is_err(), "{pointer}: {bad}");
    }
    assert!(read(&json!(["sha256", { "7": hex(1) }])).is_err());
    let name = whole().to_string().replace("2026-09", "September");
    assert!(serde_json::from_str::<DeclaredPolicy>(&name).is_err());
    for (once, twice) in [
        (
            r#""pcrs":{"0":"#,
            r#""pcrs":{"0":"00","0":"#.replace("00", &hex(1)),
        ),
        (
            r#""profile":"kiosk""#,
            r#""profile":"kiosk","profile":"kiosk""#.to_owned(),
        ),
        (
            r#""golden":{"#,
            format!(r#""golden":{{"2026-10":{{"pcrs":{{"4":"{}"}}}},"#, hex(2)),
        ),
        (
            r#""bank":"sha256""#,
            r#""bank":"sha256","bank":"sha256""#.to_owned(),
        ),
    ] {
        let text = whole().to_string();
        assert!(text.contains(once), "{once}");
        let spoilt = text.replacen(once, &twice, 1);
        assert!(
            serde_json::from_str::<DeclaredPolicy>(&spoilt).is_err(),
            "{twice}"
        );
    }
}

#[test]
fn what_is_no_policy_is_not_declared() {
    let refused = |value: &Value| read(value).unwrap_err();
    assert!(refused(&json!({ "bank": "sha256" })).contains("at least one PCR"));
    assert!(refused(&json!({ "bank": "sha256", "pcrs": {} })).contains("at least one PCR"));
    assert!(refused(&json!({ "bank": "sha256", "log": {} })).contains("are none"));
    assert!(refused(&json!({ "bank": "sha256", "pcrs": { "23": hex(1) } })).contains("reset"));
    assert!(refused(&json!({ "bank": "sha384", "pcrs": { "7": hex(1) } })).contains("bank"));
    assert!(refused(&with("/golden/2026-10/pcrs", json!({ "5": hex(1) }))).contains("is over"));
    assert!(refused(&with("/golden/2026-10/events/4", json!([hex(1)]))).contains("do not replay"));
    assert!(refused(&with("/statement/keys", json!([]))).contains("at least one image key"));
}

fn error(parts: Mix) -> DeclaredError {
    DeclaredPolicy::new(HashAlg::Sha256, parts, false).unwrap_err()
}

#[test]
fn every_bound_is_kept() {
    let declared = read(&whole()).unwrap();
    let parts = || declared.parts().clone();

    let mut many = parts();
    let set = many.golden[1].clone();
    many.golden = (0..=MAX_GOLDEN_SETS)
        .map(|nth| GoldenSet {
            name: format!("s{nth}").parse().unwrap(),
            ..set.clone()
        })
        .collect();
    many.golden_events.clear();
    let (found, most) = (MAX_GOLDEN_SETS + 1, MAX_GOLDEN_SETS);
    let what = "golden sets";
    assert_eq!(error(many.clone()), DeclaredError::TooMany { what, found, most });
    many.golden.pop();
    assert!(DeclaredPolicy::new(HashAlg::Sha256, many, false).is_ok());

    let mut many = parts();
    let statement = many.statement.as_mut().unwrap();
    statement.keys = vec![statement.keys[0].clone(); MAX_IMAGE_KEYS + 1];
    assert!(matches!(
        error(many.clone()),
        DeclaredError::TooMany {
            what: "image keys",
            ..
        }
    ));
    many.statement.as_mut().unwrap().keys.truncate(2);
    assert_eq!(error(many), DeclaredError::Twice("image keys"));

    let mut many = parts();
    let pattern = |nth: usize| format!("p{nth}").parse().unwrap();
    many.log.as_mut().unwrap().command_line = (0..=MAX_PATTERNS).map(pattern).collect();
    assert!(matches!(
        error(many.clone()),
        DeclaredError::TooMany {
            most: MAX_PATTERNS,
            ..
        }
    ));
    many.log.as_mut().unwrap().command_line = vec![pattern(1), pattern(1)];
    assert_eq!(error(many), DeclaredError::Twice("patterns for command lines"));

    let mut empty = parts();
    let log = empty.log.as_mut().unwrap();
    log.keys.insert(crate::rules::KeyVariable::Dbx, BTreeSet::new());
    assert_eq!(error(empty), DeclaredError::EmptyList("dbx"));
    let mut empty = parts();
    empty.log.as_mut().unwrap().authorities = Some(BTreeSet::new());
    assert_eq!(error(empty), DeclaredError::EmptyList("authorities"));

    let mut long = parts();
    let revoked = &mut long.statement.as_mut().unwrap().revoked;
    revoked.extend((0..1000_u32).map(|nth| domain::Sha256Digest::of(&nth.to_be_bytes())));
    assert!(matches!(error(long), DeclaredError::TooLong { len } if len > MAX_DECLARED_LEN));
}

#[test]
fn sha1_is_named_where_it_is_meant_and_nowhere_else() {
    let seven = PcrIndex::try_from(7).unwrap();
    let values = |bank: HashAlg| {
        let value = PcrValue::new(bank, &vec![1; bank.digest_len()]).unwrap();
        Mix {
            exact: BTreeMap::from([(seven, value)]),
            ..Mix::default()
        }
    };
    let meant = DeclaredPolicy::new(HashAlg::Sha1, values(HashAlg::Sha1), true).unwrap();
    let text = serde_json::to_string(&meant).unwrap();
    assert!(text.ends_with(r#""allow_sha1":true}"#), "{text}");
    assert_eq!(serde_json::from_str::<DeclaredPolicy>(&text).unwrap(), meant);
    assert!(meant.allows_sha1());
    let other = DeclaredPolicy::new(HashAlg::Sha256, values(HashAlg::Sha256), true);
    assert_eq!(other, Err(DeclaredError::NoSha1(HashAlg::Sha256)));
}

#[test]
fn a_rule_alone_or_a_statement_alone_is_a_policy() {
    let rules = LogRules {
        secure_boot: true,
        ..LogRules::default()
    };
    let alone = Mix {
        log: Some(rules),
        ..Mix::default()
    };
    let alone = DeclaredPolicy::new(HashAlg::Sha256, alone, false).unwrap();
    assert_eq!(
        serde_json::to_string(&alone).unwrap(),
        r#"{"bank":"sha256","log":{"secure_boot":true}}"#
    );
    let statement = Mix {
        statement: read(&whole()).unwrap().parts().statement.clone(),
        ..Mix::default()
    };
    let statement = DeclaredPolicy::new(HashAlg::Sha384, statement, false).unwrap();
    assert_eq!(statement.selection().to_string(), "sha384:11");
    let key: &ImageKey = &statement.parts().statement.as_ref().unwrap().keys[0];
    assert_eq!(*key.digest(), domain::Sha256Digest::of(&key.spki_der()));
}
