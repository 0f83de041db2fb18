//! Volumes of `cryptsetup luksFormat --integrity`: refused by name, whatever kind. That command needs a kernel with device-mapper,
//! so the metadata are as it writes them (cryptsetup 2.6, `LUKS2_generate_hdr`), around a header that it made without.
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

use common::{
    headers::{Bench, Headers, Which},
    run_ok,
};
use serde_json::{Value, json};
use volume::{DataCipher, InspectError, Place, SectorSize, Unsupported, describe, inspect};

const OPTIONS: [&str; 8] = [
    "--cipher",
    "aes-xts-plain64",
    "--key-size",
    "512",
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
];

/// Cipher, integrity and bytes of the key, as the command takes and writes them.
const KINDS: [(&str, &str, u64); 5] = [
    ("aes-xts-plain64", "hmac(sha256)", 96),
    ("aes-xts-random", "hmac(sha256)", 96),
    ("aes-xts-plain64", "cmac(aes)", 96),
    ("chacha20-random", "poly1305", 32),
    ("aes-gcm-random", "aead", 32),
];

fn authenticate(json: &mut Value, cipher: &str, integrity: &str, key: u64) {
    let segment = &mut json["segments"]["0"];
    segment["encryption"] = json!(cipher);
    segment["integrity"] =
        json!({"type": integrity, "journal_encryption": "none", "journal_integrity": "none"});
    let keyslot = &mut json["keyslots"]["0"];
    keyslot["key_size"] = json!(key);
    keyslot["area"]["size"] = json!("385024");
}

#[test]
fn each_kind_is_refused_by_name_and_shown() {
    let bench = Bench::formatted(32 << 20, &OPTIONS);
    let plain = inspect(&bench.original).unwrap();
    assert_eq!(plain.cipher(), DataCipher::AesXts);
    assert!(matches!(
        plain.sector_size(),
        SectorSize::B512 | SectorSize::B4096
    ));
    for (cipher, integrity, key) in KINDS {
        let mut headers = Headers::of(&bench.original);
        headers.edit(Which::Both, |json| authenticate(json, cipher, integrity, key));
        let volume = bench.lay(&headers);
        // Stock cryptsetup takes it for one of its own.
        assert!(bench.ask(&volume, false).dumped.is_some(), "{integrity}");
        let said = run_ok("cryptsetup", &["luksDump", bench.path().to_str().unwrap()], b"");
        assert!(said.contains(&format!("integrity: {integrity}")), "{said}");

        let refused = inspect(&volume).unwrap_err();
        let InspectError::Unsupported(why) = refused else {
            panic!("{integrity}: {refused:?}")
        };
        let of_cipher = Unsupported::Cipher {
            place: Place::Data,
            cipher: cipher.to_owned(),
        };
        let expected = match cipher {
            "aes-xts-plain64" => Unsupported::SegmentOption("integrity"),
            _ => of_cipher,
        };
        assert_eq!(why, expected);
        assert!(describe(&volume).is_ok(), "what it is can be shown");
    }
}
