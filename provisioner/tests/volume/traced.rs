//! What every command that handles a volume's secrets hands to the kernel, seen by strace: no plain byte, key, PIN, passphrase or
//! recovery key leaves the process but into memory, in no form; nor is one in a child's arguments or environment.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use domain::{Pin, SealedSecret};
use testkit::{Canary, Swtpm};
use tpm::{Conditions, PinAuth, SealedObject};
use volume::{TokenPin, inspect, passphrase_of};

use crate::{
    bench::{Bench, PSK},
    common::{DEMO, Station, run},
};

/// Every call by which bytes, names or arguments leave a process, and those by which they could unseen.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,tee,vmsplice,\
                     copy_file_range,ioctl,open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,mknod,mknodat,\
                     link,linkat,symlink,symlinkat,setxattr,fsetxattr,lsetxattr,add_key,keyctl,prctl,execve,execveat,mmap,\
                     mremap,io_uring_setup,io_setup,shmat,memfd_create";
const PIN: &str = "canary-of-a-pin";
/// Letters of systemd's recovery keys.
const MODHEX: &[u8] = b"cbdefghijklnrtuv";

/// The calls of a run, one a line, with the bytes that were handed over as they were.
struct Trace(Vec<Vec<u8>>);

/// Runs the program in `dir` under strace, to success.
fn traced(dir: &Path, tpm: &Swtpm, arguments: &[&str]) -> (Trace, String) {
    // In memory: every byte of the volume is in it four times.
    let log = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let output = Command::new("strace")
        .current_dir(dir)
        .args(["-f", "-y", "-v", "-xx", "-s", "16777216", "-e", CALLS, "-o"])
        .arg(log.path())
        .arg(env!("CARGO_BIN_EXE_provisioner"))
        .args(arguments)
        .args(["--tcti", &tpm.tcti()])
        .output()
        .unwrap_or_else(|e| panic!("strace: {e}: apt-get install strace"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = fs::read(log.path()).unwrap();
    let calls = text.split(|byte| *byte == b'\n').map(plain).collect();
    let out = String::from_utf8(output.stdout).unwrap();
    for (name, secret) in [("PSK", PSK), ("PIN", PIN)] {
        Canary::new(name, secret.as_bytes()).assert_absent("standard error", output.stderr.as_slice());
    }
    (Trace(calls), out)
}

/// A line of the trace with its `\x..` as bytes.
fn plain(line: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    let mut bytes = Vec::with_capacity(line.len() / 3);
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        rest = match rest {
            [b'\\', b'x', high, low, tail @ ..] => {
                bytes.push(digit(*high) << 4 | digit(*low));
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    bytes
}

impl Trace {
    /// No secret but `content` is in any call, and that only where it is written to a file in memory.
    fn is_clean(&self, secrets: &[Canary], content: &Canary) {
        for call in &self.0 {
            for secret in secrets {
                secret.assert_absent(&shown(call), call);
            }
            if !content.find_in("", call).is_empty() {
                let text = shown(call);
                assert!(
                    text.contains("write") && text.contains("</memfd:"),
                    "plain content: {text}"
                );
            }
            // What is written so is seen by no trace.
            let text = shown(call);
            let unseen =
                text.contains(" io_uring_setup(") || text.contains(" io_setup(") || text.contains(" shmat(");
            assert!(!unseen, "{text}");
            if text.contains(" mmap(") && text.contains("PROT_WRITE") && text.contains("MAP_SHARED") {
                // SQLite's index of its log has page numbers alone.
                let harmless = ["</memfd:", "MAP_ANONYMOUS", "-shm>"];
                assert!(harmless.iter().any(|kind| text.contains(kind)), "{text}");
            }
        }
        assert!(self.count(" execve(") > 0, "the trace sees arguments");
    }

    /// Calls that have a text near their start.
    fn count(&self, text: &str) -> usize {
        self.0.iter().filter(|call| shown(call).contains(text)).count()
    }

    /// Calls by which a content goes into memory.
    fn sees(&self, content: &Canary) -> usize {
        self.0
            .iter()
            .filter(|call| !content.find_in("", call).is_empty())
            .count()
    }
}

/// The start of a call, to tell of it.
fn shown(call: &[u8]) -> String {
    let start = &call[..call.len().min(160)];
    String::from_utf8_lossy(start).into_owned()
}

/// What opens a volume as it is now.
fn secrets_of(path: &Path, tpm: &Swtpm, recovery_key: Option<&str>) -> Vec<Canary> {
    let header = inspect(&File::open(path).unwrap()).unwrap();
    let token = header.sealed_tokens().first().unwrap();
    assert!(token.signed.is_none());
    let pin = Pin::parse(PIN.as_bytes()).unwrap();
    let conditions = Conditions {
        exact: token.exact,
        signed: None,
        pin: match token.pin {
            TokenPin::None => None,
            TokenPin::Plain => Some(PinAuth {
                pin: &pin,
                salt: None,
            }),
            TokenPin::Salted(salt) => Some(PinAuth {
                pin: &pin,
                salt: Some(tpm::PinSalt(salt)),
            }),
        },
    };
    let object = SealedObject {
        private_then_public: token.blob.clone(),
        policy_hash: token.policy_hash,
        primary_alg: tpm::PrimaryAlg::Ecc,
    };
    let mut device = tpm::Tpm::open(&tpm.tcti().parse().unwrap()).unwrap();
    let sealed: SealedSecret = device.unseal_with(&object, &conditions).unwrap();
    drop(device);
    let passphrase = passphrase_of(&sealed);
    let mut secrets = vec![
        sealed.expose(|bytes| Canary::new("sealed secret", bytes)),
        Canary::new("passphrase", &passphrase),
        Canary::new("volume key", &volume_key(path, &passphrase)),
        Canary::new("PIN", PIN.as_bytes()),
    ];
    if let Some(text) = recovery_key {
        secrets.extend(recovery(text));
    }
    secrets
}

/// A recovery key as text and as the 32 bytes that it stands for.
fn recovery(text: &str) -> [Canary; 3] {
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'-').collect();
    assert_eq!(letters.len(), 64);
    let nibble = |letter: &u8| MODHEX.iter().position(|known| known == letter).unwrap();
    let bytes: Vec<u8> = letters
        .chunks(2)
        .map(|pair| u8::try_from(nibble(&pair[0]) << 4 | nibble(&pair[1])).unwrap())
        .collect();
    [
        Canary::new("recovery key", text.as_bytes()),
        Canary::new("recovery key without dashes", &letters),
        Canary::new("recovery key's bytes", &bytes),
    ]
}

/// The key of the data, as cryptsetup finds it.
fn volume_key(path: &Path, passphrase: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let [given, key] = ["passphrase", "key"].map(|name| folder.path().join(name));
    fs::write(&given, passphrase).unwrap();
    let output = Command::new("cryptsetup")
        .args([
            "luksDump",
            "--batch-mode",
            "--dump-volume-key",
            "--volume-key-file",
        ])
        .arg(&key)
        .arg("--key-file")
        .arg(&given)
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("cryptsetup: {e}: apt-get install cryptsetup-bin"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    fs::read(key).unwrap()
}

/// The recovery key that a keeper gets out of the escrow file.
fn escrowed(dir: &Path, volume: &str, identity: &str, escrow: &str) -> String {
    let shown = run(
        dir,
        &[
            "volume",
            "recover",
            volume,
            "--identity",
            identity,
            "--escrow-file",
            escrow,
            "--no-reseal",
            "--show",
        ],
    );
    assert_eq!(shown.code, 0, "{}", shown.err);
    shown.out.lines().last().unwrap().to_owned()
}

#[test]
fn creating_resealing_and_recovering_keep_every_secret_in_memory() {
    let bench = Bench::new();
    let (identity, public) = bench.keeper("keeper");
    bench.file("pin", PIN);
    let content = Canary::new("PSK", PSK.as_bytes());
    let escrow = "a.luks.recovery.age";
    let key_of = || escrowed(bench.dir(), "a.luks", &identity, escrow);
    let now = |key: &str| secrets_of(&bench.path("a.luks"), &bench.tpm, Some(key));

    // From a folder, two volumes of one image.
    let create = [
        "volume",
        "create",
        "a.luks",
        "b.luks",
        "--content",
        "content",
        "--size",
        "20MiB",
        "--seal-pcrs",
        "7",
        "--new-pin-file",
        "pin",
        "--escrow-to",
        &public,
        "--authenticate-content",
        "--verbose",
    ];
    let (trace, _) = traced(bench.dir(), &bench.tpm, &create);
    let first = key_of();
    let mut secrets = now(&first);
    trace.is_clean(&secrets, &content);
    assert!(
        trace.sees(&content) > 0,
        "the trace sees the content go into memory"
    );
    let made =
        trace.0.iter().map(|call| shown(call)).filter(|call| {
            call.contains(" execve(\"") && call.contains("mke2fs\"") && !call.contains(" = -1 ")
        });
    assert_eq!(made.count(), 1, "the file system of both is made once");
    assert!(
        trace.count("a.luks>, ") >= 16,
        "the trace sees the volume written"
    );

    let reseal = [
        "volume",
        "reseal",
        "a.luks",
        "--pin-file",
        "pin",
        "--seal-pcrs",
        "11",
        "--new-pin-file",
        "pin",
        "--escrow-to",
        &public,
    ];
    let (trace, _) = traced(bench.dir(), &bench.tpm, &reseal);
    let second = key_of();
    assert_ne!(first, second);
    secrets.extend(now(&second));
    trace.is_clean(&secrets, &content);
    assert!(trace.count("a.luks>, ") > 0);

    let recover = [
        "volume",
        "recover",
        "a.luks",
        "--identity",
        &identity,
        "--escrow-file",
        escrow,
        "--escrow-to",
        &public,
        "--seal-pcrs",
        "7",
        "--new-pin-file",
        "pin",
    ];
    let (trace, _) = traced(bench.dir(), &bench.tpm, &recover);
    let third = key_of();
    assert_ne!(second, third);
    secrets.extend(now(&third));
    trace.is_clean(&secrets, &content);

    // Asked for, it goes to standard output and nowhere else.
    let show = [
        "volume",
        "recover",
        "a.luks",
        "--identity",
        &identity,
        "--escrow-file",
        escrow,
        "--seal-pcrs",
        "7",
        "--new-pin-file",
        "pin",
        "--show",
    ];
    let (Trace(calls), out) = traced(bench.dir(), &bench.tpm, &show);
    assert_eq!(out.lines().last(), Some(third.as_str()));
    let (asked, others): (Vec<_>, Vec<_>) = calls
        .into_iter()
        .partition(|call| shown(call).contains(" write(1<"));
    let (trace, [text, letters, bytes]) = (Trace(others), recovery(&third));
    secrets.extend(now(&third));
    trace.is_clean(&secrets, &content);
    let sees = |canary: &Canary| {
        asked
            .iter()
            .filter(|call| !canary.find_in("", call).is_empty())
            .count()
    };
    assert_eq!((sees(&text), sees(&letters), sees(&bytes)), (1, 0, 0));
}

#[test]
fn an_image_goes_from_its_file_into_cipher_text_alone() {
    let bench = Bench::new();
    let image = bench.file("image.ext4", vec![0; 4 << 20]);
    let made = Command::new("mke2fs")
        .args(["-q", "-d"])
        .arg(bench.path("content"))
        .arg(&image)
        .output()
        .unwrap();
    assert!(made.status.success());
    let content = Canary::new("PSK", PSK.as_bytes());
    assert!(!content.find_below(&image).is_empty());
    for cipher in ["aes-xts", "adiantum"] {
        let name = format!("{cipher}.luks");
        let arguments = [
            "volume",
            "create",
            &name,
            "--image",
            "image.ext4",
            "--seal-pcrs",
            "7",
            "--cipher",
            cipher,
        ];
        let (trace, _) = traced(bench.dir(), &bench.tpm, &arguments);
        let path = bench.path(&name);
        trace.is_clean(&secrets_of(&path, &bench.tpm, None), &content);
        assert_eq!(trace.sees(&content), 0, "not even in memory is it written");
        assert!(
            trace.count(&format!("{name}>, ")) >= 16,
            "the trace sees the volume written"
        );
        content.assert_absent_below(&path);
    }
}

#[test]
fn apply_keeps_every_secret_in_memory() {
    let station = Station::new();
    let output = Command::new("age-keygen")
        .output()
        .unwrap_or_else(|e| panic!("age-keygen: {e}: apt-get install age"));
    let identity = String::from_utf8(output.stdout).unwrap();
    let public = identity
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "))
        .unwrap();
    fs::write(station.path().join("keeper"), &identity).unwrap();
    fs::write(station.path().join("pin"), PIN).unwrap();
    let text = DEMO
        .replace("seal-pcrs = [7]", "seal-pcrs = [7]\npin = true")
        .replace(
            "[policies.kiosk]\n",
            &format!("[fleet.escrow]\nrecipients = [\"{public}\"]\n\n[policies.kiosk]\n"),
        );
    fs::write(station.path().join("demo.toml"), text).unwrap();

    let arguments = ["apply", "demo.toml", "--pin-file", "pin"];
    let (trace, _) = traced(station.path(), &station.tpm, &arguments);
    let psk = station.run(&[
        "volume",
        "cat",
        "out/kiosk-bern-01.luks",
        "/psk",
        "--pin-file",
        "pin",
    ]);
    assert!(psk.out.starts_with("sbx_"), "{}", psk.err);
    let content = Canary::new("PSK", psk.out.trim().as_bytes());
    let volume = "out/kiosk-bern-01.luks";
    let key = escrowed(
        station.path(),
        volume,
        "keeper",
        "out/kiosk-bern-01.luks.recovery.age",
    );
    trace.is_clean(&secrets_of(&station.volume(), &station.tpm, Some(&key)), &content);
    assert!(trace.sees(&content) > 0, "the trace sees the PSK go into memory");
}
