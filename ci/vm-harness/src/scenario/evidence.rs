//! What a machine measured, and what `provisioner evidence` makes of it.
//!
//! Owns: the files that remain for others: `artefacts/` of each architecture has the event log of a real boot with Secure Boot on, and a quote.

use std::fs;
use std::path::{Path, PathBuf};
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
/// The PCRs that `edge-client` quotes for this device, in a list; and those with the ones that a rule on command lines is about.
const QUOTED: &str = "0,2,4,7,11";
const WITH_COMMAND_LINES: &str = "0,2,4,7,8,11,12";

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
    let rules = rules(yard, "")?;
    for policy in [&yard.device.policy, &rules] {
        let (code, text) = check(yard, &quote, &["--qualifying-data", bound.trim()], &log, policy)?;
        unless(
            code == Some(0),
            || format!("a quote that is attested by {}", policy.display()),
            || text,
        )?;
    }
    command_line_is_refused(yard, boot)
}

/// The command line is in the image, of which only a digest was measured, into PCR 11: a rule that wants to read one says so.
fn command_line_is_refused(yard: &Yard, boot: &Boot) -> Result<(), VmError> {
    let policy = rules(yard, "command-line = [\"console=**\"]\n")?;
    let quote = quote_outside(yard, boot, WITH_COMMAND_LINES)?;
    refused(yard, boot, &quote, &policy, "no kernel command line was measured")
}

/// The same TPM in the state of a boot without Secure Boot: its quote and log are genuine, and the rules refuse them.
pub(super) fn insecure_log_is_refused(yard: &Yard, boot: &Boot) -> Result<(), VmError> {
    let quote = quote_outside(yard, boot, QUOTED)?;
    refused(yard, boot, &quote, &rules(yard, "")?, "secure boot is off")
}

/// A quote that stock tools made, and what it answers.
struct Quote {
    folder: PathBuf,
    nonce: String,
}

/// Of a copy of the device's TPM, once the log of this boot was replayed to it.
fn quote_outside(yard: &Yard, boot: &Boot, pcrs: &str) -> Result<Quote, VmError> {
    // A comma would end a path in swtpm's arguments.
    let folder = boot.results.join(format!("outside-{}", pcrs.replace(',', "-")));
    fs::create_dir(&folder).map_err(VmError::file(&folder))?;
    let tpm = yard.device.tpm.copy(&folder.join("tpm"))?;
    let (_running, tcti) = tpm.for_tools(&folder.join("swtpm.log"))?;
    replay(&boot.event_log()?, &tcti)?;
    let nonce = nonce()?;
    let tool = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&folder).env("TPM2TOOLS_TCTI", &tcti);
        command
    };
    let list = format!("sha256:{pcrs}");
    succeed(
        tool("tpm2_quote")
            .args(["-c", AK, "-l", &list, "-q", &nonce])
            .args(["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs"]),
    )?;
    succeed(tool("tpm2_readpublic").args(["-c", AK, "-f", "tss", "-o", "ak.pub"]))?;
    Ok(Quote { folder, nonce })
}

/// Nothing but the rules is against it, in these words.
fn refused(yard: &Yard, boot: &Boot, quote: &Quote, policy: &Path, words: &str) -> Result<(), VmError> {
    let log = boot.results.join("binary_bios_measurements");
    let (code, text) = check(yard, &quote.folder, &["--nonce", &quote.nonce], &log, policy)?;
    unless(
        code == Some(3) && text.to_lowercase().contains(words) && !text.contains("other PCRs are quoted"),
        || format!("a refusal that says {words:?}"),
        || text.clone(),
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

/// Judges a boot by what it must be, whatever is in the PCRs: Secure Boot, its keys as the first machine's kernel shows them, and that the
/// one key in db let the image start.
fn rules(yard: &Yard, more: &str) -> Result<PathBuf, VmError> {
    let variable = |name: &str| {
        let found = yard.first.console.variable(name);
        found.ok_or_else(|| VmError::Missing(format!("variable {name} of Secure Boot")))
    };
    let mut text = format!(
        "[policies.vm.evidence]\nbank = \"sha256\"\n\n[policies.vm.evidence.log]\nsecure-boot = true\n\
         authorities = [\"{}\"]\nreplays = [0, 2, 4, 11]\n{more}\n[policies.vm.evidence.log.keys]\n",
        variable("db-entry")?
    );
    for name in ["PK", "KEK", "db", "dbx"] {
        text.push_str(&format!("{name} = [\"{}\"]\n", variable(name)?));
    }
    let name = if more.is_empty() { "rules" } else { "command-line" };
    let path = yard.runs.join(format!("{}-{name}.toml", factory::DEVICE));
    fs::write(&path, text).map_err(VmError::file(&path))?;
    Ok(path)
}

fn keep(yard: &Yard, file: &Path, name: &str) -> Result<(), VmError> {
    let to = yard.artefacts.join(name);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(VmError::file(folder))?;
    }
    fs::copy(file, &to).map(drop).map_err(VmError::file(file))
}
