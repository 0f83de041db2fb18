//! `provisioner evidence golden`: a policy snippet from a device that is as it should be.
//!
//! Owns: what the snippet says beside the values. It holds what this device's PCRs are now; whether that is what they
//! should be is for whoever runs it to know. The log explains the values where it replays to them, and nothing else.
//! Refuses PCRs into which nothing was measured, unless asked, and PCRs that any program resets, always.

use std::{fmt::Write as _, path::PathBuf};

use domain::{PcrIndex, PcrSelection, PcrValue, PcrValues};
use evidence::EventLog;
use serde_json::json;
use tpm::Tcti;

use super::{not_evidence, read};
use crate::{
    boot::{pcr_meaning, summary},
    cli::GoldenArgs,
    commands::Answer,
    failure::Failure,
    report::Reporter,
};

/// Events that are shown of one PCR.
const MOST_EVENTS: usize = 24;

pub(super) fn run(args: &GoldenArgs, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    let selection = args.pcrs.0;
    if let Some(pcr) = selection.iter().find(|pcr| pcr.is_resettable()) {
        return Err(Failure::Usage(
            format!("PCR {pcr} can be reset by any program, so it proves nothing"),
            Some("leave out 16 and 23".to_owned()),
        ));
    }
    let values = {
        let mut tpm = tpm::Tpm::open(&args.tcti).map_err(Failure::BareTpm)?;
        tpm.read_pcrs(&selection).map_err(Failure::BareTpm)?
    };
    let empty: Vec<PcrIndex> = values
        .iter()
        .filter(|(_, value)| value.is_uninitialised())
        .map(|(pcr, _)| pcr)
        .collect();
    if !empty.is_empty() && !args.allow_uninitialised {
        return Err(Failure::Unmeasured(empty));
    }
    let bytes = log_bytes(args)?;
    let log = match &bytes {
        Some((path, bytes)) => {
            Some(EventLog::parse(bytes).map_err(|error| not_evidence("event log", path, error))?)
        }
        None => None,
    };
    let text = snippet(args, &values, log.as_ref(), !empty.is_empty());
    let pcrs: serde_json::Map<String, serde_json::Value> = values
        .iter()
        .map(|(pcr, value)| (pcr.to_string(), value.to_string().into()))
        .collect();
    let json = json!({
        "bank": selection.bank().to_string(),
        "pcrs": pcrs,
        "explained-by-log": log.is_some_and(|log| log.prove(&values).is_ok()),
        "toml": text,
    });
    reporter.data(&text, &json)?;
    Ok(Answer::Done)
}

/// The log that was named; or the kernel's, where the TPM is this machine's own and has one.
fn log_bytes(args: &GoldenArgs) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let path = match &args.event_log {
        Some(path) => path.clone(),
        None => match kernels_log(&args.tcti).filter(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let bytes = read(&path)?;
    Ok(Some((path, bytes)))
}

/// Where the kernel shows the log of `device:/dev/tpmrm0` or `device:/dev/tpm0`.
fn kernels_log(tcti: &Tcti) -> Option<PathBuf> {
    let tcti = tcti.to_string();
    let device = tcti.strip_prefix("device:/dev/tpm")?;
    let number: u32 = device.strip_prefix("rm").unwrap_or(device).parse().ok()?;
    Some(format!("/sys/kernel/security/tpm{number}/binary_bios_measurements").into())
}

fn snippet(args: &GoldenArgs, values: &PcrValues, log: Option<&EventLog<'_>>, uninitialised: bool) -> String {
    let policy = &args.name;
    let mut out = format!(
        "# What a quote must show: the PCRs of one device as they were when this was written. Goes into a manifest, below\n\
         # [policies.{policy}]. It is a good policy only if the device was in a good state, and is due again after whatever\n\
         # changes one of these. {}\n\
         [policies.{policy}.evidence]\n\
         bank = \"{}\"\n",
        match log {
            Some(_) =>
                "What the event log says was measured is beside each; types and texts are the firmware's word.",
            None => "No event log was at hand, so what was measured is not known.",
        },
        values.selection().bank()
    );
    if values.selection().bank() == domain::HashAlg::Sha1 {
        out.push_str("allow-sha1 = true # SHA-1 collides: take another bank if the TPM has one\n");
    }
    if uninitialised {
        out.push_str("allow-uninitialised = true # nothing was measured into some of these: any machine can show them\n");
    }
    let _never_fails = writeln!(out, "\n[policies.{policy}.evidence.pcrs]");
    for (pcr, value) in values.iter() {
        let _never_fails = writeln!(out, "# PCR {pcr}: {}", pcr_meaning(pcr));
        if let Some(log) = log {
            out.push_str(&measured(log, pcr, &value));
        }
        let _never_fails = writeln!(out, "{pcr} = \"{value}\"");
    }
    out
}

/// Comments that say what was measured into a PCR, if the log replays to its value.
fn measured(log: &EventLog<'_>, pcr: PcrIndex, value: &PcrValue) -> String {
    let alone = PcrSelection::new(value.bank(), [pcr]).ok();
    let Some(alone) = alone.and_then(|one| PcrValues::new(one, value.as_bytes().to_vec()).ok()) else {
        return String::new();
    };
    match log.clone().prove(&alone) {
        Err(why) => format!("#   the event log does not explain this value: {why}\n"),
        Ok(proven) if proven.events().is_empty() => "#   nothing\n".to_owned(),
        Ok(proven) => {
            let mut out = String::new();
            for event in proven.events().iter().take(MOST_EVENTS) {
                let _never_fails = writeln!(out, "#   {} {}: {}", event.number, event.kind, summary(event));
            }
            match proven.events().len().saturating_sub(MOST_EVENTS) {
                0 => {}
                more => {
                    let _never_fails = writeln!(out, "#   and {more} more");
                }
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_log_is_that_of_the_same_tpm() {
        let log = |tcti: &str| kernels_log(&tcti.parse().unwrap());
        let path = |n| {
            Some(PathBuf::from(format!(
                "/sys/kernel/security/tpm{n}/binary_bios_measurements"
            )))
        };
        assert_eq!(log("device:/dev/tpmrm0"), path(0));
        assert_eq!(log("device:/dev/tpm1"), path(1));
        assert_eq!(log("device:/dev/tpm1x"), None);
        assert_eq!(log("swtpm:host=127.0.0.1,port=2321"), None);
    }
}
