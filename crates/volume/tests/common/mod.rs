//! A volume to test with, and the stock tools that judge it.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod headers;
pub mod touched;

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use data_encoding::BASE64;
use domain::{HashAlg, PcrIndex, PcrSelection, SealedSecret, VolumeKey};
use volume::{
    ContentFile, CreateError, Created, Existing, KeyslotId, PrimaryAlg, Recipe, SystemdTpm2, create,
};
use zeroize::Zeroizing;

pub const SIZE: u64 = 32 << 20;
pub const DATA: u64 = 16 << 20;
pub const PSK: &[u8] = b"sbx_canary-0123456789abcdefghijklmnopqrstuvwxyz";
pub const UUID: [u8; 16] = [
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01,
];

/// A stream of bytes that depends on its seed alone (xorshift).
pub fn entropy(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed | 1;
    move |room: &mut [u8]| {
        for byte in room {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[3];
        }
    }
}

pub fn volume_key() -> VolumeKey {
    let mut bytes = [0; 64];
    entropy(77)(&mut bytes);
    VolumeKey::copy_from(&bytes).unwrap()
}

pub fn secret() -> SealedSecret {
    SealedSecret::copy_from(&[0x5e; 32]).unwrap()
}

pub fn passphrase() -> String {
    BASE64.encode(&[0x5e; 32])
}

pub fn token() -> SystemdTpm2 {
    let pcrs = [7, 11].map(|i| PcrIndex::try_from(i).unwrap());
    SystemdTpm2 {
        keyslot: KeyslotId::SEALED,
        blob: vec![0xab; 200],
        pcrs: PcrSelection::new(HashAlg::Sha256, pcrs).unwrap(),
        primary_alg: PrimaryAlg::Ecc,
        policy_hash: [0xcd; 32],
    }
}

pub fn files() -> Vec<ContentFile<'static>> {
    vec![
        ContentFile {
            path: "/psk",
            mode: 0o400,
            data: Zeroizing::new(PSK.to_vec()),
        },
        ContentFile {
            path: "/device.toml",
            mode: 0o444,
            data: Zeroizing::new(b"fleet = \"demo\"\n".to_vec()),
        },
        ContentFile {
            path: "/etc/nested/file",
            mode: 0o640,
            data: Zeroizing::new(vec![b'n'; 10_000]),
        },
    ]
}

pub fn recipe<'a>(files: &'a [ContentFile<'a>]) -> Recipe<'a> {
    Recipe {
        uuid: UUID,
        label: "kiosk-bern-01",
        size: SIZE,
        files,
        existing: Existing::Refuse,
    }
}

pub fn write_to(target: &File) -> Result<Created, CreateError> {
    let files = files();
    create(
        target,
        &recipe(&files),
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(1),
    )
}

/// A folder in memory where there is one: 32 MiB a test is much for a disk.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

pub fn new_file(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

/// A volume in a file.
pub fn volume_in(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("volume.luks");
    write_to(&new_file(&path)).unwrap();
    path
}

/// A volume in memory.
pub fn volume_bytes() -> Vec<u8> {
    let file = tempfile::tempfile_in(folder().path()).unwrap();
    write_to(&file).unwrap();
    let mut all = vec![0; usize::try_from(SIZE).unwrap()];
    file.read_exact_at(&mut all, 0).unwrap();
    all
}

/// Runs a stock tool with `input` on its standard input; a missing tool fails the test.
pub fn run(tool: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(tool)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{tool}: {e}; Debian packages cryptsetup-bin, e2fsprogs, strace"));
    // A tool that refuses at once does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Like [`run`], and the tool must succeed; gives its standard output.
pub fn run_ok(tool: &str, args: &[&str], input: &[u8]) -> String {
    let out = run(tool, args, input);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{tool} {args:?}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Puts right checksums over both copies, whatever they hold.
pub fn reseal(volume: &mut [u8]) {
    for start in [0, 0x4000] {
        let copy = &mut volume[start..start + 0x4000];
        copy[448..512].fill(0);
        let sum = domain::Sha256Digest::of(copy);
        copy[448..480].copy_from_slice(sum.as_bytes());
    }
}

/// Changes the JSON of both copies and puts the checksums right: what an attacker does who knows the format.
pub fn edit(volume: &mut [u8], change: impl FnOnce(&mut serde_json::Value)) {
    let area = &volume[4096..0x4000];
    let end = area.iter().position(|b| *b == 0).unwrap();
    let mut json = serde_json::from_slice(&area[..end]).unwrap();
    change(&mut json);
    let text = serde_json::to_vec(&json).unwrap();
    for start in [4096, 0x5000] {
        let area = &mut volume[start..start + 0x3000];
        area.fill(0);
        area[..text.len()].copy_from_slice(&text);
    }
    reseal(volume);
}
