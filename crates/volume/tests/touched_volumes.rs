//! Volumes that are broken, cut off or touched: which header is used, what is believed, what is told.
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

use std::io;

use common::{PSK, SIZE, reseal, secret, touched::Touched};
use serde_json::json;
use volume::{
    CopyFault, HeaderCopy, HeaderFault, InspectError, KeyslotId, NotAuthentic, OpenError, ReadError, Source,
    TokenError, Unsupported, inspect, open, open_unauthenticated,
};

#[test]
fn an_untouched_volume_opens() {
    let volume = open(Touched::edited(|_| {}), &secret()).unwrap();
    assert_eq!(volume.header().copy(), HeaderCopy::Both);
    assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
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
    let of_another_slot = Touched::edited(|json| json["tokens"]["1"]["keyslot"] = json!("1"));
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
    for len in [0x8000, 1 << 20, (16 << 20) - 1, 16 << 20, SIZE - 1] {
        let cut = Touched {
            len,
            ..Touched::new()
        };
        let why = inspect(&cut);
        match why {
            Err(InspectError::TooShort { needed, found }) => {
                assert_eq!((needed, found), (16 << 20, len));
                assert!(len < 16 << 20);
            }
            Err(InspectError::Unsupported(Unsupported::Truncated { needed: SIZE, found })) => {
                assert!(found == len && len >= 16 << 20);
            }
            other => panic!("{other:?}"),
        }
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
        json["tokens"]["2"] = json!({"type": "systemd-tpm2", "keyslots": []});
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
