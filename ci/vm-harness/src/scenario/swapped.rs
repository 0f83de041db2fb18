//! Volumes that are not the device's, with its volume's UUID.
//!
//! Owns: making them, as somebody would who has the disk in hand. *Grafted*: his own volume, with the token of the true one, so that the TPM
//! releases the true passphrase for it. *Foreign*: a volume made by the same programs for another TPM in the very same state. *Planted*: one
//! that he sealed to this very TPM in this state, as a factory does from afar; only the digest of the true volume's key, which the machine has from
//! elsewhere than the disk, tells it apart. Here the job stands for the signed image that a product has it in.
//! And the device's own older one, put back once a younger one was opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::Value;
use volume::Options;

use super::checks::{Expect as _, expect, opened};
use super::{AES, openers};
use crate::arch::SecureBoot;
use crate::error::VmError;
use crate::factory::{self, random, replay};
use crate::guest::{Opener, Verb};
use crate::run::{filter, succeed};
use crate::swtpm::TpmState;
use crate::yard::Yard;

const GRAFTED: &str = "grafted";
const FOREIGN: &str = "foreign";
const PLANTED: &str = "planted";
const OLDER: &str = "older";
const YOUNGER: &str = "younger";

pub(super) fn swapped(yard: &Yard) -> Result<(), VmError> {
    let device = &yard.device;
    let uuid = uuid(&device.aes.path)?;
    let grafted = grafted(yard, &uuid)?;
    let foreign = foreign(yard, &uuid)?;
    let disks = [
        (AES, device.aes.path.as_path()),
        (GRAFTED, &grafted),
        (FOREIGN, &foreign),
        (PLANTED, &device.planted.path),
        (OLDER, &device.older.path),
        (YOUNGER, &device.younger.path),
    ];
    let verbs = |disk| {
        openers(yard.arch)
            .iter()
            .map(move |opener| Verb::Unlock(*opener, disk))
    };
    let mut job: Vec<Verb> = [GRAFTED, FOREIGN, AES].into_iter().flat_map(verbs).collect();
    let swaps = job.len();
    let planted = |expected| Verb::Expect(expected, PLANTED);
    let [old, young] = [OLDER, YOUNGER].map(|disk| Verb::Unlock(Opener::Ours, disk));
    job.extend([
        Verb::Unlock(Opener::Ours, PLANTED),
        planted(device.aes.volume_key),
        Verb::Expect(device.aes.volume_key, AES),
        old.clone(),
        young.clone(),
        old.clone(),
        young.clone(),
    ]);
    let boot = yard.boot(&yard.images.good, SecureBoot::On, &disks, &job)?;
    for verb in job.iter().take(swaps) {
        let Verb::Unlock(opener, disk) = verb else {
            continue;
        };
        let reasons: &[&str] = match (opener, *disk) {
            (_, AES) => {
                // The machine is in the state in which the true one opens.
                opened(&boot.console, verb, 0, &device.aes.psk)?;
                continue;
            }
            (Opener::Ours, GRAFTED) => {
                &["the volume does not open with what this device's key store released"]
            }
            (Opener::Ours, _) => &["the TPM does not release the volume's key"],
            // 2: what the TPM released is no passphrase of this volume. cryptsetup has no words for it.
            (Opener::Stock, GRAFTED) => &["(cryptsetup: 2)"],
            (Opener::Stock, _) => &["Failed to load HMAC key in TPM"],
        };
        expect(&boot.console, verb, 0)?.begins("refused ", reasons)?;
    }
    let console = &boot.console;
    // Without the digest nothing is wrong with it: its header is authentic under what this TPM released.
    opened(
        console,
        &Verb::Unlock(Opener::Ours, PLANTED),
        0,
        &device.planted.psk,
    )?;
    expect(console, &planted(device.aes.volume_key), 0)?.begins("refused ", &["this is another volume"])?;
    opened(
        console,
        &Verb::Expect(device.aes.volume_key, AES),
        0,
        &device.aes.psk,
    )?;
    opened(console, &old, 0, &device.older.psk)?;
    opened(console, &young, 0, &device.younger.psk)?;
    expect(console, &old, 1)?.begins("refused ", &["an older volume was put back"])?;
    opened(console, &young, 1, &device.younger.psk)
}

/// The attacker's own volume, with the UUID and the TPM token of the device's.
fn grafted(yard: &Yard, uuid: &str) -> Result<PathBuf, VmError> {
    let path = yard.runs.join("grafted.luks");
    fs::copy(&yard.device.aes.path, &path).map_err(VmError::file(&path))?;
    let token = token(&path)?;
    let passphrase = random::<32>()?;
    filter(
        cryptsetup(&[
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--key-file",
            "-",
            "--uuid",
            uuid,
        ])
        .args(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"])
        .arg(&path),
        &passphrase,
    )?;
    filter(
        cryptsetup(&["token", "import", "--json-file", "-"]).arg(&path),
        token.as_bytes(),
    )?;
    Ok(path)
}

/// The volume of another device that is in the same state.
fn foreign(yard: &Yard, uuid: &str) -> Result<PathBuf, VmError> {
    let path = yard.runs.join("foreign.luks");
    let other = TpmState::manufacture(&yard.runs.join("foreign-tpm"))?;
    let (_running, tcti) = other.for_tools(&yard.runs.join("foreign-swtpm.log"))?;
    replay(&yard.first.event_log()?, &tcti)?;
    let digits = HEXLOWER_PERMISSIVE.decode(uuid.replace('-', "").as_bytes());
    let bytes = digits.ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| VmError::Missing(format!("UUID in {uuid:?}")))?;
    factory::seal(&tcti, &path, bytes, Options::default())?;
    Ok(path)
}

fn uuid(volume: &Path) -> Result<String, VmError> {
    let text = succeed(cryptsetup(&["luksUUID"]).arg(volume))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// The `systemd-tpm2` token, as JSON.
fn token(volume: &Path) -> Result<String, VmError> {
    let text = succeed(cryptsetup(&["luksDump", "--dump-json-metadata"]).arg(volume))?;
    let header: Value = serde_json::from_slice(&text).map_err(|why| VmError::ours(&why))?;
    let tokens = header.get("tokens").and_then(Value::as_object);
    let found = tokens.into_iter().flat_map(|tokens| tokens.values());
    found
        .into_iter()
        .find(|token| token.get("type").and_then(Value::as_str) == Some("systemd-tpm2"))
        .map(Value::to_string)
        .ok_or_else(|| VmError::Missing(format!("TPM token in {}", volume.display())))
}

pub(super) fn cryptsetup(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/sbin/cryptsetup");
    command.args(arguments);
    command
}
