//! What systemd seals, we unseal: the proof that our storage primary is systemd's, in both directions, since a primary is
//! a function of its template.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Command, Output, Stdio},
};

use data_encoding::{BASE64, HEXLOWER};
use domain::{HashAlg, PcrIndex, PcrSelection};
use testkit::Swtpm;
use tpm::{SealedObject, Tpm, UnsealError};

fn run(command: &mut Command, package: &str) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{:?}: {e}: apt-get install {package}", command.get_program()));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn a_volume_that_systemd_enrolled_opens() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let volume = swtpm.dir().join("volume");
    File::create(&volume).unwrap().set_len(32 << 20).unwrap();
    fs::write(swtpm.dir().join("password"), "first").unwrap();
    let fast = [
        "--type",
        "luks2",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
    ];
    run(
        Command::new("cryptsetup")
            .current_dir(swtpm.dir())
            .args(["luksFormat", "--batch-mode", "volume", "password"])
            .args(fast),
        "cryptsetup-bin",
    );
    run(
        Command::new("systemd-cryptenroll")
            .env("PASSWORD", "first")
            .arg(format!("--tpm2-device={}", swtpm.tcti()))
            .arg("--tpm2-pcrs=7")
            .arg(&volume),
        "systemd",
    );
    // systemd 252 leaves its session behind.
    swtpm.tool("tpm2_flushcontext", &["-l"]);
    let dump = Command::new("cryptsetup")
        .args(["luksDump", "--dump-json-metadata"])
        .arg(&volume)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&dump.stdout).unwrap();
    let token = &metadata["tokens"]["0"];
    assert_eq!(token["type"], "systemd-tpm2");
    let text = |field: &str| token[field].as_str().unwrap();
    let object = SealedObject {
        private_then_public: BASE64.decode(text("tpm2-blob").as_bytes()).unwrap(),
        policy_hash: HEXLOWER
            .decode(text("tpm2-policy-hash").as_bytes())
            .unwrap()
            .try_into()
            .unwrap(),
        primary_alg: text("tpm2-primary-alg").parse().unwrap(),
    };
    let pcrs = PcrSelection::new(HashAlg::Sha256, [PcrIndex::try_from(7).unwrap()]).unwrap();

    let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
    let passphrase = tpm
        .unseal(&object, &pcrs)
        .unwrap()
        .expose(|secret| BASE64.encode(secret));
    let mut open = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--key-slot", "1", "--key-file", "-"])
        .arg(&volume)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    open.stdin
        .take()
        .unwrap()
        .write_all(passphrase.as_bytes())
        .unwrap();
    assert!(open.wait().unwrap().success());

    drop(tpm);
    swtpm.extend(7, b"another boot");
    let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
    assert_eq!(
        tpm.unseal(&object, &pcrs).err(),
        Some(UnsealError::PolicyMismatch(pcrs))
    );
}
