//! Volumes that somebody has touched: every refusal is reached, and nothing panics.
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

use std::{io, sync::LazyLock, time::Instant};

use common::{PSK, SIZE, edit, reseal, secret, volume_bytes};
use proptest::prelude::*;
use serde_json::{Value, json};
use volume::{
    CopyFault, HeaderCopy, HeaderFault, InspectError, KeyslotId, NotAuthentic, OpenError, Place, ReadError,
    Source, TokenError, Unsupported, inspect, open, open_unauthenticated,
};

/// Bytes at the start of a volume that a test changes: headers and the first keyslots.
const HEAD: usize = 1 << 20;

static VOLUME: LazyLock<Vec<u8>> = LazyLock::new(volume_bytes);

/// The volume with another start, without a copy of the rest.
struct Touched {
    head: Vec<u8>,
    len: u64,
}

impl Touched {
    fn new() -> Self {
        Self {
            head: VOLUME[..HEAD].to_vec(),
            len: SIZE,
        }
    }

    fn edited(change: impl FnOnce(&mut Value)) -> Self {
        let mut volume = Self::new();
        edit(&mut volume.head, change);
        volume
    }
}

impl Source for Touched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let end = start + buffer.len();
        if u64::try_from(end).unwrap() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = if end <= HEAD { &self.head } else { &*VOLUME };
        buffer.copy_from_slice(&from[start..end]);
        Ok(())
    }
}

fn refused(change: impl FnOnce(&mut Value)) -> Unsupported {
    match inspect(&Touched::edited(change)) {
        Err(InspectError::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    }
}

const SLOT: Place = Place::Keyslot(KeyslotId::SEALED);

#[test]
fn an_untouched_volume_opens() {
    let volume = open(Touched::edited(|_| {}), &secret()).unwrap();
    assert_eq!(volume.header().copy(), HeaderCopy::Both);
    assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
}

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

/// Changes of the plain header that leave a valid one, and the same key.
fn touched_but_valid() -> Vec<Touched> {
    let mut list = vec![
        Touched::edited(|json| json["segments"]["0"]["sector_size"] = json!(512)),
        Touched::edited(|json| json["segments"]["0"]["size"] = json!("16773120")),
        Touched::edited(|json| json["segments"]["0"]["size"] = json!("dynamic")),
        Touched::edited(|json| {
            json["segments"]["0"]["offset"] = json!("16781312");
            json["segments"]["0"]["size"] = json!("16773120");
        }),
        Touched::edited(|json| json["tokens"]["1"]["mac"] = json!("AAAA")),
        Touched::edited(|json| json["tokens"]["1"]["mac"] = json!("?")),
    ];
    // The last one is longer than it was when it was made.
    list.get_mut(2).unwrap().len = SIZE - 4096;
    let mut uuid = Touched::new();
    for start in [0, 0x4000] {
        uuid.head[start + 168] = b'9';
    }
    reseal(&mut uuid.head);
    list.push(uuid);
    list
}

#[test]
fn a_header_that_its_secret_does_not_authenticate_is_not_believed() {
    for touched in touched_but_valid() {
        let refused = open(touched, &secret());
        assert!(matches!(
            refused,
            Err(OpenError::NotAuthentic(NotAuthentic::Changed))
        ));
    }
    for touched in touched_but_valid() {
        assert!(
            open_unauthenticated(touched, &secret()).is_ok(),
            "the change is seen by the MAC alone"
        );
    }
    let none = Touched::edited(|json| drop(json["tokens"].as_object_mut().unwrap().remove("1")));
    assert!(matches!(
        open(none, &secret()),
        Err(OpenError::NotAuthentic(NotAuthentic::Missing))
    ));
    let of_another_slot = Touched::edited(|json| json["tokens"]["1"]["keyslots"] = json!(["1"]));
    assert!(matches!(
        open(of_another_slot, &secret()),
        Err(OpenError::NotAuthentic(NotAuthentic::Missing))
    ));
}

#[test]
fn what_says_nothing_about_the_data_may_change() {
    let mut label = Touched::edited(|json| {
        json["tokens"]["9"] = json!({"type": "somebody's", "keyslots": []});
        json["config"]["flags"] = json!(["allow-discards"]);
    });
    for start in [0, 0x4000] {
        label.head[start + 24] = b'K';
        label.head[start + 23] = 7;
    }
    reseal(&mut label.head);
    let volume = open(label, &secret()).unwrap();
    assert_eq!(
        (volume.header().label(), volume.header().seqid()),
        ("Kiosk-bern-01", 7)
    );
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
    let unknown = Touched::edited(|json| json["segments"]["0"]["new"] = json!(1));
    assert!(matches!(inspect(&unknown), Err(InspectError::Metadata(_))));
}

#[test]
fn a_broken_header_gives_way_to_the_other_with_a_note() {
    let whole = |copy, why: &str| {
        let header_copy = match copy {
            0 => HeaderCopy::Secondary(CopyFault::Broken(HeaderFault::Checksum)),
            _ => HeaderCopy::Primary(CopyFault::Broken(HeaderFault::Checksum)),
        };
        assert!(header_copy.to_string().contains(why));
        header_copy
    };
    for (copy, at) in [(0, 5000), (0, 460), (1, 0x4000 + 5000)] {
        let mut volume = Touched::new();
        volume.head[at] ^= 1;
        let volume = open(volume, &secret()).unwrap();
        assert_eq!(volume.header().copy(), whole(copy, "its checksum does not match"));
        assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
    }
    let mut wiped = Touched::new();
    wiped.head[..0x4000].fill(0);
    let header = inspect(&wiped).unwrap();
    assert_eq!(
        header.copy(),
        HeaderCopy::Secondary(CopyFault::Broken(HeaderFault::Magic))
    );
    let mut both = Touched::new();
    both.head[5000] ^= 1;
    both.head[0x4000 + 5000] ^= 1;
    let none = inspect(&both).unwrap_err();
    assert!(
        matches!(
            none,
            InspectError::NoHeader {
                primary: HeaderFault::Checksum,
                secondary: HeaderFault::Checksum
            }
        ),
        "{none}"
    );
}

#[test]
fn the_newer_header_is_used() {
    for (newer, expected) in [
        (0, HeaderCopy::Primary(CopyFault::Older)),
        (0x4000, HeaderCopy::Secondary(CopyFault::Older)),
    ] {
        let mut volume = Touched::new();
        volume.head[newer + 23] = 9;
        reseal(&mut volume.head);
        let header = inspect(&volume).unwrap();
        assert_eq!((header.copy(), header.seqid()), (expected, 9));
    }
}

#[test]
fn no_volume_and_a_truncated_one_are_told() {
    let empty = inspect(&Vec::new());
    assert!(
        matches!(
            empty,
            Err(InspectError::NoHeader {
                primary: HeaderFault::Truncated,
                ..
            })
        ),
        "{empty:?}"
    );
    for len in [100, 4096, 0x3fff, 0x5000, 0x7fff] {
        let cut = Touched {
            len,
            ..Touched::new()
        };
        assert!(inspect(&cut).is_err(), "{len}");
    }
    for len in [0x8000, 1 << 20, SIZE - 1] {
        let cut = Touched {
            len,
            ..Touched::new()
        };
        let why = inspect(&cut);
        assert!(
            matches!(why, Err(InspectError::Unsupported(Unsupported::Truncated { needed: SIZE, found })) if found == len),
            "{why:?}"
        );
    }
    struct Gone;
    impl Source for Gone {
        fn len(&self) -> io::Result<u64> {
            Err(io::ErrorKind::NotConnected.into())
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::NotConnected.into())
        }
    }
    assert!(matches!(inspect(&Gone), Err(InspectError::Io(_))));
}

/// Fails to read from a place on.
struct BadBlock(Touched, u64);

impl Source for BadBlock {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset >= self.1 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.read_at(buffer, offset)
    }
}

#[test]
fn a_bad_block_is_told_where_it_hurts() {
    let header = inspect(&BadBlock(Touched::new(), 0));
    assert!(
        matches!(
            header,
            Err(InspectError::NoHeader {
                primary: HeaderFault::Unreadable(io::ErrorKind::TimedOut),
                ..
            })
        ),
        "{header:?}"
    );
    let keyslot = open(BadBlock(Touched::new(), 0x8000), &secret());
    assert!(matches!(
        keyslot,
        Err(OpenError::Keyslot {
            id: KeyslotId::SEALED,
            ..
        })
    ));
    let data = open(BadBlock(Touched::new(), 16 << 20), &secret()).unwrap();
    assert!(matches!(data.read("/psk"), Err(ReadError::Filesystem(_))));
}

#[test]
fn a_wrong_secret_and_a_touched_keyslot_open_nothing() {
    let other = domain::SealedSecret::copy_from(&[1; 32]).unwrap();
    assert!(matches!(
        open(Touched::new(), &other),
        Err(OpenError::WrongSecret)
    ));
    for at in [0x8000, 0x8000 + 100_000, 0x8000 + 255_999] {
        let mut volume = Touched::new();
        volume.head[at] ^= 1;
        assert!(
            matches!(open(volume, &secret()), Err(OpenError::WrongSecret)),
            "{at}"
        );
    }
}

#[test]
fn tokens_that_cannot_be_used_are_listed_and_foreign_ones_ignored() {
    let volume = Touched::edited(|json| {
        json["tokens"]["0"]["tpm2-pin"] = json!(true);
        json["tokens"]["1"] = json!({"type": "systemd-recovery", "keyslots": ["0"]});
        json["tokens"]["2"] = json!({"type": "systemd-tpm2"});
    });
    let header = inspect(&volume).unwrap();
    assert!(header.tpm2_tokens().is_empty());
    assert!(matches!(
        header.unusable_tokens(),
        [TokenError::Unsupported("a PIN"), TokenError::Malformed(_)]
    ));
}

#[test]
fn files_that_are_not_there_are_told() {
    let volume = open(Touched::new(), &secret()).unwrap();
    for path in ["/none", "psk", "", "/psk/x", "/etc", "/\0"] {
        assert!(
            matches!(volume.read(path), Err(ReadError::Filesystem(_))),
            "{path:?}"
        );
    }
    assert!(matches!(volume.list("/psk"), Err(ReadError::Filesystem(_))));
    let mut past = [0; 2];
    assert!(
        volume
            .read_data(volume.header().data_len() - 1, &mut past)
            .is_err()
    );
    assert!(volume.read_data(u64::MAX, &mut past).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A flipped bit anywhere in one header copy: the other one opens the volume.
    #[test]
    fn one_flip_in_one_copy_never_loses_a_volume(at in 0_usize..0x8000, bit in 0_u8..8) {
        let mut volume = Touched::new();
        volume.head[at] ^= 1 << bit;
        let header = inspect(&volume).unwrap();
        prop_assert_ne!(header.copy(), HeaderCopy::Both);
        prop_assert_eq!(header.tpm2_tokens().len(), 1);
    }

    /// Bytes changed under right checksums: whatever still opens has our ciphers and our data.
    #[test]
    fn changed_headers_open_the_same_data_or_nothing(changes in prop::collection::vec((0_usize..0x4000, any::<u8>()), 1..4)) {
        let mut volume = Touched::new();
        for (at, byte) in changes {
            // Into the binary header and the JSON text, not into the zeros behind it.
            let at = if at >= 0x1000 { 0x1000 + (at - 0x1000) % 1500 } else { at % 512 };
            volume.head[at] = byte;
            volume.head[at + 0x4000] = byte;
        }
        volume.head[0x4000..0x4006].copy_from_slice(b"SKUL\xba\xbe");
        volume.head[0x4000 + 256..0x4000 + 264].copy_from_slice(&0x4000_u64.to_be_bytes());
        reseal(&mut volume.head);
        if let Ok(opened) = open(volume, &secret())
            && let Ok(psk) = opened.read("/psk")
        {
            prop_assert_eq!(psk.as_slice(), PSK);
        }
    }

    /// Anything at all instead of a volume.
    #[test]
    fn noise_is_refused(mut noise in prop::collection::vec(any::<u8>(), 0..0x9000), magic in any::<bool>()) {
        if magic && noise.len() > 16 {
            noise[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
            noise[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
        }
        prop_assert!(inspect(&noise).is_err());
    }

    /// Sealed sectors of the file system changed: never a panic, and no other names, for metadata has checksums.
    #[test]
    fn a_touched_file_system_is_known(flips in prop::collection::vec((0_usize..40, 0_usize..4096), 1..4)) {
        let flips = flips.into_iter().map(|(sector, byte)| (16 << 20) + sector * 4096 + byte).collect();
        let opened = open(Flipped(flips), &secret()).unwrap();
        let _ = opened.read("/psk");
        if let Ok(list) = opened.list("/") {
            let names: Vec<_> = list.iter().map(|entry| entry.name.as_str()).collect();
            prop_assert_eq!(names, ["device.toml", "etc", "lost+found", "psk"]);
        }
    }
}

/// The volume with a bit flipped at some places.
struct Flipped(Vec<usize>);

impl Source for Flipped {
    fn len(&self) -> io::Result<u64> {
        Ok(SIZE)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&VOLUME[start..start + buffer.len()]);
        for at in &self.0 {
            if let Some(byte) = at.checked_sub(start).and_then(|within| buffer.get_mut(within)) {
                *byte ^= 0x10;
            }
        }
        Ok(())
    }
}
