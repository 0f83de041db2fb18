//! Power is taken away after each write; the volume opens with the old secret or with the new one.

use std::{os::unix::fs::FileExt as _, sync::Mutex};

use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::{
    Output, inspect, open, open_with_recovery_key,
    sink::crashes::{Failing, Recorder},
    testing::{Keys, SIZE, entropy, image, keys, volume},
    write,
};

/// A volume of `keys`, on a file in memory.
fn made(keys: &Keys) -> File {
    let target = tempfile::tempfile_in("/dev/shm").unwrap();
    let output = Output {
        target: &target,
        volume: volume(keys),
        entropy: &mut entropy(3),
    };
    write(&image(b"content!"), vec![output], &()).remove(0).unwrap();
    target
}

fn bytes(target: &File) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(SIZE).unwrap()];
    target.read_exact_at(&mut all, 0).unwrap();
    all
}

fn to(keys: &Keys) -> NewKeys<'_> {
    NewKeys {
        sealed: Some((&keys.secret, &keys.token)),
        recovery: Some(&keys.recovery),
        generation: None,
    }
}

fn opens(disk: &[u8], keys: &Keys) -> bool {
    let volume = match open(disk.to_vec(), &keys.secret) {
        Ok(volume) => volume,
        Err(OpenError::WrongSecret) => return false,
        Err(other) => panic!("{other}"),
    };
    let mut text = [0; 8];
    volume.read_data(0, &mut text).unwrap();
    assert_eq!(&text, b"content!");
    assert_eq!(
        volume.header().tpm2_tokens(),
        std::slice::from_ref(&keys.token),
        "token and keyslot belong together"
    );
    let recovered = open_with_recovery_key(disk.to_vec(), &keys.recovery).unwrap();
    assert!(recovered.is_authenticated());
    true
}

/// The headers and keyslots of a volume, for tests that look at hundreds of them.
struct Head(Vec<u8>);

impl crate::Source for Head {
    fn len(&self) -> io::Result<u64> {
        Ok(SIZE)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }
}

/// Whether the sealed secret opens it, with its own token beside it.
fn unlocks(disk: &[u8], keys: &Keys) -> bool {
    match open(Head(disk[..2 << 20].to_vec()), &keys.secret) {
        Ok(volume) => volume.header().tpm2_tokens() == std::slice::from_ref(&keys.token),
        Err(OpenError::WrongSecret) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn new_keys_open_old_ones_are_gone_and_the_data_is_untouched() {
    let (old, new) = (keys(1), keys(2));
    let target = made(&old);
    let before = bytes(&target);
    let done = rekey(&target, Unlock::Sealed(&old.secret), to(&new), &mut entropy(5)).unwrap();
    let both = vec![KeyslotId::SEALED, KeyslotId::new(1).unwrap()];
    assert_eq!((done.seqid, done.keyslots), (2, both));
    let after = bytes(&target);
    assert!(opens(&after, &new) && !opens(&after, &old));
    assert!(open_with_recovery_key(after.clone(), &old.recovery).is_err());
    assert_eq!(inspect(&after).unwrap().copy(), HeaderCopy::Both);
    assert!(before[16 << 20..] == after[16 << 20..]);
    // The old header put back finds no keyslot any more: their places were wiped.
    let mut rolled_back = after.clone();
    rolled_back[..0x8000].copy_from_slice(&before[..0x8000]);
    assert!(!opens(&rolled_back, &old));
    let zeros = |slot: &Extent| {
        let start = usize::try_from(slot.offset).unwrap();
        after[start..start + usize::try_from(slot.len).unwrap()]
            .iter()
            .all(|b| *b == 0)
    };
    let old_slots = inspect(&before).unwrap().layout.slots;
    assert!(old_slots.values().all(|slot| zeros(&slot.area)));
}

#[test]
fn one_key_is_replaced_without_the_other() {
    let (old, new) = (keys(1), keys(2));
    let target = made(&old);
    let sealed = NewKeys {
        recovery: None,
        ..to(&new)
    };
    rekey(&target, Unlock::Sealed(&old.secret), sealed, &mut entropy(5)).unwrap();
    let mixed = bytes(&target);
    assert!(open(mixed.clone(), &new.secret).is_ok() && open(mixed.clone(), &old.secret).is_err());
    assert!(
        open_with_recovery_key(mixed, &old.recovery)
            .unwrap()
            .is_authenticated()
    );
    let recovery = NewKeys {
        sealed: None,
        ..to(&new)
    };
    rekey(&target, Unlock::Sealed(&new.secret), recovery, &mut entropy(6)).unwrap();
    assert!(opens(&bytes(&target), &new));
}

#[test]
fn the_recovery_key_gives_a_volume_a_new_secret() {
    let (old, new) = (keys(1), keys(2));
    let target = made(&old);
    let unlock = |expected| Unlock::Recovery {
        key: &old.recovery,
        expected,
    };
    let digest = open(bytes(&target), &old.secret).unwrap().volume_key_digest();
    let other = VolumeKeyDigest::of(b"another");
    let refused = rekey(&target, unlock(Some(other)), to(&new), &mut entropy(5));
    assert!(matches!(refused, Err(RekeyError::OtherVolume)));
    for expected in [None, Some(digest)] {
        let target = made(&old);
        rekey(&target, unlock(expected), to(&new), &mut entropy(5)).unwrap();
        assert!(opens(&bytes(&target), &new));
    }
}

#[test]
fn what_cannot_be_believed_or_written_is_refused_and_left_alone() {
    let (old, new) = (keys(1), keys(2));
    let target = made(&old);
    let before = bytes(&target);
    let wrong = rekey(&target, Unlock::Sealed(&new.secret), to(&new), &mut entropy(5));
    assert!(matches!(wrong, Err(RekeyError::Open(OpenError::WrongSecret))));
    let mut elsewhere = keys(2);
    elsewhere.token.keyslot = KeyslotId::new(3).unwrap();
    let token = rekey(
        &target,
        Unlock::Sealed(&old.secret),
        to(&elsewhere),
        &mut entropy(5),
    );
    assert!(matches!(token, Err(RekeyError::Token(_))));
    elsewhere.token = keys(2).token;
    elsewhere.token.blob.clear();
    let token = rekey(
        &target,
        Unlock::Sealed(&old.secret),
        to(&elsewhere),
        &mut entropy(5),
    );
    assert!(matches!(token, Err(RekeyError::Token(_))));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    let other = File::open(&path).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let locked = rekey(&target, Unlock::Sealed(&old.secret), to(&new), &mut entropy(5));
    assert!(matches!(locked, Err(RekeyError::Locked)));
    drop(other);
    let read_only = File::open(&path).unwrap();
    let write = rekey(&read_only, Unlock::Sealed(&old.secret), to(&new), &mut entropy(5));
    assert!(matches!(write, Err(RekeyError::Write(_))));
    assert!(bytes(&target) == before);
}

/// A header without its MAC, as an attacker leaves it, or one who enrols with systemd.
#[test]
fn a_header_that_was_stripped_is_believed_only_with_the_registrys_digest() {
    let (old, new) = (keys(1), keys(2));
    let mut disk = bytes(&made(&old));
    let end = 4096 + disk[4096..0x4000].iter().position(|b| *b == 0).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&disk[4096..end]).unwrap();
    let tokens = json["tokens"].as_object_mut().unwrap();
    tokens.retain(|_, token| token["type"] != "signalbox-header");
    let text = serde_json::to_vec(&json).unwrap();
    for start in [0, 0x4000] {
        disk[start + 4096..start + 0x4000].fill(0);
        disk[start + 4096..start + 4096 + text.len()].copy_from_slice(&text);
        disk[start + 448..start + 512].fill(0);
        let sum = domain::Sha256Digest::of(&disk[start..start + 0x4000]);
        disk[start + 448..start + 480].copy_from_slice(sum.as_bytes());
    }
    let missing = |unlock| {
        change(disk.clone(), unlock, to(&new), &mut entropy(5))
            .err()
            .unwrap()
    };
    for unlock in [
        Unlock::Sealed(&old.secret),
        Unlock::Recovery {
            key: &old.recovery,
            expected: None,
        },
    ] {
        let refused = missing(unlock);
        let missing = matches!(
            refused,
            RekeyError::Open(OpenError::NotAuthentic(NotAuthentic::Missing))
        );
        assert!(missing, "{refused}");
    }
    let digest = open_with_recovery_key(disk.clone(), &old.recovery)
        .unwrap()
        .volume_key_digest();
    let known = Unlock::Recovery {
        key: &old.recovery,
        expected: Some(digest),
    };
    let medium = Recorder::new(disk.clone());
    change(disk, known, to(&new), &mut entropy(5))
        .unwrap()
        .write(&medium)
        .unwrap();
    assert!(opens(&medium.bytes(), &new), "authentic again");
}

#[test]
fn killed_at_any_byte_the_old_or_the_new_keys_open_it_and_the_next_call_finishes() {
    let (old, new) = (keys(1), keys(2));
    let start = bytes(&made(&old));
    // Both headers whole, one of them broken, and one left behind by an earlier kill.
    let mut first_broken = start.clone();
    first_broken[100] ^= 1;
    let mut second_broken = start.clone();
    second_broken[0x4000 + 100] ^= 1;
    for start in [start, first_broken, second_broken] {
        let medium = Recorder::new(start.clone());
        let change = change(start, Unlock::Sealed(&old.secret), to(&new), &mut entropy(5)).unwrap();
        change.write(&medium).unwrap();
        assert!(opens(&medium.bytes(), &new));
        let (mut olds, mut news, mut finished) = (0, 0, 0);
        medium.each_crash(|disk, what| {
            let with = match (unlocks(disk, &old), unlocks(disk, &new)) {
                (true, false) => &old,
                (false, true) => &new,
                other => panic!("{what}: {other:?}"),
            };
            let unfinished = inspect(disk).unwrap().copy() != HeaderCopy::Both;
            *if std::ptr::eq(with, &raw const old) {
                &mut olds
            } else {
                &mut news
            } += 1;
            // Some of them, for each costs a derivation: the next call leaves nothing of the old keys.
            if unfinished && finished < 2 {
                finished += 1;
                let next = Recorder::new(disk.clone());
                let change = super::change(
                    disk.clone(),
                    Unlock::Sealed(&with.secret),
                    to(&new),
                    &mut entropy(6),
                );
                change.unwrap().write(&next).unwrap();
                let after = next.bytes();
                assert!(unlocks(&after, &new) && !unlocks(&after, &old), "{what}");
                assert_eq!(inspect(&after).unwrap().copy(), HeaderCopy::Both);
            }
        });
        assert!(
            olds > 10 && news > 10 && finished == 2,
            "{olds} {news} {finished}"
        );
    }
}

#[test]
fn a_medium_that_fails_at_any_call_still_opens() {
    let (old, new) = (keys(1), keys(2));
    let start = bytes(&made(&old));
    let mut calls = 0;
    loop {
        let medium = Recorder::new(start.clone());
        let failing = Failing {
            inner: &medium,
            left: Mutex::new(calls),
        };
        let change = change(
            start.clone(),
            Unlock::Sealed(&old.secret),
            to(&new),
            &mut entropy(5),
        )
        .unwrap();
        let done = change.write(&failing);
        let disk = medium.bytes();
        assert!(
            unlocks(&disk, &old) != unlocks(&disk, &new),
            "after {calls} calls"
        );
        if done.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls >= 8, "{calls} calls");
}

#[test]
fn nothing_new_finishes_what_was_left() {
    let old = keys(1);
    let target = made(&old);
    target.write_all_at(&[0xee; 512], 8 << 20).unwrap();
    target.write_all_at(&[1], 0x4000 + 100).unwrap();
    let done = rekey(
        &target,
        Unlock::Sealed(&old.secret),
        NewKeys::default(),
        &mut entropy(5),
    )
    .unwrap();
    assert!(done.keyslots.is_empty());
    let disk = bytes(&target);
    assert!(opens(&disk, &old) && disk[8 << 20..(8 << 20) + 512].iter().all(|b| *b == 0));
    assert_eq!(inspect(&disk).unwrap().copy(), HeaderCopy::Both);
}

#[test]
fn a_room_without_a_gap_is_full() {
    let metadata = |size: u64| -> Metadata {
        serde_json::from_value(serde_json::json!({
            "keyslots": {}, "tokens": {}, "segments": {}, "digests": {},
            "config": {"json_size": "12288", "keyslots_size": size.to_string()}
        }))
        .unwrap()
    };
    let extent = |offset, len| Extent { offset, len };
    let taken = [extent(0x8000, 0x1000), extent(0xa000, 0x1000)];
    assert_eq!(gaps(&taken, &metadata(0x3000), 0x4000), [extent(0x9000, 0x1000)]);
    assert_eq!(
        gaps(&taken, &metadata(0x8000), 0x4000),
        [extent(0x9000, 0x1000), extent(0xb000, 0x5000)]
    );
    assert_eq!(gaps(&[extent(0x8000, 0x3000)], &metadata(0x3000), 0x4000), []);
}

/// A disk that shows one header when it is first read, and another one ever after.
struct TwoFaced {
    first: Vec<u8>,
    then: Vec<u8>,
    reads: std::sync::atomic::AtomicU32,
}

impl crate::Source for TwoFaced {
    fn len(&self) -> io::Result<u64> {
        Ok(SIZE)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::sync::atomic::Ordering;
        // The first copy begins with its binary header: each reading of a header begins there.
        let reads = self.reads.fetch_add(u32::from(offset == 0), Ordering::Relaxed) + u32::from(offset == 0);
        let face = if reads > 1 { &self.then } else { &self.first };
        face.read_at(buffer, offset)
    }
}

#[test]
fn a_header_that_changes_between_two_readings_is_not_made_authentic() {
    let (old, new) = (keys(1), keys(2));
    let true_disk = bytes(&made(&old));
    let mut forged = true_disk.clone();
    let Loaded {
        header,
        mut metadata,
        size,
    } = header::load(&true_disk).unwrap();
    metadata.segments.get_mut("0").unwrap().sector_size = 512;
    let frame = Frame {
        uuid: header.uuid().to_owned(),
        label: header.label().to_owned(),
        seqid: header.seqid(),
        size,
        salts: [[1; 64]; 2],
    };
    for (copy, at) in frame.headers(&metadata).unwrap().iter().zip([0, 0x4000]) {
        forged[at..at + copy.len()].copy_from_slice(copy);
    }
    for (first, then, sectors) in [(&forged, &true_disk, None), (&true_disk, &forged, Some(4096))] {
        let disk = TwoFaced {
            first: first.clone(),
            then: then.clone(),
            reads: 0.into(),
        };
        let changed = change(disk, Unlock::Sealed(&old.secret), to(&new), &mut entropy(5));
        let Some(sectors) = sectors else {
            let refused = changed.err().map(|why| why.to_string());
            assert_eq!(
                refused.as_deref(),
                Some("the header is not authentic: it was changed, or made by another tool")
            );
            continue;
        };
        let medium = Recorder::new(true_disk.clone());
        changed.unwrap().write(&medium).unwrap();
        let written = inspect(&medium.bytes()).unwrap();
        assert_eq!(written.sector_size().bytes(), sectors);
    }
}
