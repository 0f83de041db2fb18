//! Little memory, small files and few threads: an error with a name, never a signal. And hostile file systems under the right key.
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
    env,
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{SIZE, entropy, folder, new_file, run_ok, secret, volume_in, write_to};
use volume::{
    CreateError, KeyslotError, NewKeys, OpenError, RecoveryKey, RekeyError, TargetError, Unlock, inspect,
    open_with_passphrase, rekey, survey,
};

/// The volume of the process that has little; set for it alone.
const TARGET: &str = "VOLUME_LIMITS_TARGET";

/// Runs a test of this file again under a limit of `prlimit`.
fn again(test: &str, limit: &str, target: &Path) {
    let output = Command::new("prlimit")
        .arg(limit)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--quiet"])
        .env(TARGET, target)
        .output()
        .expect("Debian package util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{:?}: {said}", output.status);
}

#[test]
fn a_limit_on_files_is_a_refusal_and_not_a_signal() {
    let test = "a_limit_on_files_is_a_refusal_and_not_a_signal";
    if let Some(target) = env::var_os(TARGET) {
        let target = Path::new(&target);
        if !target.exists() {
            let file = new_file(target);
            let refused = write_to(&file);
            assert!(
                matches!(
                    refused,
                    Err(CreateError::Filesystem(_) | CreateError::Target(TargetError::NoRoom { .. }))
                ),
                "{refused:?}"
            );
            assert_eq!(file.metadata().unwrap().len(), 0);
            return;
        }
        let file = File::options().read(true).write(true).open(target).unwrap();
        let recovery = RecoveryKey::new(domain::SealedSecret::copy_from(&[3; 32]).unwrap());
        let new = NewKeys {
            recovery: Some(&recovery),
            ..NewKeys::default()
        };
        let refused = rekey(&file, Unlock::Sealed(&secret()), new, &mut entropy(5));
        assert!(matches!(refused, Err(RekeyError::Write(_))), "{refused:?}");
        return;
    }
    let folder = folder();
    again(test, "--fsize=1048576", &folder.path().join("new"));
    again(test, "--fsize=20971520", &folder.path().join("larger"));
    let made = volume_in(&folder);
    let before = fs::read(&made).unwrap();
    again(test, "--fsize=65536", &made);
    assert!(fs::read(&made).unwrap() == before, "nothing was changed");
}

#[test]
fn memory_that_is_not_there_is_a_refusal() {
    if let Some(target) = env::var_os(TARGET) {
        let opened = open_with_passphrase(File::open(target).unwrap(), b"a passphrase");
        let Err(OpenError::Keyslot { source, .. }) = opened else {
            panic!("{:?}", opened.err());
        };
        assert!(matches!(source, KeyslotError::Kdf(_)), "{source:?}");
        return;
    }
    let folder = folder();
    let path = folder.path().join("volume");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let args = [
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks2",
        "--key-file",
        "-",
        "--pbkdf",
        "argon2id",
        "--pbkdf-force-iterations",
        "4",
        "--pbkdf-memory",
        "1048576",
        "--pbkdf-parallel",
        "4",
        path.to_str().unwrap(),
    ];
    run_ok("cryptsetup", &args, b"a passphrase");
    again("memory_that_is_not_there_is_a_refusal", "--as=600000000", &path);
}

/// As people make it: argon2id with memory and lanes of its own choice, 16 MiB of headers, the label, several keyslots.
#[test]
fn what_luks_format_makes_by_default_opens_and_the_rest_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("default");
    let name = path.to_str().unwrap();
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let format = |extra: &[&str]| {
        let mut args = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"];
        args.extend(extra);
        run_ok("cryptsetup", &args, b"a passphrase");
    };
    format(&[
        "--iter-time",
        "50",
        "--label",
        "mine",
        "--subsystem",
        "theirs",
        name,
    ]);
    let key = folder.path().join("key");
    fs::write(&key, b"another").unwrap();
    let add = [
        "luksAddKey",
        "--batch-mode",
        "--iter-time",
        "50",
        "--key-file",
        "-",
        name,
        key.to_str().unwrap(),
    ];
    run_ok("cryptsetup", &add, b"a passphrase");
    let header = inspect(&File::open(&path).unwrap()).unwrap();
    assert_eq!((header.label(), header.keyslots().count()), ("mine", 2));
    for passphrase in [&b"a passphrase"[..], b"another"] {
        open_with_passphrase(File::open(&path).unwrap(), passphrase).unwrap();
    }
    let refused = || inspect(&File::open(&path).unwrap()).unwrap_err().to_string();
    format(&[
        "--pbkdf",
        "pbkdf2",
        "--iter-time",
        "50",
        "--cipher",
        "aes-cbc-essiv:sha256",
        "--key-size",
        "256",
        name,
    ]);
    assert!(refused().contains("aes-cbc-essiv:sha256"), "{}", refused());
    let detached = folder.path().join("header");
    format(&["--iter-time", "50", "--header", detached.to_str().unwrap(), name]);
    let why = inspect(&File::open(&detached).unwrap()).unwrap_err().to_string();
    assert!(why.contains("the data segment"), "{why}");
    let luks1 = [
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks1",
        "--iter-time",
        "50",
        "--key-file",
        "-",
        name,
    ];
    run_ok("cryptsetup", &luks1, b"a passphrase");
    assert!(refused().contains("a LUKS volume of version 1"), "{}", refused());
}

/// A file system that whoever has the key made to hang or to fill the reader: extents, links, folders and sizes that lie.
#[test]
fn hostile_file_systems_end_soon() {
    let folder = folder();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a/b/c/d")).unwrap();
    fs::write(source.join("a/large"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::symlink("loop", source.join("loop")).unwrap();
    std::os::unix::fs::symlink("/a/../a/../loop2", source.join("loop2")).unwrap();
    let image = folder.path().join("image");
    run_ok(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "^metadata_csum",
            "-d",
            source.to_str().unwrap(),
            image.to_str().unwrap(),
            "4M",
        ],
        b"",
    );
    let good = fs::read(&image).unwrap();
    let evil = [
        // A folder that is its own child, and its own parent's twin.
        "link <2> a/b/self",
        "link a a/b/c/d/again",
        // A length that no disk has.
        "set_inode_field a/large size 0x7fffffffffff",
        "set_inode_field a size 0x7fffffff",
        // A tree of extents as deep as can be, and one that has itself below it.
        "set_inode_field a/large block[0] 0xff00f30a\nset_inode_field a/large block[1] 0x00050004",
        "set_inode_field a/large block[IND] 2\nset_inode_field a/large flags 0",
        // A superblock that counts more than there is.
        "set_super_value inodes_count 4294967295",
        "set_super_value blocks_count 4294967295",
        "set_super_value log_block_size 30",
        "set_super_value inodes_per_group 1",
        "set_super_value desc_size 65535",
        "set_super_value first_data_block 4000000000",
    ];
    for commands in evil {
        let evil = folder.path().join("evil");
        fs::write(&evil, &good).unwrap();
        let script = folder.path().join("script");
        fs::write(&script, commands).unwrap();
        run_ok(
            "debugfs",
            &["-w", "-f", script.to_str().unwrap(), evil.to_str().unwrap()],
            b"",
        );
        // What counts more blocks than there are makes debugfs grow the file.
        let mut bytes = vec![0; good.len()];
        std::io::Read::read_exact(&mut File::open(&evil).unwrap(), &mut bytes).unwrap();
        assert!(bytes != good, "{commands}: debugfs changed nothing");
        let start = Instant::now();
        let _whole_or_broken = survey(bytes.clone());
        if let Ok(fs) = ext4_view_of(bytes) {
            for path in ["/loop", "/loop2", "/a/large", "/a/b/self/a/b", "/a/b/c/d"] {
                let len = fs.metadata(path).map_or(0, |found| found.len());
                // What our own reader does: no file above 64 MiB is read.
                if len <= 64 << 20 {
                    let _read_or_not = fs.read(path);
                }
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{commands}");
    }
}

fn ext4_view_of(bytes: Vec<u8>) -> Result<ext4_view::Ext4, ext4_view::Ext4Error> {
    ext4_view::Ext4::load(Box::new(bytes))
}
