//! The generation in the header: it is its secret's word, and nobody else's.
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

use std::{fs::File, os::unix::fs::FileExt as _};

use common::{SIZE, edit, entropy, files, folder, recipe, run_ok, secret, token, volume_key};
use domain::{Generation, SealedSecret};
use serde_json::json;
use volume::{
    KeyslotId, NewKeys, NotAuthentic, OpenError, Options, RecoveryKey, Unlock, create_with, inspect, open,
    open_unauthenticated, open_with_recovery_key, rekey,
};

fn recovery() -> RecoveryKey {
    RecoveryKey::new(SealedSecret::copy_from(&[7; 32]).unwrap())
}

/// A volume of that generation, with a recovery key, on a file in memory.
fn made(generation: Option<Generation>) -> File {
    let target = tempfile::tempfile_in(folder().path()).unwrap();
    let (files, recovery) = (files(), recovery());
    let options = Options {
        recovery: Some(&recovery),
        generation,
        ..Options::default()
    };
    let (key, secret) = (volume_key(), secret());
    create_with(
        &target,
        &recipe(&files),
        options,
        &key,
        &secret,
        &token(),
        &mut entropy(1),
    )
    .unwrap();
    target
}

fn bytes(target: &File) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(SIZE).unwrap()];
    target.read_exact_at(&mut all, 0).unwrap();
    all
}

#[test]
fn a_volume_carries_its_generation_under_every_secret_of_ours() {
    let highest = Generation(u64::MAX);
    for generation in [None, Some(Generation(0)), Some(Generation(41)), Some(highest)] {
        let volume = bytes(&made(generation));
        assert_eq!(
            inspect(&volume).unwrap().claimed_generation(KeyslotId::SEALED),
            generation
        );
        assert_eq!(open(volume.clone(), &secret()).unwrap().generation(), generation);
        let recovered = open_with_recovery_key(volume.clone(), &recovery()).unwrap();
        assert_eq!(recovered.generation(), generation);
        // What was not authenticated has none.
        let unproven = open_unauthenticated(volume, &secret()).unwrap();
        assert_eq!(unproven.generation(), None);
    }
}

#[test]
fn a_generation_that_somebody_wrote_over_is_not_authentic() {
    let mac = |json: &serde_json::Value| {
        let tokens = json["tokens"].as_object().unwrap();
        let of = |token: &serde_json::Value| token["type"] == "signalbox-header" && token["keyslot"] == "0";
        tokens.iter().find(|(_, token)| of(token)).unwrap().0.clone()
    };
    let changed = |generation, to: Option<serde_json::Value>| {
        let mut volume = bytes(&made(generation));
        edit(&mut volume, |json| {
            let number = mac(json);
            let token = json["tokens"][number].as_object_mut().unwrap();
            match to {
                Some(to) => drop(token.insert("generation".to_owned(), to)),
                None => drop(token.remove("generation")),
            }
        });
        match open(volume, &secret()) {
            Err(OpenError::NotAuthentic(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("opened"),
        }
    };
    let (none, some) = (None, Some(Generation(41)));
    assert_eq!(changed(some, None), NotAuthentic::Changed);
    assert_eq!(changed(some, Some(json!("42"))), NotAuthentic::Changed);
    assert_eq!(changed(none, Some(json!("41"))), NotAuthentic::Changed);
    // A number that is none, or not written as LUKS2 writes them: no token of ours.
    for odd in [json!(41), json!("-1"), json!("18446744073709551616"), json!("")] {
        assert_eq!(changed(some, Some(odd)), NotAuthentic::Missing);
    }
}

#[test]
fn a_new_seal_has_the_generation_that_it_is_given_or_the_old_one() {
    let (old, sealed) = (Generation(3), SealedSecret::copy_from(&[9; 32]).unwrap());
    let token = token();
    let target = made(Some(old));
    let to = |generation| NewKeys {
        sealed: Some((&sealed, &token)),
        recovery: None,
        generation,
    };
    let key = open(bytes(&target), &secret()).unwrap().volume_key_digest();
    rekey(
        &target,
        Unlock::Sealed(&secret()),
        to(Some(old.next())),
        &mut entropy(2),
    )
    .unwrap();
    let volume = open(bytes(&target), &sealed).unwrap();
    assert_eq!(volume.generation(), Some(Generation(4)));
    assert_eq!(volume.volume_key_digest(), key, "the volume is the same one");
    // The recovery key was left alone.
    let recovered = open_with_recovery_key(bytes(&target), &recovery()).unwrap();
    assert_eq!(recovered.generation(), Some(old));
    rekey(&target, Unlock::Sealed(&sealed), to(None), &mut entropy(3)).unwrap();
    let volume = open(bytes(&target), &sealed).unwrap();
    assert_eq!(volume.generation(), Some(Generation(4)));
    // A volume without one gets one so.
    let target = made(None);
    rekey(&target, Unlock::Sealed(&secret()), to(None), &mut entropy(2)).unwrap();
    assert_eq!(open(bytes(&target), &sealed).unwrap().generation(), None);
    rekey(
        &target,
        Unlock::Sealed(&sealed),
        to(Some(Generation(1))),
        &mut entropy(3),
    )
    .unwrap();
    assert_eq!(
        open(bytes(&target), &sealed).unwrap().generation(),
        Some(Generation(1))
    );
}

#[test]
fn cryptsetup_minds_no_generation() {
    let folder = folder();
    let path = folder.path().join("v");
    std::fs::write(&path, bytes(&made(Some(Generation(41))))).unwrap();
    let name = path.to_str().unwrap();
    let test = ["open", "--test-passphrase", "--key-file", "-", name];
    run_ok("cryptsetup", &test, common::passphrase().as_bytes());
    run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
    assert!(run_ok("cryptsetup", &["luksDump", name], b"").contains("signalbox-header"));
}
