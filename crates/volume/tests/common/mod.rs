//! A volume to test with, and the stock tools that judge it.
#![allow(dead_code, reason = "each test file uses a part of it")]

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
