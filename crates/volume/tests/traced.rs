//! What a process does while it makes a volume, seen from outside: where plain bytes go, in which order the target is
//! written, how much memory it takes. Each test runs itself again as the process that is watched.
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

use std::{env, fs, path::Path, process::Command};

use common::{
    DATA, PSK, SIZE, UUID, entropy, files, folder, new_file, recipe, secret, token, volume_key, write_to,
};
use domain::{SealedSecret, VolumeKey};
use volume::{
    Existing, FilesystemIds, Image, Options, Output, Owners, Recipe, RecoveryKey, Volume, create,
    passphrase_of, write,
};

/// Where the watched process writes its volume; set for it alone.
const TARGET: &str = "VOLUME_TEST_TARGET";
/// The folder whose content it puts in.
const FOLDER: &str = "VOLUME_TEST_FOLDER";
/// Keys that are text, so that a trace shows them as they are.
const KEY: &[u8; 64] = b"volume-key-half-the-first-012345volume-key-half-the-second-67890";
const SECRET: &[u8; 32] = b"sealed-secret-of-32-bytes-abcdef";
const RECOVERY: &[u8; 32] = b"recovery-key-in-32-bytes-ghijklm";
/// Every call by which bytes or names leave a process.
const CALLS: &str = "trace=open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,\
                     symlinkat,execve,execveat,sendto,sendmsg,sendmmsg,sendfile,splice,tee,vmsplice,copy_file_range,\
                     setxattr,fsetxattr,lsetxattr,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate";

#[test]
fn no_plain_byte_reaches_a_disk_and_headers_come_last() {
    if let Some(target) = env::var_os(TARGET) {
        write_to(&new_file(Path::new(&target))).unwrap();
        return;
    }
    let folder = folder();
    let (target, log, temp) = (
        folder.path().join("volume.luks"),
        folder.path().join("log"),
        folder.path().join("tmp"),
    );
    fs::create_dir(&temp).unwrap();
    let status = Command::new("strace")
        .args(["-f", "-y", "-v", "-s", "65536", "-o", log.to_str().unwrap(), "-e"])
        .arg("trace=open,openat,creat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,execve,sendto,sendmsg,\
              write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate")
        .arg(env::current_exe().unwrap())
        .args(["--exact", "no_plain_byte_reaches_a_disk_and_headers_come_last", "--quiet"])
        .env(TARGET, &target)
        .env("TMPDIR", &temp)
        .current_dir(&temp)
        .output()
        .expect("Debian package strace");
    assert!(status.status.success(), "{status:?}");
    let log = fs::read_to_string(log).unwrap();
    plain_goes_to_memory_alone(&log);
    nothing_else_is_created(&log, target.to_str().unwrap());
    headers_come_last(&log, target.to_str().unwrap());
    assert_eq!(
        fs::read_dir(&temp).unwrap().count(),
        0,
        "no temporary file is left"
    );
    let written = fs::read(&target).unwrap();
    assert!(!written.windows(PSK.len()).any(|window| window == PSK));
}

/// The pre-shared key is an argument of a call only where it is written to a file in memory.
fn plain_goes_to_memory_alone(log: &str) {
    let canary = std::str::from_utf8(PSK).unwrap();
    let with_canary: Vec<&str> = log.lines().filter(|line| line.contains(canary)).collect();
    assert!(
        with_canary.len() >= 2,
        "the trace sees both writes: into the content and into the image"
    );
    for line in with_canary {
        let shown: String = line.chars().take(120).collect();
        let in_memory = line.contains("</memfd:content") || line.contains("</memfd:image");
        assert!(in_memory && line.contains("write"), "{shown}");
    }
}

fn nothing_else_is_created(log: &str, target: &str) {
    assert!(
        log.contains(&format!("\"{target}\", O_RDWR|O_CREAT|O_EXCL")),
        "the trace sees the target made"
    );
    for line in log.lines() {
        let creates = line.contains("O_CREAT") || line.contains("O_TMPFILE");
        assert!(!creates || line.contains(target), "{line}");
        let call = line.split_once(' ').unwrap().1.trim_start();
        let names = ["creat(", "rename", "mkdir", "link(", "linkat("];
        assert!(!names.iter().any(|name| call.starts_with(name)), "{line}");
        if line.contains("O_WRONLY") || line.contains("O_RDWR") {
            let memory = ["\"/proc/self/fd/3\"", "\"/dev/null\"", target]
                .iter()
                .any(|path| line.contains(path));
            assert!(memory, "{line}");
        }
    }
}

/// All data and the keyslot, sync, second header, sync, first header, sync; and nothing after it.
fn headers_come_last(log: &str, target: &str) {
    let mut calls = Vec::new();
    for line in log.lines().filter(|line| line.contains(&format!("<{target}>"))) {
        if line.contains("pwrite64(") {
            // `.."..., 262144, 16777216) = 262144`, or cut off behind the offset by another thread's call.
            let (_, after_buffer) = line.rsplit_once('"').unwrap();
            let (_, offset) = after_buffer.rsplit_once(", ").unwrap();
            let digits: String = offset.chars().take_while(char::is_ascii_digit).collect();
            calls.push(match digits.parse::<u64>().unwrap() {
                0 => "first header",
                0x4000 => "second header",
                0x8000 => "keyslot",
                offset if (DATA..SIZE).contains(&offset) => "data",
                _ => "elsewhere",
            });
        } else if line.contains("sync(") {
            calls.push("sync");
        }
    }
    let data = calls.iter().filter(|call| **call == "data").count();
    assert_eq!(data, 64, "16 MiB in buffers of 256 KiB");
    calls.dedup();
    assert_eq!(
        calls,
        [
            "sync",
            "data",
            "keyslot",
            "sync",
            "second header",
            "sync",
            "first header",
            "sync"
        ]
    );
}

#[test]
fn the_peak_of_memory_does_not_grow_with_the_volume() {
    if let Some(target) = env::var_os(TARGET) {
        let files = files();
        let recipe = Recipe {
            size: 512 << 20,
            ..recipe(&files)
        };
        create(
            &new_file(Path::new(&target)),
            &recipe,
            &volume_key(),
            &secret(),
            &token(),
            &mut entropy(1),
        )
        .unwrap();
        let kib = peak();
        assert!(kib < 64 << 10, "{kib} KiB at the peak");
        return;
    }
    let folder = folder();
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_peak_of_memory_does_not_grow_with_the_volume",
            "--quiet",
        ])
        .env(TARGET, folder.path().join("volume.luks"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(
        fs::metadata(folder.path().join("volume.luks")).unwrap().len(),
        512 << 20
    );
}

#[test]
fn no_plain_byte_of_a_folder_and_no_key_leaves_memory() {
    if let (Some(target), Some(from)) = (env::var_os(TARGET), env::var_os(FOLDER)) {
        write_folder(Path::new(&from), Path::new(&target));
        return;
    }
    let folder = folder();
    let [target, log, temp, from] =
        ["volume.luks", "log", "tmp", "from"].map(|name| folder.path().join(name));
    fs::create_dir(&temp).unwrap();
    fs::create_dir_all(from.join("sub/canary-of-a-name")).unwrap();
    fs::write(from.join("sub/canary-of-a-name/psk"), PSK).unwrap();
    // In the second piece of a file that is larger than a buffer, too.
    fs::write(from.join("large"), [&[b'l'; 300_000], PSK].concat()).unwrap();
    std::os::unix::fs::symlink("/canary-of-a-link", from.join("link")).unwrap();
    let status = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-v",
            "-s",
            "1048576",
            "-o",
            log.to_str().unwrap(),
            "-e",
        ])
        .arg(CALLS)
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "no_plain_byte_of_a_folder_and_no_key_leaves_memory",
            "--quiet",
        ])
        .env(TARGET, &target)
        .env(FOLDER, &from)
        .env("TMPDIR", &temp)
        .current_dir(&temp)
        .output()
        .expect("Debian package strace");
    assert!(status.status.success(), "{status:?}");
    let log = fs::read_to_string(log).unwrap();
    plain_goes_to_memory_alone(&log);
    for name in ["canary-of-a-name", "canary-of-a-link"] {
        let left = log.lines().filter(|line| line.contains(name)).find(|line| {
            let reads = line.contains("open") && line.contains("O_RDONLY");
            !(reads || line.contains("</memfd:image"))
        });
        assert_eq!(left, None, "{name}");
        assert!(log.contains(name), "the trace sees {name} written into the image");
    }
    // Only the target is made, and only it and memory are opened for writing.
    nothing_else_is_created(&log, target.to_str().unwrap());
    let secret =
        String::from_utf8(passphrase_of(&SealedSecret::copy_from(SECRET).unwrap()).to_vec()).unwrap();
    let recovery = recovery().expose(|text| String::from_utf8(text.to_vec()).unwrap());
    let [key, raw, raw_recovery] =
        [&KEY[..], SECRET, RECOVERY].map(|key| std::str::from_utf8(&key[..24]).unwrap().to_owned());
    let written = fs::read(&target).unwrap();
    let canaries = [
        key,
        "volume-key-half-the-second".to_owned(),
        raw,
        raw_recovery,
        secret,
        recovery,
    ];
    for canary in canaries {
        assert!(!log.contains(&canary), "{canary} is an argument of a call");
        assert!(
            !contains(&written, canary.as_bytes()),
            "{canary} is in the volume"
        );
    }
    for canary in [PSK, b"canary-of-a-", &[b'l'; 64]] {
        assert!(!contains(&written, canary));
    }
    assert_eq!(
        fs::read_dir(&temp).unwrap().count(),
        0,
        "no temporary file is left"
    );
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

fn recovery() -> RecoveryKey {
    RecoveryKey::new(SealedSecret::copy_from(RECOVERY).unwrap())
}

fn write_folder(from: &Path, target: &Path) {
    let ids = FilesystemIds {
        uuid: [1; 16],
        hash_seed: [2; 16],
    };
    let image = Image::of_folder(from, Owners::Root, 4 << 20, ids).unwrap();
    let (key, secret) = (
        VolumeKey::copy_from(KEY).unwrap(),
        SealedSecret::copy_from(SECRET).unwrap(),
    );
    let output = Output {
        target: &new_file(target),
        volume: Volume {
            uuid: UUID,
            label: "",
            size: DATA + (4 << 20),
            existing: Existing::Refuse,
            options: Options {
                authenticate_content: true,
                recovery: Some(&recovery()),
                ..Options::default()
            },
            volume_key: &key,
            secret: &secret,
            token: &token(),
        },
        entropy: &mut entropy(1),
    };
    write(&image, vec![output], &()).remove(0).unwrap();
}

/// The `VmHWM` of this process, in KiB: its peak of memory, without what is in a memfd and not mapped.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs the test `name` again as the process that is watched, under `watcher` where there is one.
fn again(watcher: &[&str], name: &str, target: &Path, from: &Path) {
    let this = env::current_exe().unwrap();
    let words = watcher.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]);
    let words: Vec<_> = words.collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(["--exact", name, "--quiet"])
        .env(TARGET, target)
        .env(FOLDER, from)
        .output()
        .expect("Debian package strace");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Writes `image` into as many volumes as there are targets, just large enough.
fn write_each(image: &Image, targets: &[fs::File]) {
    let (key, secret, token) = (
        VolumeKey::copy_from(KEY).unwrap(),
        SealedSecret::copy_from(SECRET).unwrap(),
        token(),
    );
    let mut streams: Vec<_> = (1..).map(entropy).take(targets.len()).collect();
    let outputs = targets.iter().zip(&mut streams).map(|(target, entropy)| Output {
        target,
        volume: Volume {
            uuid: UUID,
            label: "",
            size: DATA + image.len(),
            existing: Existing::Refuse,
            options: Options::default(),
            volume_key: &key,
            secret: &secret,
            token: &token,
        },
        entropy,
    });
    for created in write(image, outputs.collect(), &()) {
        created.unwrap();
    }
}

#[test]
fn an_image_of_four_gibibytes_of_holes_takes_no_more_memory() {
    const LEN: u64 = 4 << 30;
    if let (Some(target), Some(from)) = (env::var_os(TARGET), env::var_os(FOLDER)) {
        let image = Image::of_file(fs::File::open(from).unwrap()).unwrap();
        write_each(&image, &[new_file(Path::new(&target))]);
        let peak = peak();
        assert!(peak < 64 << 10, "{peak} KiB at the peak");
        return;
    }
    // On the disk: the volume has no holes.
    let folder = tempfile::tempdir().unwrap();
    let [from, target] = ["image", "volume.luks"].map(|name| folder.path().join(name));
    let image = new_file(&from);
    image.set_len(LEN).unwrap();
    for at in [0, LEN / 2, LEN - 4096] {
        std::os::unix::fs::FileExt::write_all_at(&image, &[7; 4096], at).unwrap();
    }
    let name = "an_image_of_four_gibibytes_of_holes_takes_no_more_memory";
    again(&[], name, &target, &from);
    assert_eq!(fs::metadata(target).unwrap().len(), DATA + LEN);
}

#[test]
fn a_large_folder_takes_no_more_memory() {
    const LARGE: usize = 160 << 20;
    if let (Some(target), Some(from)) = (env::var_os(TARGET), env::var_os(FOLDER)) {
        let ids = FilesystemIds {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        let image = Image::of_folder(Path::new(&from), Owners::Root, 256 << 20, ids).unwrap();
        write_each(&image, &[new_file(Path::new(&target))]);
        let peak = peak();
        assert!(peak < 64 << 10, "{peak} KiB at the peak");
        return;
    }
    let folder = folder();
    let [from, target] = ["from", "volume.luks"].map(|name| folder.path().join(name));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("large"), vec![b'l'; LARGE]).unwrap();
    for number in 0..500 {
        fs::write(from.join(format!("small-{number}")), [b's'; 5000]).unwrap();
    }
    again(&[], "a_large_folder_takes_no_more_memory", &target, &from);
    assert_eq!(fs::metadata(target).unwrap().len(), DATA + (256 << 20));
}

#[test]
fn an_image_is_read_once_for_all_its_volumes() {
    const LEN: u64 = 12 << 20;
    let names = ["a.luks", "b.luks", "c.luks"];
    if let (Some(target), Some(from)) = (env::var_os(TARGET), env::var_os(FOLDER)) {
        let image = Image::of_file(fs::File::open(from).unwrap()).unwrap();
        write_each(
            &image,
            &names.map(|name| new_file(&Path::new(&target).join(name))),
        );
        return;
    }
    let folder = folder();
    let [from, log] = ["the-image", "log"].map(|name| folder.path().join(name));
    let mut bytes = vec![0; usize::try_from(LEN).unwrap()];
    entropy(3)(&mut bytes);
    fs::write(&from, bytes).unwrap();
    let watcher = ["strace", "-f", "-y", "-s", "0", "-o", log.to_str().unwrap(), "-e"];
    let calls = "trace=read,readv,pread64,preadv,preadv2,mmap,sendfile,splice,copy_file_range";
    let watcher = [&watcher[..], &[calls]].concat();
    let name = "an_image_is_read_once_for_all_its_volumes";
    again(&watcher, name, folder.path(), &from);
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(bytes_read(&log, "/the-image>"), LEN);
    for name in names {
        assert_eq!(fs::metadata(folder.path().join(name)).unwrap().len(), DATA + LEN);
    }
}

/// The bytes that all threads together read of a file.
fn bytes_read(log: &str, file: &str) -> u64 {
    let mut waiting = std::collections::BTreeSet::new();
    let mut sum = 0;
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let of_file = call.contains(file);
        assert!(
            !of_file || call.trim_start().starts_with("pread64("),
            "read in a way that is not counted: {line}"
        );
        if of_file && call.contains("<unfinished") {
            waiting.insert(thread);
        } else if of_file || call.contains("pread64 resumed>") && waiting.remove(thread) {
            let (_, read) = call.rsplit_once(" = ").unwrap();
            sum += read.parse::<u64>().unwrap();
        }
    }
    sum
}
