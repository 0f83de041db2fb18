//! Thousands of values in the wrong places, under right checksums: what stock cryptsetup refuses, ours refuses; what it takes and ours does
//! not has a reason on a list; and of two copies both use the same one.
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

use std::collections::BTreeMap;

use common::headers::{Bench, Headers, Which};
use serde_json::{Value, json};
use volume::{HeaderFault, InspectError, MetadataFault, OpenError, Section, describe, open_with_passphrase};

/// How many headers are made; each costs three runs of cryptsetup.
const HEADERS: u64 = 400;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len())].clone()
    }
}

/// The pointers of all values.
fn places(json: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match json {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(nth, value)| places(value, &format!("{at}/{nth}"), found));
        }
        _ => {}
    }
}

fn value(dice: &mut Dice, old: &Value) -> Value {
    let odd = [
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(512),
        json!(4096),
        json!(1 << 20),
        json!(u64::MAX),
        json!(1.5),
        json!("0"),
        json!("1"),
        json!("512"),
        json!("4096"),
        json!("12288"),
        json!("16384"),
        json!("32768"),
        json!("1048576"),
        json!("16777216"),
        json!("18446744073709551615"),
        json!("18446744073709551616"),
        json!("-1"),
        json!("4097"),
        json!("dynamic"),
        json!("raw"),
        json!("luks2"),
        json!("crypt"),
        json!("linear"),
        json!("reencrypt"),
        json!("argon2id"),
        json!("sha256"),
        json!("sha1"),
        json!("aes-cbc-essiv:sha256"),
        json!("cipher_null-ecb"),
        json!("x"),
        json!([]),
        json!(["0"]),
        json!(["0", "1"]),
        json!(["9"]),
        json!([0]),
        json!({}),
        json!(null),
        json!(true),
    ];
    match old {
        // Next to what there was.
        Value::String(text) if dice.roll(2) == 0 => match text.parse::<u64>() {
            Ok(number) => {
                let by = dice.of(&[512_i64, -512, 4096, -4096, 1, -1, 258_048]);
                json!(number.saturating_add_signed(by).to_string())
            }
            Err(_) => dice.of(&odd),
        },
        _ => dice.of(&odd),
    }
}

fn mutate(dice: &mut Dice, json: &mut Value) -> String {
    let mut all = Vec::new();
    places(json, "", &mut all);
    let place = dice.of(&all);
    let (parent, name) = place.rsplit_once('/').unwrap();
    match (dice.roll(5), json.pointer_mut(parent).unwrap()) {
        (0, Value::Object(map)) => {
            map.remove(name);
            format!("{place} taken out")
        }
        (1, Value::Object(map)) => {
            let other = dice.of(&[
                "1",
                "2",
                "3",
                "31",
                "32",
                "00",
                "x",
                "new",
                "flags",
                "requirements",
            ]);
            let copy = map[name].clone();
            map.insert(other.to_owned(), copy);
            format!("{place} copied to {other}")
        }
        (_, parent) => {
            let old = parent.pointer_mut(&format!("/{name}")).unwrap();
            *old = value(dice, old);
            format!("{place} = {old}")
        }
    }
}

/// Why ours may refuse to read what cryptsetup reads: each of these is written by nobody.
fn stricter(why: &InspectError) -> Option<&'static str> {
    let InspectError::NoHeader { primary, secondary } = why else {
        return None;
    };
    let rule = |fault: &HeaderFault| match fault {
        HeaderFault::Metadata(MetadataFault::Rule { section, what }) => Some((*section, *what)),
        _ => None,
    };
    match rule(primary).or_else(|| rule(secondary))? {
        (Section::Segment(_), "has no encryption") => Some("an empty cipher, as later versions refuse"),
        (Section::Config, "has no size of the JSON area") => Some("a number with a sign"),
        _ => None,
    }
}

#[test]
fn what_cryptsetup_refuses_ours_refuses_and_what_both_take_is_the_same() {
    let options = [
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--luks2-keyslots-size",
        "1048576",
        "--offset",
        "4096",
    ];
    let mut bench = Bench::formatted(4 << 20, &options);
    let path = bench.path().to_str().unwrap().to_owned();
    let key = bench.path().with_extension("key");
    std::fs::write(&key, b"another passphrase").unwrap();
    let add = [
        "luksAddKey",
        "--batch-mode",
        "--pbkdf",
        "argon2id",
        "--pbkdf-force-iterations",
        "4",
        "--pbkdf-memory",
        "64",
        "--pbkdf-parallel",
        "1",
        "--key-file",
        "-",
        &path,
        key.to_str().unwrap(),
    ];
    common::run_ok("cryptsetup", &add, bench.passphrase);
    let token = json!({"type": "dummy", "keyslots": ["0", "1"]}).to_string();
    common::run_ok("cryptsetup", &["token", "import", &path], token.as_bytes());
    bench.original = std::fs::read(&path).unwrap();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..HEADERS {
        let mut dice = Dice(seed);
        let mut headers = Headers::of(&bench.original);
        let which = dice.of(&[Which::Both, Which::Both, Which::Both, Which::First, Which::Second]);
        let mut what = Vec::new();
        headers.edit(which, |json| {
            for _ in 0..=dice.roll(2) {
                what.push(mutate(&mut dice, json));
            }
        });
        match dice.roll(8) {
            0 => headers.put(Which::Second, 16, &9_u64.to_be_bytes()),
            1 => headers.put(Which::First, 16, &9_u64.to_be_bytes()),
            2 => headers.kill(dice.of(&[Which::First, Which::Second])),
            3 => {
                let (at, byte) = (dice.roll(512), u8::try_from(dice.roll(256)).unwrap());
                headers.put(which, at, &[byte]);
                what.push(format!("byte {at} = {byte}"));
            }
            _ => {}
        }
        match compare(&bench, &headers) {
            Ok(kind) => *seen.entry(kind).or_default() += 1,
            Err(why) => wrong.push(format!("{seed} ({which:?}): {}: {why}", what.join("; "))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Each outcome is there often enough to say something.
    for kind in [
        "both refuse to read",
        "both open",
        "both read, neither opens",
        "unsupported",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count >= 10), "{seen:?}");
    }
}

fn compare(bench: &Bench, headers: &Headers) -> Result<&'static str, String> {
    let volume = bench.lay(headers);
    let stock = bench.ask(&volume, true);
    let described = match (stock.dumped, describe(&volume)) {
        (None, Err(_)) => return Ok("both refuse to read"),
        (None, Ok(_)) => return Err("cryptsetup refuses to read it, ours does not".to_owned()),
        (Some(_), Err(why)) => return stricter(&why).ok_or(format!("ours alone refuses to read it: {why}")),
        (Some(theirs), Ok(described)) if theirs != described.metadata => {
            // The other copy is doubtful: read, and not believed.
            let doubt = described.copy.doubt().map(|_| "doubtful");
            return doubt.ok_or("another copy is used".to_owned());
        }
        (Some(_), Ok(described)) => described,
    };
    match (stock.opened, open_with_passphrase(volume, bench.passphrase)) {
        (Some(true), Ok(_)) => Ok("both open"),
        (Some(false), Err(_)) => Ok("both read, neither opens"),
        (Some(true), Err(OpenError::Header(InspectError::Unsupported(_)))) => Ok("unsupported"),
        // It cannot be known how cryptsetup would end.
        (None, Err(_)) => Ok("too long"),
        (stock, ours) => Err(format!(
            "opens in cryptsetup: {stock:?}; in ours: {:?}; refused: {:?}",
            ours.err(),
            described.refused
        )),
    }
}
