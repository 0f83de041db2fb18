//! What a machine measured, and what `provisioner evidence` makes of it.
//!
//! Owns: the files that remain for others: `artefacts/` of each architecture has the event log of a real boot with Secure Boot on, and a quote.

use std::fs;
use std::path::Path;
use std::process::Command;

use data_encoding::HEXLOWER;

use super::checks::{secure_boot, unless};
use crate::error::VmError;
use crate::factory::{self, random, replay};
use crate::machine::Boot;
use crate::run::{run, succeed};
use crate::yard::Yard;

/// The attestation key that `provisioner apply` makes unless told otherwise.
const AK: &str = "0x81010020";
/// Judges the boot by what it must be, whatever the PCRs hold.
const RULES: &str =
    "[policies.vm.evidence]\nbank = \"sha256\"\n\n[policies.vm.evidence.log]\nsecure-boot = true\n";

/// 32 bytes that were never there before, as text.
pub(super) fn nonce() -> Result<String, VmError> {
    Ok(HEXLOWER.encode(&random::<32>()?))
}

/// The first boot. That its log replays to its PCRs was seen when the device was provisioned: without it there is no device.
pub(super) fn measured(yard: &Yard) -> Result<(), VmError> {
    secure_boot(&yard.first, true)?;
    let path = yard.first.results.join("binary_bios_measurements");
    let text = succeed(
        Command::new(yard.programs.join("provisioner"))
            .args(["evidence", "log"])
            .arg(&path),
    )?;
    let text = String::from_utf8_lossy(&text).into_owned();
    for said in [
        "Secure Boot is on",
        "vouched for by a key in db",
        ".linux",
        ".initrd",
        ".cmdline",
    ] {
        unless(
            text.contains(said),
            || format!("{said:?} in the event log"),
            || text.clone(),
        )?;
    }
    keep(yard, &path, "binary_bios_measurements")
}

/// A quote that `edge-client` made inside is good for the provisioned policy and its own log, and for rules on that log.
pub(super) fn quote_from_inside(yard: &Yard, boot: &Boot) -> Result<(), VmError> {
    let quote = boot.results.join("quote");
    for file in [
        "ak.pub",
        "quote.msg",
        "quote.sig",
        "quote.pcrs",
        "qualifying-data",
    ] {
        keep(yard, &quote.join(file), &format!("quote/{file}"))?;
    }
    let path = quote.join("qualifying-data");
    let bound = fs::read_to_string(&path).map_err(VmError::file(&path))?;
    let log = boot.results.join("binary_bios_measurements");
    let rules = rules(yard)?;
    for policy in [&yard.device.policy, &rules] {
        let (code, text) = check(yard, &quote, &["--qualifying-data", bound.trim()], &log, policy)?;
        unless(
            code == Some(0),
            || format!("a quote that is attested by {}", policy.display()),
            || text,
        )?;
    }
    Ok(())
}

/// The same TPM in the state of a boot without Secure Boot: its quote and log are genuine, and the rule refuses them.
pub(super) fn insecure_log_is_refused(yard: &Yard, boot: &Boot) -> Result<(), VmError> {
    let folder = boot.results.join("quote");
    fs::create_dir(&folder).map_err(VmError::file(&folder))?;
    let tpm = yard.device.tpm.copy(&folder.join("tpm"))?;
    let (running, tcti) = tpm.for_tools(&folder.join("swtpm.log"))?;
    replay(&boot.event_log()?, &tcti)?;
    let nonce = nonce()?;
    let tool = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&folder).env("TPM2TOOLS_TCTI", &tcti);
        command
    };
    succeed(
        tool("tpm2_quote")
            .args(["-c", AK, "-l", "sha256:7,8,12", "-q", &nonce])
            .args(["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs"]),
    )?;
    succeed(tool("tpm2_readpublic").args(["-c", AK, "-f", "tss", "-o", "ak.pub"]))?;
    drop(running);
    let log = boot.results.join("binary_bios_measurements");
    let (code, text) = check(yard, &folder, &["--nonce", &nonce], &log, &rules(yard)?)?;
    unless(
        code == Some(3) && text.to_lowercase().contains("secure boot"),
        || "a refusal that names Secure Boot".to_owned(),
        || text,
    )
}

fn check(
    yard: &Yard,
    quote: &Path,
    nonce: &[&str],
    log: &Path,
    policy: &Path,
) -> Result<(Option<i32>, String), VmError> {
    let file = |name: &str| quote.join(name);
    let ended = run(Command::new(yard.programs.join("provisioner"))
        .args(["evidence", "check", "--ak"])
        .arg(file("ak.pub"))
        .arg("--quote")
        .arg(file("quote.msg"))
        .arg("--signature")
        .arg(file("quote.sig"))
        .arg("--pcrs")
        .arg(file("quote.pcrs"))
        .args(nonce)
        .arg("--event-log")
        .arg(log)
        .arg("--policy")
        .arg(policy))?;
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    Ok((ended.code, text))
}

fn rules(yard: &Yard) -> Result<std::path::PathBuf, VmError> {
    let path = yard.runs.join(format!("{}-rules.toml", factory::DEVICE));
    fs::write(&path, RULES).map_err(VmError::file(&path))?;
    Ok(path)
}

fn keep(yard: &Yard, file: &Path, name: &str) -> Result<(), VmError> {
    let to = yard.artefacts.join(name);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(VmError::file(folder))?;
    }
    fs::copy(file, &to).map(drop).map_err(VmError::file(file))
}
