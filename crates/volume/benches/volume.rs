//! What a volume costs beside the tools that it stands next to: `openssl speed`, a plain copy, `cryptsetup reencrypt` and the
//! `adiantum` crate.
//!
//! Each pair is measured in turns and in one run; what is printed are medians, and of ratios the median over the turns. Prints one
//! JSON object; `ci/bench volume` makes a table of it. Without `--bench` (as `cargo test` calls it) it runs each side once on little and
//! prints nothing. With `--memory TARGET` it is the process whose memory is measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a program for development"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use domain::{SealedSecret, VolumeKey};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use volume::{
    DataCipher, Existing, Image, Options, Output, SectorCipher, SectorSize, SystemdTpm2, Volume, write,
};

/// Bytes that fit the cache of a core.
const BUFFER: usize = 256 << 10;
const HEADER: u64 = 16 << 20;

/// How much is measured.
struct Scale {
    turns: usize,
    image: u64,
    time: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--memory") {
        let image = Image::of_file(File::open(&arguments[at + 1]).unwrap()).unwrap();
        volume_of(&image, Path::new(&arguments[at + 2]), DataCipher::AesXts);
        println!("{}", peak());
        return;
    }
    let measures = arguments.iter().any(|a| a == "--bench");
    let scale = if measures {
        Scale {
            turns: 5,
            image: 1 << 30,
            time: Duration::from_secs(1),
        }
    } else {
        Scale {
            turns: 1,
            image: 8 << 20,
            time: Duration::from_millis(10),
        }
    };
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let sectors = sectors(&scale, measures);
    let adiantum = adiantum(&scale);
    let whole = whole(&scale, folder.path());
    let memory = memory(folder.path(), measures);
    let cores = thread::available_parallelism().unwrap();
    let found = json!({
        "cores": cores, "turns": scale.turns, "image_bytes": scale.image, "sectors": sectors, "adiantum": adiantum, "whole": whole,
        "memory": memory,
    });
    if measures {
        println!("{found}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ours and theirs, in turns: medians of both rates, and the median of the ratios.
fn pair(turns: usize, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) -> Value {
    let (mut our, mut their, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        their.push(theirs());
        our.push(ours());
        ratio.push(our.last().unwrap() / their.last().unwrap());
    }
    json!({"ours_per_second": median(our), "theirs_per_second": median(their), "ratio": median(ratio)})
}

fn key() -> VolumeKey {
    VolumeKey::copy_from(&std::array::from_fn::<u8, 64, _>(|i| u8::try_from(i).unwrap())).unwrap()
}

/// Bytes in a second of processor time that `work` does, which does [`BUFFER`] at a time.
fn rate(time: Duration, mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut buffer = vec![0x5a; BUFFER];
    let (mut bytes, start) = (0, processor_time());
    while processor_time() - start < time {
        for _ in 0..8 {
            work(&mut buffer);
        }
        bytes += 8 * BUFFER;
    }
    bytes as f64 / (processor_time() - start).as_secs_f64()
}

/// Of this thread, so that a busy machine changes nothing; `openssl speed` counts it so, too.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// AES-256-XTS on one core, beside `openssl speed` with blocks of a sector's size.
fn sectors(scale: &Scale, measures: bool) -> Value {
    let key = key();
    let mut cipher = SectorCipher::encrypting(DataCipher::AesXts, &key, SectorSize::B4096).unwrap();
    let ours = || rate(scale.time, |buffer| cipher.apply(buffer, 0).unwrap());
    let openssl = || {
        let arguments = [
            "speed",
            "-mr",
            "-seconds",
            "1",
            "-bytes",
            "4096",
            "-evp",
            "aes-256-xts",
        ];
        let output = Command::new("openssl").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("+F:")).unwrap();
        line.rsplit(':').next().unwrap().parse().unwrap()
    };
    if measures {
        pair(scale.turns, ours, openssl)
    } else {
        pair(1, ours, || 1.0)
    }
}

/// Adiantum on all cores, beside the `adiantum` crate.
fn adiantum(scale: &Scale) -> Value {
    use adiantum::cipher::{KeyInit as _, array::Array};
    type Theirs = adiantum::Cipher<chacha20::XChaCha12, aes_new::Aes256>;
    let on_all_cores = |work: &(dyn Fn() -> f64 + Sync)| -> f64 {
        let cores = thread::available_parallelism().unwrap().get();
        thread::scope(|scope| {
            let running: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    };
    let key = key();
    let ours = || {
        on_all_cores(&|| {
            let mut cipher = SectorCipher::encrypting(DataCipher::Adiantum, &key, SectorSize::B4096).unwrap();
            rate(scale.time, |buffer| cipher.apply(buffer, 0).unwrap())
        })
    };
    let theirs = || {
        on_all_cores(&|| {
            let cipher = key.expose(|key| Theirs::new(&Array::try_from(&key[..32]).unwrap()));
            rate(scale.time, |buffer| {
                for (number, sector) in (0_u64..).step_by(8).zip(buffer.chunks_mut(4096)) {
                    let mut tweak = [0; 32];
                    tweak[..8].copy_from_slice(&number.to_le_bytes());
                    cipher.encrypt(sector, &tweak);
                }
            })
        })
    };
    pair(scale.turns, ours, theirs)
}

/// Whole volumes in memory: beside a plain copy of the image with as many threads, and beside cryptsetup.
fn whole(scale: &Scale, folder: &Path) -> Value {
    let plain = folder.join("image");
    let file = File::create_new(&plain).unwrap();
    let mut block = vec![0; 1 << 20];
    let mut state = 1_u64;
    for at in (0..scale.image).step_by(1 << 20) {
        for word in block.as_chunks_mut::<8>().0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *word = state.to_le_bytes();
        }
        file.write_all_at(&block, at).unwrap();
    }
    let image = Image::of_file(File::open(&plain).unwrap()).unwrap();
    let target = folder.join("target");
    let timed = |work: &dyn Fn(&Path)| {
        let _none_yet = fs::remove_file(&target);
        let start = Instant::now();
        work(&target);
        let rate = scale.image as f64 / start.elapsed().as_secs_f64();
        fs::remove_file(&target).unwrap();
        rate
    };
    let aes = || timed(&|target| volume_of(&image, target, DataCipher::AesXts));
    let copy = || timed(&|target| copy(&plain, scale.image, target));
    // The first one pays for memory that the machine has not handed out yet.
    copy();
    let beside_copy = pair(scale.turns, aes, copy);
    let cryptsetup = || {
        let with_tail = folder.join("reencrypt");
        copy_to(&plain, &with_tail, scale.image + 2 * HEADER);
        let start = Instant::now();
        reencrypt(&with_tail);
        let rate = scale.image as f64 / start.elapsed().as_secs_f64();
        fs::remove_file(with_tail).unwrap();
        rate
    };
    let beside_cryptsetup = pair(scale.turns.min(3), aes, cryptsetup);
    let slow = timed(&|target| volume_of(&image, target, DataCipher::Adiantum));
    json!({"copy": beside_copy, "cryptsetup": beside_cryptsetup, "adiantum_per_second": slow})
}

fn volume_of(image: &Image, target: &Path, cipher: DataCipher) {
    let target = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(target)
        .unwrap();
    let token = json!({
        "type": "systemd-tpm2", "keyslots": ["0"], "tpm2-pcrs": [7], "tpm2-pcr-bank": "sha256", "tpm2-primary-alg": "ecc",
        "tpm2-blob": "q6urqw==", "tpm2-policy-hash": "cd".repeat(32), "tpm2-pin": false,
    });
    let token = SystemdTpm2::from_json(token).unwrap();
    let (key, secret) = (key(), SealedSecret::copy_from(&[7; 32]).unwrap());
    let mut entropy = |room: &mut [u8]| room.fill(0x77);
    let output = Output {
        target: &target,
        volume: Volume {
            uuid: [1; 16],
            label: "bench",
            size: HEADER + image.len(),
            existing: Existing::Refuse,
            options: Options {
                cipher,
                ..Options::default()
            },
            volume_key: &key,
            secret: &secret,
            token: &token,
        },
        entropy: &mut entropy,
    };
    write(image, vec![output], &()).remove(0).unwrap();
}

/// As `write` does it, without a cipher and a header: the same buffers, the same threads.
fn copy(from: &Path, len: u64, to: &Path) {
    let (from, to) = (File::open(from).unwrap(), File::create_new(to).unwrap());
    let next = AtomicU64::new(0);
    let step = u64::try_from(BUFFER).unwrap();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                let mut buffer = vec![0; BUFFER];
                loop {
                    let at = next.fetch_add(step, Ordering::Relaxed);
                    if at >= len {
                        break;
                    }
                    from.read_exact_at(&mut buffer, at).unwrap();
                    to.write_all_at(&buffer, at).unwrap();
                }
            });
        }
    });
    to.sync_all().unwrap();
}

fn copy_to(from: &Path, to: &PathBuf, len: u64) {
    fs::copy(from, to).unwrap();
    File::options()
        .write(true)
        .open(to)
        .unwrap()
        .set_len(len)
        .unwrap();
}

/// The same cipher, sectors and key derivation as ours.
fn reencrypt(path: &Path) {
    let arguments = [
        "reencrypt",
        "--encrypt",
        "--batch-mode",
        "--type",
        "luks2",
        "--reduce-device-size",
        "32M",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--sector-size",
        "4096",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--hash",
        "sha512",
        "--key-file",
        "-",
    ];
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .arg(path)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a passphrase").unwrap();
    assert!(child.wait().unwrap().success());
}

/// The most memory that a process has while it writes a volume of 4 GiB, in KiB.
fn memory(folder: &Path, measures: bool) -> Value {
    let image = folder.join("sparse");
    let len = if measures { 4 << 30 } else { 16 << 20 };
    File::create(&image).unwrap().set_len(len).unwrap();
    let target = folder.join("large");
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--memory")
        .args([&image, &target])
        .output()
        .unwrap();
    assert!(output.status.success());
    let kib: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    fs::remove_file(target).unwrap();
    json!({"image_bytes": len, "peak_kib": kib})
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
