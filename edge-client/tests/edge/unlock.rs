//! `edge-client unlock`: who gets the passphrase, and that stock cryptsetup opens the volume with it.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    process::{Command, Stdio},
};

use crate::support::{Device, run, stderr};

const PROXY: &str = "http://127.0.0.1:1";

/// Does this passphrase open the volume's keyslot, in cryptsetup's eyes?
pub(crate) fn cryptsetup_opens(volume: &str, passphrase: &[u8]) -> bool {
    let mut child = Command::new("/usr/sbin/cryptsetup")
        .args(["open", "--test-passphrase", "--key-file", "-", volume])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("apt-get install cryptsetup-bin");
    child.stdin.take().unwrap().write_all(passphrase).unwrap();
    child.wait().unwrap().success()
}

#[test]
fn cryptsetup_opens_with_what_comes_through_the_pipe() {
    let device = Device::new(PROXY);
    let output = device.run(&["unlock"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(cryptsetup_opens(&device.volume(), &output.stdout));
    assert!(!cryptsetup_opens(&device.volume(), b"something else"));
    assert!(stderr(&output).is_empty());
}

#[test]
fn nothing_is_written_to_a_file() {
    let device = Device::new(PROXY);
    let file = device.dir.path().join("key");
    let (volume, tcti) = (device.volume(), device.swtpm.tcti());
    let output = Command::new(env!("CARGO_BIN_EXE_edge-client"))
        .args(["unlock", "--volume", &volume, "--tcti", &tcti])
        .stdout(File::create(&file).unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("error: stdout is not a pipe\nhint: "),
        "{}",
        stderr(&output)
    );
    assert!(fs::read(&file).unwrap().is_empty());
}

#[test]
fn opens_once_when_a_sealed_pcr_is_extended_afterwards() {
    let device = Device::new(PROXY);
    let first = device.run(&["unlock", "--extend", "7"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let second = device.run(&["unlock"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());
    assert!(
        stderr(&second).contains("does not release"),
        "{}",
        stderr(&second)
    );
}

#[test]
fn a_changed_header_gets_nothing_and_closes_the_way_for_the_true_one() {
    let device = Device::new(PROXY);
    let whole = fs::read(device.volume()).unwrap();
    // Both headers gone: nothing in this file can be believed.
    let file = File::options().write(true).open(device.volume()).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    let refused = device.run(&["unlock", "--extend", "7"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
    fs::write(device.volume(), whole).unwrap();
    let later = device.run(&["unlock"]);
    assert_eq!(later.status.code(), Some(1));
    assert!(later.stdout.is_empty());
}

#[test]
fn a_passphrase_that_could_be_asked_for_again_is_kept_back() {
    let device = Device::new(PROXY);
    // PCR 24 does not exist, and is refused before anything is done.
    let output = device.run(&["unlock", "--extend", "24"]);
    assert_eq!(output.status.code(), Some(2));
    // PCR 18 is extended at localities 1 to 4 only.
    let output = device.run(&["unlock", "--extend", "18"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("kept back"), "{}", stderr(&output));
}

#[test]
fn a_tpm_that_is_not_there_releases_nothing_and_both_failures_are_told() {
    let device = Device::new(PROXY);
    let nowhere = "swtpm:host=127.0.0.1,port=1";
    let output = run(&[
        "unlock",
        "--volume",
        &device.volume(),
        "--tcti",
        nowhere,
        "--extend",
        "7",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = stderr(&output);
    assert!(
        said.contains("cannot be closed either") && said.contains("error: "),
        "{said}"
    );
}
