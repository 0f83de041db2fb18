//! Many volumes of one image, on disks that are full, by writers that are killed; and stock cryptsetup on the result.
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

use std::{
    env, fs,
    fs::File,
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{DATA, PSK, SIZE, UUID, entropy, folder, new_file, run_ok, token};
use data_encoding::BASE64;
use domain::{SealedSecret, VolumeKey};
use volume::{
    ContentState, CreateError, DataCipher, Existing, FilesystemIds, FilesystemState, HeaderCopy, Image,
    InspectError, NewKeys, Options, Output, Owners, RecoveryKey, SectorSize, TargetError, Unlock,
    VerifyError, Volume, inspect, open, open_with_recovery_key, rekey, survey, verify, write,
};

const IDS: FilesystemIds = FilesystemIds {
    uuid: [1; 16],
    hash_seed: [2; 16],
};
/// Where a process that is watched or killed writes; set for it alone.
const TARGET: &str = "VOLUME_TEST_TARGET";

struct Keys {
    key: VolumeKey,
    secret: SealedSecret,
    recovery: RecoveryKey,
}

fn keys(seed: u8) -> Keys {
    let mut bytes = [0; 64];
    entropy(seed.into())(&mut bytes);
    Keys {
        key: VolumeKey::copy_from(&bytes).unwrap(),
        secret: SealedSecret::copy_from(&[seed; 32]).unwrap(),
        recovery: RecoveryKey::new(SealedSecret::copy_from(&[seed ^ 0xff; 32]).unwrap()),
    }
}

fn volume<'a>(keys: &'a Keys, token: &'a volume::SystemdTpm2) -> Volume<'a> {
    Volume {
        uuid: UUID,
        label: "many",
        size: SIZE,
        existing: Existing::Refuse,
        options: Options::default(),
        volume_key: &keys.key,
        secret: &keys.secret,
        token,
    }
}

/// A folder with the canary in it, and its image.
fn tree() -> (tempfile::TempDir, Image) {
    let folder = folder();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("psk"), PSK).unwrap();
    fs::write(folder.path().join("etc/conf"), vec![b'c'; 100_000]).unwrap();
    let image = Image::of_folder(folder.path(), Owners::Root, SIZE - DATA, IDS).unwrap();
    (folder, image)
}

fn write_one(image: &Image, target: &File, volume: Volume<'_>) -> Result<volume::Created, CreateError> {
    let output = Output {
        target,
        volume,
        entropy: &mut entropy(1),
    };
    write(image, vec![output], &()).remove(0)
}

#[test]
fn one_image_goes_into_many_volumes_with_keys_of_their_own() {
    let (_tree, image) = tree();
    let (folder, token) = (folder(), token());
    let combinations = [
        (DataCipher::AesXts, SectorSize::B4096),
        (DataCipher::AesXts, SectorSize::B512),
        (DataCipher::Adiantum, SectorSize::B4096),
        (DataCipher::Adiantum, SectorSize::B512),
    ];
    let all: Vec<Keys> = (1..=4).map(keys).collect();
    let paths: Vec<_> = (0..4).map(|n| folder.path().join(format!("{n}.luks"))).collect();
    let targets: Vec<File> = paths.iter().map(|path| new_file(path)).collect();
    let mut streams: Vec<_> = (1..=4).map(entropy).collect();
    let outputs = targets.iter().zip(&all).zip(&mut streams).zip(combinations);
    let outputs = outputs.map(|(((target, keys), entropy), (cipher, sector_size))| {
        let mut volume = volume(keys, &token);
        volume.options = Options {
            cipher,
            sector_size,
            recovery: Some(&keys.recovery),
            authenticate_content: true,
            ..Options::default()
        };
        Output {
            target,
            volume,
            entropy,
        }
    });
    for created in write(&image, outputs.collect(), &()) {
        created.unwrap();
    }
    for ((path, keys), (cipher, sector)) in paths.iter().zip(&all).zip(combinations) {
        let name = path.to_str().unwrap();
        let test = ["open", "--test-passphrase", "--key-file", "-", name];
        let passphrase = keys.secret.expose(|secret| BASE64.encode(secret));
        run_ok("cryptsetup", &test, passphrase.as_bytes());
        keys.recovery.expose(|text| run_ok("cryptsetup", &test, text));
        let before = fs::read(path).unwrap();
        run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
        assert!(fs::read(path).unwrap() == before, "nothing to repair");
        assert!(run_ok("cryptsetup", &["luksDump", name], b"").contains(cipher.name()));
        let opened = open(File::open(path).unwrap(), &keys.secret).unwrap();
        assert_eq!(
            (opened.header().cipher(), opened.header().sector_size()),
            (cipher, sector)
        );
        assert_eq!(opened.read("/psk").unwrap().as_slice(), PSK);
        let verified = verify(&opened, &()).unwrap();
        assert!(
            verified.is_sound() && verified.content == ContentState::Authentic,
            "{verified:?}"
        );
        assert!(matches!(verified.filesystem, FilesystemState::Whole(found) if found.files == 2));
        let recovered = open_with_recovery_key(File::open(path).unwrap(), &keys.recovery).unwrap();
        assert!(verify(&recovered, &()).unwrap().is_sound());
        assert!(!before.windows(PSK.len()).any(|window| window == PSK));
    }
}

#[test]
fn a_volume_is_the_same_alone_and_among_others() {
    let (_tree, image) = tree();
    let (folder, token) = (folder(), token());
    let (one, two) = (keys(1), keys(2));
    let targets = ["a", "b", "c"].map(|name| new_file(&folder.path().join(name)));
    let [alone, beside, other] = &targets;
    write_one(&image, alone, volume(&one, &token)).unwrap();
    let (mut first, mut second) = (entropy(9), entropy(1));
    let outputs = vec![
        Output {
            target: other,
            volume: volume(&two, &token),
            entropy: &mut first,
        },
        Output {
            target: beside,
            volume: volume(&one, &token),
            entropy: &mut second,
        },
    ];
    assert!(write(&image, outputs, &()).iter().all(Result::is_ok));
    let read = |name| fs::read(folder.path().join(name)).unwrap();
    assert!(read("a") == read("b") && read("a") != read("c"));
}

#[test]
fn outputs_that_are_refused_are_named_and_the_others_written() {
    let (_tree, image) = tree();
    let (folder, token, keys) = (folder(), token(), keys(1));
    let good = new_file(&folder.path().join("good"));
    let foreign = new_file(&folder.path().join("foreign"));
    foreign.write_all_at(b"somebody's words", 70_000).unwrap();
    foreign.set_len(SIZE).unwrap();
    let small = Volume {
        size: DATA + (1 << 20),
        ..volume(&keys, &token)
    };
    let empty = new_file(&folder.path().join("small"));
    let source = image.reader().unwrap();
    let mut streams: Vec<_> = (0..5).map(|_| entropy(1)).collect();
    let wanted = [
        (&foreign, volume(&keys, &token)),
        (&good, volume(&keys, &token)),
        (&good, volume(&keys, &token)),
        (&empty, small),
        (
            &source,
            Volume {
                existing: Existing::Overwrite,
                ..volume(&keys, &token)
            },
        ),
    ];
    let outputs = wanted.into_iter().zip(&mut streams);
    let outputs = outputs.map(|((target, volume), entropy)| Output {
        target,
        volume,
        entropy,
    });
    let results = write(&image, outputs.collect(), &());
    let [foreign_result, first, again, small, itself] = results.try_into().unwrap();
    let said = foreign_result.unwrap_err().to_string();
    assert_eq!(said, "the target holds data of no known kind at offset 65536");
    first.unwrap();
    assert!(matches!(again, Err(CreateError::Target(TargetError::Twice))));
    assert!(
        matches!(small, Err(CreateError::TooLarge { content, room }) if content == SIZE - DATA && room == 1 << 20)
    );
    assert!(matches!(
        itself,
        Err(CreateError::Target(TargetError::IsTheImage))
    ));
    assert_eq!(empty.metadata().unwrap().len(), 0);
    assert!(open(File::open(folder.path().join("good")).unwrap(), &keys.secret).is_ok());
}

/// A file system of 20 MiB in a namespace of its own: the test runs itself again inside.
#[test]
fn a_full_disk_is_refused_before_the_first_write() {
    if let Some(place) = env::var_os(TARGET) {
        let (_tree, image) = tree();
        let (token, keys) = (token(), keys(1));
        let target = new_file(&Path::new(&place).join("volume"));
        let refused = write_one(&image, &target, volume(&keys, &token));
        assert!(
            matches!(
                refused,
                Err(CreateError::Target(TargetError::NoRoom { needed: SIZE, .. }))
            ),
            "{refused:?}"
        );
        assert_eq!(target.metadata().unwrap().len(), 0, "nothing was written");
        return;
    }
    let folder = folder();
    let script = "mount -t tmpfs -o size=20m none \"$0\" && exec \"$1\" --exact a_full_disk_is_refused_before_the_first_write";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(env::current_exe().unwrap())
        .env(TARGET, folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// A process that does nothing but write is killed at some fifty moments.
#[test]
fn a_killed_writer_leaves_no_header_or_a_whole_volume() {
    if let Some(target) = env::var_os(TARGET) {
        let (_tree, image) = tree();
        let (token, keys) = (token(), keys(1));
        loop {
            let target = File::options().read(true).write(true).open(&target).unwrap();
            let mut volume = volume(&keys, &token);
            volume.existing = Existing::Overwrite;
            write_one(&image, &target, volume).unwrap();
        }
    }
    let (folder, keys) = (folder(), keys(1));
    let path = folder.path().join("volume");
    new_file(&path).set_len(SIZE).unwrap();
    let (mut none, mut whole) = (0, 0);
    for number in 0..12_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "a_killed_writer_leaves_no_header_or_a_whole_volume",
                "--quiet",
            ])
            .env(TARGET, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(700 + 37 * number));
        child.kill().unwrap();
        child.wait().unwrap();
        match inspect(&File::open(&path).unwrap()) {
            Err(InspectError::NoHeader { .. }) => none += 1,
            Ok(_) => {
                let opened = open(File::open(&path).unwrap(), &keys.secret).unwrap();
                assert!(matches!(
                    verify(&opened, &()).unwrap().filesystem,
                    FilesystemState::Whole(_)
                ));
                whole += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        none + whole == 12 && none > 0,
        "{none} without a header, {whole} whole"
    );
}

#[test]
fn progress_counts_to_the_end_and_a_cancelled_volume_has_no_header() {
    let (_tree, image) = tree();
    let (folder, token, keys) = (folder(), token(), keys(1));
    let target = new_file(&folder.path().join("v"));
    let stop = |done: u64, total: u64| {
        assert_eq!(total, SIZE - DATA);
        if done > total / 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let output = Output {
        target: &target,
        volume: volume(&keys, &token),
        entropy: &mut entropy(1),
    };
    let cancelled = write(&image, vec![output], &stop).remove(0);
    assert!(matches!(cancelled, Err(CreateError::Cancelled)));
    assert!(matches!(inspect(&target), Err(InspectError::NoHeader { .. })));
    let mut over = volume(&keys, &token);
    over.existing = Existing::Overwrite;
    write_one(&image, &target, over).unwrap();
    let opened = open(target, &keys.secret).unwrap();
    assert!(matches!(verify(&opened, &stop), Err(VerifyError::Cancelled)));
}

#[test]
fn verify_names_what_is_not_as_it_was_written() {
    let (_tree, image) = tree();
    let (folder, token, keys) = (folder(), token(), keys(1));
    let path = folder.path().join("v");
    let mut authentic = volume(&keys, &token);
    authentic.options.authenticate_content = true;
    write_one(&image, &new_file(&path), authentic).unwrap();
    let whole = fs::read(&path).unwrap();
    let touched = |at: u64| {
        let mut bytes = whole.clone();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        verify(&open(bytes, &keys.secret).unwrap(), &()).unwrap()
    };
    let last = touched(SIZE - 1);
    assert!(last.content == ContentState::Changed && !last.is_sound());
    assert!(
        matches!(last.filesystem, FilesystemState::Whole(_)),
        "an unused block"
    );
    let superblock = touched(DATA + 1024 + 20);
    assert!(!superblock.is_sound() && !matches!(superblock.filesystem, FilesystemState::Whole(_)));
    let header = touched(0x4000 + 2000);
    assert!(matches!(header.headers, HeaderCopy::Primary(_)) && !header.is_sound());
    let cut = |len: u64| whole[..usize::try_from(len).unwrap()].to_vec();
    assert!(
        open(cut(SIZE - 512), &keys.secret).is_err(),
        "it is known to be cut off"
    );
    // Another kind of file system is none of ours to judge.
    let other = tempfile::tempfile().unwrap();
    other.set_len(1 << 20).unwrap();
    let target = new_file(&folder.path().join("other"));
    write_one(&Image::of_file(other).unwrap(), &target, volume(&keys, &token)).unwrap();
    let verified = verify(&open(target, &keys.secret).unwrap(), &()).unwrap();
    assert!(
        matches!(verified.filesystem, FilesystemState::Other) && verified.content == ContentState::Unknown
    );
    assert!(survey(image.reader().unwrap()).unwrap().bytes > 100_000);
}

#[test]
fn cryptsetup_agrees_with_what_rekey_left() {
    let (_tree, image) = tree();
    let (folder, token) = (folder(), token());
    let (old, new) = (keys(1), keys(2));
    let path = folder.path().join("v");
    let name = path.to_str().unwrap();
    let mut with_recovery = volume(&old, &token);
    with_recovery.options.recovery = Some(&old.recovery);
    let target = new_file(&path);
    write_one(&image, &target, with_recovery).unwrap();
    let to = NewKeys {
        sealed: Some((&new.secret, &token)),
        recovery: Some(&new.recovery),
        generation: None,
    };
    rekey(&target, Unlock::Sealed(&old.secret), to, &mut entropy(4)).unwrap();
    let test = ["open", "--test-passphrase", "--key-file", "-", name];
    let text = |keys: &Keys| keys.secret.expose(|secret| BASE64.encode(secret));
    run_ok("cryptsetup", &test, text(&new).as_bytes());
    new.recovery.expose(|key| run_ok("cryptsetup", &test, key));
    assert_eq!(
        common::run("cryptsetup", &test, text(&old).as_bytes())
            .status
            .code(),
        Some(2)
    );
    old.recovery
        .expose(|key| assert_eq!(common::run("cryptsetup", &test, key).status.code(), Some(2)));
    let before = fs::read(&path).unwrap();
    run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
    assert!(fs::read(&path).unwrap() == before);
    // A keyslot of another tool stays.
    let added = folder.path().join("added");
    fs::write(&added, b"another passphrase").unwrap();
    let add = [
        "luksAddKey",
        "--batch-mode",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "-",
        name,
        added.to_str().unwrap(),
    ];
    run_ok("cryptsetup", &add, text(&new).as_bytes());
    let back = NewKeys {
        sealed: Some((&old.secret, &token)),
        recovery: None,
        generation: None,
    };
    rekey(&target, Unlock::Sealed(&new.secret), back, &mut entropy(6)).unwrap();
    run_ok("cryptsetup", &test, b"another passphrase");
    run_ok("cryptsetup", &test, text(&old).as_bytes());
    assert_eq!(
        open(target, &old.secret)
            .unwrap()
            .read("/psk")
            .unwrap()
            .as_slice(),
        PSK
    );
}
