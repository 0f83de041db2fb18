//! The kinds of good and evil headers that cryptsetup keeps images of (its tests/generators), made here anew: stock cryptsetup and ours
//! agree on each, and on which copy is used. Names are those of its images.
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

#[path = "../common/mod.rs"]
mod common;
mod kinds;
mod places;

use common::headers::{Bench, Headers, Which};
use kinds::{Kind, kinds};
use serde_json::json;
use volume::{
    HeaderCopy, HeaderFault, InspectError, OpenError, Unsupported, describe, inspect, open_with_passphrase,
};

/// As the images are made: 16 MiB, AES-128-XTS, several keyslots, 4 MiB of room for them.
const LIKE_THEIRS: [&str; 14] = [
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
    "--cipher",
    "aes-xts-plain64",
    "--key-size",
    "256",
    "--sector-size",
    "512",
    "--luks2-keyslots-size",
    "4063232",
    "--offset",
    "8192",
];
/// The same with the key that we open.
const LIKE_OURS: [&str; 14] = [
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
    "--cipher",
    "aes-xts-plain64",
    "--key-size",
    "512",
    "--sector-size",
    "512",
    "--luks2-keyslots-size",
    "4063232",
    "--offset",
    "8192",
];

fn second_keyslot(bench: &mut Bench) {
    let path = bench.path().to_str().unwrap().to_owned();
    let key = bench.path().with_extension("key");
    std::fs::write(&key, b"another passphrase").unwrap();
    let args = [
        "luksAddKey",
        "--batch-mode",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "-",
    ];
    let args = [&args[..], &[&path, key.to_str().unwrap()]].concat();
    common::run_ok("cryptsetup", &args, bench.passphrase);
    bench.original = std::fs::read(bench.path()).unwrap();
}

/// Each kind on a volume that stock cryptsetup made, with the key that its own images have.
#[test]
fn good_and_evil_headers_are_told_apart_as_cryptsetup_tells_them() {
    judge_all(&LIKE_THEIRS, false);
}

/// And with a key as ours, which opens or does not.
#[test]
fn good_headers_open_where_cryptsetup_opens_them() {
    judge_all(&LIKE_OURS, true);
}

fn judge_all(options: &[&str], ours_opens: bool) {
    let mut bench = Bench::formatted(16 << 20, options);
    second_keyslot(&mut bench);
    let mut wrong = Vec::new();
    for kind in kinds() {
        if let Err(why) = judge(&bench, &kind, ours_opens) {
            wrong.push(format!("{}: {why}", kind.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A first copy of a size that the format does not know, and a whole second one at a place where it could be: cryptsetup looks for
/// it behind the first copy and nowhere else.
#[test]
fn a_size_that_leads_astray_is_followed() {
    let bench = Bench::formatted(4 << 20, &LIKE_OURS[..8]);
    let mut volume = bench.original.clone();
    volume[8..16].copy_from_slice(&0x5000_u64.to_be_bytes());
    volume[448..512].fill(0);
    let sum = domain::Sha256Digest::of(&volume[..0x5000]);
    volume[448..480].copy_from_slice(sum.as_bytes());
    assert_eq!(bench.ask(&volume, false).dumped, None);
    let why = inspect(&volume).unwrap_err();
    assert!(
        matches!(
            why,
            InspectError::NoHeader {
                primary: HeaderFault::Metadata(_),
                secondary: HeaderFault::Magic
            }
        ),
        "{why}"
    );
    // With a checksum that does not fit it is damage, and the second copy found.
    volume[448] ^= 1;
    assert!(bench.ask(&volume, false).dumped.is_some());
    assert!(matches!(
        describe(&volume).unwrap().copy,
        HeaderCopy::Secondary(_)
    ));
}

fn judge(bench: &Bench, kind: &Kind, ours_opens: bool) -> Result<(), String> {
    let mut headers = Headers::of(&bench.original);
    (kind.make)(&mut headers);
    let volume = bench.lay(&headers);
    let stock = bench.ask(&volume, ours_opens);
    if stock.dumped.is_some() != kind.good {
        return Err(format!("cryptsetup itself says {}", stock.dumped.is_some()));
    }
    let (described, inspected) = (describe(&volume), inspect(&volume));
    let Ok(described) = described else {
        let why = inspected.unwrap_err();
        assert!(
            !matches!(why, InspectError::Unsupported(_) | InspectError::Io(_)) && why.to_string().len() > 20
        );
        return if kind.good {
            Err(format!("refused: {why}"))
        } else {
            Ok(())
        };
    };
    if !kind.good {
        return Err("taken".to_owned());
    }
    if Some(&described.metadata) != stock.dumped.as_ref() {
        return Err("another copy is used".to_owned());
    }
    assert_eq!(described.refused, inspected.err().map(unsupported));
    if !ours_opens {
        // A cipher that we do not write.
        return described.refused.map(|_| ()).ok_or("opened".to_owned());
    }
    match (stock.opened, open_with_passphrase(volume, bench.passphrase)) {
        (Some(true), Ok(_) | Err(OpenError::Header(InspectError::Unsupported(_))))
        | (Some(false), Err(_)) => Ok(()),
        (stock, ours) => Err(format!(
            "opens in cryptsetup: {stock:?}; in ours: {:?}",
            ours.err()
        )),
    }
}

fn unsupported(error: InspectError) -> Unsupported {
    match error {
        InspectError::Unsupported(why) => why,
        other => panic!("{other}"),
    }
}

#[test]
fn their_images_are_described_and_refused_by_name() {
    let bench = Bench::formatted(16 << 20, &LIKE_THEIRS);
    let described = describe(&bench.original).unwrap();
    let why = described.refused.unwrap().to_string();
    assert!(why.contains("a key of 32 bytes"), "{why}");
    let segment = &described.segments[0];
    assert_eq!(
        (
            segment.kind.as_str(),
            segment.cipher.as_deref(),
            segment.offset,
            segment.sector
        ),
        ("crypt", Some("aes-xts-plain64"), 4 << 20, Some(512))
    );
    let keyslot = &described.keyslots[0];
    assert_eq!(
        (keyslot.number, keyslot.key_bits, keyslot.kdf.as_deref()),
        (0, 256, Some("pbkdf2"))
    );
}

/// Each makes one reader use the first copy and another one the second, though both checksums are right.
#[test]
fn a_header_with_two_faces_is_not_believed() {
    use volume::{NotAuthentic, SectorSize};
    let volume = common::volume_bytes();
    let evil = |headers: &mut Headers| {
        headers.edit(Which::First, |json| {
            json["segments"]["0"]["encryption"] = json!("cipher_null-ecb");
        });
    };
    let mut faces: Vec<Headers> = Vec::new();
    let mut add = |change: &dyn Fn(&mut Headers)| {
        let mut headers = Headers::of(&volume);
        evil(&mut headers);
        change(&mut headers);
        faces.push(headers);
    };
    // Another checksum, which cryptsetup knows too.
    add(&|headers| headers.put(Which::First, 72, b"sha1\0\0"));
    // Laxity of its parser.
    add(&|headers| {
        let text = serde_json::to_string(&headers.json()).unwrap();
        headers.text(Which::First, text.replacen('{', "{/* a comment */", 1).as_bytes());
    });
    // A name that is there twice.
    add(&|headers| {
        let text = serde_json::to_string(&headers.json()).unwrap();
        headers.text(Which::First, text.replacen('{', "{\"config\":{},", 1).as_bytes());
    });
    for headers in faces {
        let mut two_faced = volume.clone();
        two_faced[..0x8000].copy_from_slice(&headers.bytes());
        let header = inspect(&two_faced).unwrap();
        assert!(
            matches!(header.copy(), HeaderCopy::Secondary(_)),
            "{}",
            header.copy()
        );
        assert_eq!(header.sector_size(), SectorSize::B4096);
        let refused = volume::open(two_faced, &common::secret());
        assert!(matches!(
            refused,
            Err(OpenError::NotAuthentic(NotAuthentic::TwoFaced(_)))
        ));
    }
    // Texts that are none, and the field behind the checksum: both readers use the first copy.
    for (at, byte) in [(24, 0xff), (490, 7)] {
        let mut headers = Headers::of(&volume);
        evil(&mut headers);
        headers.put(Which::First, at, &[byte]);
        let mut touched = volume.clone();
        touched[..0x8000].copy_from_slice(&headers.bytes());
        touched[at] = byte;
        if at < 448 {
            assert!(matches!(
                inspect(&touched),
                Err(InspectError::Unsupported(Unsupported::Cipher { .. }))
            ));
        }
        assert!(volume::open(touched, &common::secret()).is_err());
    }
}
