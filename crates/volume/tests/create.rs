//! What `create` refuses, and what it promises: the same bytes, nothing lost, nothing half.
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

use common::{
    DATA, PSK, SIZE, entropy, files, folder, new_file, passphrase, recipe, secret, token, volume_bytes,
    volume_in, volume_key, write_to,
};
use domain::{VolumeKey, VolumeKeyDigest};
use volume::{
    ContentFile, CreateError, Existing, FilesystemError, InspectError, KeyslotId, Recipe, TargetError,
    create, inspect, open,
};
use zeroize::Zeroizing;

/// Runs `create` on `target` with one thing changed in the recipe.
fn with(target: &File, change: impl FnOnce(&mut Recipe<'_>)) -> Result<(), CreateError> {
    let files = files();
    let mut recipe = recipe(&files);
    change(&mut recipe);
    create(
        target,
        &recipe,
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(1),
    )
    .map(drop)
}

#[test]
fn the_same_inputs_make_the_same_bytes() {
    let one = volume_bytes();
    assert!(one == volume_bytes());
    let target = tempfile::tempfile_in(folder().path()).unwrap();
    let files = files();
    create(
        &target,
        &recipe(&files),
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(2),
    )
    .unwrap();
    let mut other = vec![0; one.len()];
    target.read_exact_at(&mut other, 0).unwrap();
    assert!(one != other, "the entropy is used");
}

#[test]
fn the_digest_is_that_of_the_key() {
    let created = write_to(&tempfile::tempfile_in(folder().path()).unwrap()).unwrap();
    let expected = volume_key().expose(|key| VolumeKeyDigest::of(key));
    assert_eq!(created.volume_key_digest, expected);
    assert_eq!(
        open(volume_bytes(), &secret()).unwrap().volume_key_digest(),
        expected
    );
}

#[test]
fn no_secret_and_no_hole_is_in_what_was_written() {
    let volume = volume_bytes();
    let text = passphrase();
    let key = volume_key().expose(|key| key.to_vec());
    for needle in [
        PSK,
        text.as_bytes(),
        &[0x5e; 32],
        &key[..32],
        &key[32..],
        b"device.toml",
        b"lost+found",
    ] {
        assert!(!volume.windows(needle.len()).any(|window| window == needle));
    }
    let data = &volume[usize::try_from(DATA).unwrap()..];
    let mut sectors: Vec<&[u8]> = data.chunks(4096).collect();
    let count = sectors.len();
    sectors.sort_unstable();
    sectors.dedup();
    assert_eq!(sectors.len(), count, "every sector is encrypted for its place");
    assert!(sectors.iter().all(|sector| sector.iter().any(|b| *b != 0)));
}

#[test]
fn sizes_labels_and_tokens_that_cannot_be_are_refused() {
    let target = tempfile::tempfile().unwrap();
    for size in [0, DATA, DATA + (1 << 20) - 4096, SIZE + 512, u64::MAX] {
        let refused = with(&target, |recipe| recipe.size = size);
        assert!(
            matches!(refused, Err(CreateError::Size(found)) if found == size),
            "{refused:?}"
        );
    }
    let long = "x".repeat(48);
    for label in [long.as_str(), "a\0b"] {
        let files = files();
        let recipe = Recipe {
            label,
            ..recipe(&files)
        };
        let refused = create(
            &target,
            &recipe,
            &volume_key(),
            &secret(),
            &token(),
            &mut entropy(1),
        );
        assert!(matches!(refused, Err(CreateError::Label)));
    }
    let mut other_slot = token();
    other_slot.keyslot = KeyslotId::new(1).unwrap();
    let mut no_blob = token();
    no_blob.blob.clear();
    for token in [other_slot, no_blob] {
        let files = files();
        let refused = create(
            &target,
            &recipe(&files),
            &volume_key(),
            &secret(),
            &token,
            &mut entropy(1),
        );
        assert!(matches!(refused, Err(CreateError::Token(_))));
    }
    assert_eq!(target.metadata().unwrap().len(), 0, "nothing was written");
}

#[test]
fn a_weak_key_and_bad_content_are_refused_before_the_first_write() {
    let target = tempfile::tempfile().unwrap();
    let files = files();
    let weak = VolumeKey::copy_from(&[7; 64]).unwrap();
    let refused = create(
        &target,
        &recipe(&files),
        &weak,
        &secret(),
        &token(),
        &mut entropy(1),
    );
    assert!(matches!(refused, Err(CreateError::Crypto(_))));
    let outside = [ContentFile {
        path: "/../psk",
        mode: 0o400,
        data: Zeroizing::default(),
    }];
    let refused = create(
        &target,
        &recipe(&outside),
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(1),
    );
    assert!(matches!(
        refused,
        Err(CreateError::Filesystem(FilesystemError::Content(_)))
    ));
    let large = [ContentFile {
        path: "/big",
        mode: 0o400,
        data: Zeroizing::new(vec![1; 20 << 20]),
    }];
    let refused = create(
        &target,
        &recipe(&large),
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(1),
    );
    assert!(
        matches!(refused, Err(CreateError::Filesystem(_))),
        "larger than the volume"
    );
    assert_eq!(target.metadata().unwrap().len(), 0, "nothing was written");
}

#[test]
fn a_volume_is_not_overwritten_unless_told() {
    let folder = folder();
    let path = volume_in(&folder);
    let target = File::options().read(true).write(true).open(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = write_to(&target).unwrap_err();
    assert_eq!(refused.to_string(), "the target holds a LUKS2 volume at offset 0");
    // Only the second header is left: still somebody's volume.
    target.write_all_at(&[0; 4096], 0).unwrap();
    let refused = write_to(&target);
    assert!(
        matches!(refused, Err(CreateError::Target(TargetError::Occupied(found))) if found.offset == 0x4000)
    );
    target.write_all_at(&before[..4096], 0).unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "nothing was written");
    with(&target, |recipe| recipe.existing = Existing::Overwrite).unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "the same volume again");
}

#[test]
fn what_is_overwritten_leaves_nothing_where_headers_are() {
    let folder = folder();
    let target = new_file(&folder.path().join("old"));
    target
        .write_all_at(&vec![0xee; usize::try_from(SIZE).unwrap()], 0)
        .unwrap();
    with(&target, |recipe| recipe.existing = Existing::Overwrite).unwrap();
    let mut written = vec![0; usize::try_from(SIZE).unwrap()];
    target.read_exact_at(&mut written, 0).unwrap();
    assert!(written == volume_bytes(), "as on an empty file");
}

#[test]
fn a_target_that_is_too_small_is_refused_and_a_larger_one_keeps_its_tail() {
    let folder = folder();
    let target = new_file(&folder.path().join("t"));
    target.set_len(SIZE - 4096).unwrap();
    let refused = write_to(&target);
    assert!(matches!(
        refused,
        Err(CreateError::Target(TargetError::TooSmall { .. }))
    ));
    target.set_len(SIZE + 4096).unwrap();
    target.write_all_at(b"tail", SIZE).unwrap();
    write_to(&target).unwrap();
    let mut tail = [0; 4];
    target.read_exact_at(&mut tail, SIZE).unwrap();
    assert_eq!(&tail, b"tail");
    assert_eq!(inspect(&target).unwrap().data_len(), SIZE - DATA);
}

#[test]
fn a_target_that_fails_has_no_valid_header() {
    let folder = folder();
    let path = folder.path().join("t");
    new_file(&path).set_len(SIZE).unwrap();
    let read_only = File::open(&path).unwrap();
    let refused = write_to(&read_only);
    assert!(
        matches!(
            refused,
            Err(CreateError::Write(_) | CreateError::Target(TargetError::Io(_)))
        ),
        "{refused:?}"
    );
    assert!(matches!(inspect(&read_only), Err(InspectError::NoHeader { .. })));
}
