//! `provisioner evidence check`: is this a good quote, as far as these files can tell?
//!
//! Owns: the words of the verdict. It names every check, those too that could not be made, and says "attested" of no
//! more than was checked.

use std::{fmt::Write as _, path::Path};

use data_encoding::HEXLOWER;
use domain::{PcrValues, TpmPublic};
use evidence::{
    DeclaredPolicy, EndorsementKey, Evidence,
    offline::{Case, Check, Examination, Key, NotEvidence, Outcome, Subject, examine},
};
use serde_json::{Value, json};

use super::{not_evidence, read};
use crate::{adapters, cli::CheckArgs, commands::Answer, failure::Failure, pcr_file, report::Reporter};

pub(super) fn run(args: &CheckArgs, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    let key = key(args)?;
    let (quote, signature) = (read(&args.quote)?, read(&args.signature)?);
    let pcrs = pcr_file::values(&read(&args.pcrs)?);
    let event_log = args.event_log.as_deref().map(read).transpose()?;
    let image_statement = args.image_statement.as_deref().map(read).transpose()?;
    let declared = args.policy.as_deref().map(policy).transpose()?;
    // End dates of golden sets are judged by this machine's clock.
    let policy = declared
        .as_ref()
        .map(|declared| declared.policy().at(adapters::real().clock.now()));
    let sha1 = declared.as_ref().is_some_and(DeclaredPolicy::allows_sha1);
    let nonce = args.nonce.nonce.as_ref().or(args.nonce.qualifying_data.as_ref());
    let case = Case {
        evidence: Evidence {
            quote: &quote,
            signature: &signature,
            pcrs: &pcrs,
        },
        key: &key,
        qualifying_data: nonce.map(|hex| hex.0.as_slice()).unwrap_or_default(),
        policy: policy.as_ref(),
        event_log: event_log.as_deref(),
        image_statement: image_statement.as_deref(),
        allow_sha1: args.allow_sha1 || sha1,
    };
    let found = examine(&case).map_err(|error| match error {
        NotEvidence::Quote(_) => not_evidence("quote", &args.quote, error),
        NotEvidence::Signature(_) => not_evidence("signature", &args.signature, error),
        NotEvidence::Key(_) => not_evidence("attestation key", &args.ak, error),
    })?;
    reporter.data(&text(&found), &json_of(&found))?;
    Ok(if found.is_refused() {
        Answer::Refused
    } else {
        Answer::Done
    })
}

fn key(args: &CheckArgs) -> Result<Key, Failure> {
    let key =
        Key::read(&read(&args.ak)?).map_err(|error| not_evidence("attestation key", &args.ak, error))?;
    if let Some(name) = &args.qualified_name {
        let name = name.0.clone().try_into();
        let name = name.map_err(|error: domain::tpm::InvalidLength| {
            Failure::Usage(format!("--qualified-name: {error}"), None)
        })?;
        return Ok(key.with_qualified_name(name));
    }
    let Some(path) = &args.ek else { return Ok(key) };
    let ek = endorsement_key(path)?;
    if key.is_bare() {
        let hint = "give the key as tpm2_createak or `tpm2_readpublic -f tss` write it, or --qualified-name";
        return Err(Failure::Usage(
            "from --ek and a key in PEM no qualified name follows: the key's attributes are part of it"
                .to_owned(),
            Some(hint.to_owned()),
        ));
    }
    Ok(key.child_of(&ek))
}

/// An EK's public area, TPM2B_PUBLIC or TPMT_PUBLIC.
pub(super) fn endorsement_key(path: &Path) -> Result<EndorsementKey, Failure> {
    let bytes = read(path)?;
    let area = match bytes.split_first_chunk::<2>() {
        Some((size, rest)) if usize::from(u16::from_be_bytes(*size)) == rest.len() => rest,
        _ => &bytes,
    };
    let public = TpmPublic::try_from(area.to_vec()).map_err(|e| not_evidence("endorsement key", path, e))?;
    EndorsementKey::new(&public).map_err(|error| not_evidence("endorsement key", path, error))
}

fn policy(path: &Path) -> Result<DeclaredPolicy, Failure> {
    let text = String::from_utf8(read(path)?).map_err(|error| not_evidence("policy", path, error))?;
    manifest::parse_evidence(&path.display().to_string(), &text)
        .map_err(|diagnostics| Failure::Manifest(Box::new(diagnostics)))
}

fn text(found: &Examination) -> String {
    let mut out = String::new();
    for Check { subject, outcome } in found.checks() {
        let (word, sentences) = match outcome {
            Outcome::Passed(said) => ("ok", std::slice::from_ref(said)),
            Outcome::Failed(reasons) => ("FAILED", reasons.as_slice()),
            Outcome::NotMade(why) => ("not checked", std::slice::from_ref(why)),
        };
        let label = label(*subject);
        for (nth, sentence) in sentences.iter().enumerate() {
            let (word, label) = if nth == 0 { (word, label) } else { ("", "") };
            let _never_fails = writeln!(out, "{word:<11}  {label:<15}  {sentence}");
        }
    }
    let _never_fails = writeln!(out, "\n{}", verdict(found));
    out
}

/// The last line: what the verdict rests on.
fn verdict(found: &Examination) -> String {
    let (passed, failed, not_made) = found.counts();
    if failed > 0 {
        let s = if failed == 1 { "" } else { "s" };
        return format!("refused: {failed} check{s} failed, {passed} passed, {not_made} not made");
    }
    let open: Vec<&str> = found
        .checks()
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::NotMade(_)))
        .map(|check| label(check.subject))
        .collect();
    format!(
        "attested, as far as was checked: {passed} checks passed; not checked: {}",
        open.join(", ")
    )
}

const fn label(subject: Subject) -> &'static str {
    match subject {
        Subject::QualifyingData => "nonce",
        Subject::PcrValues => "PCR values",
        Subject::EventLog => "event log",
        other => other.name(),
    }
}

fn json_of(found: &Examination) -> Value {
    let checks: Vec<Value> = found
        .checks()
        .iter()
        .map(|Check { subject, outcome }| {
            let (word, sentences) = match outcome {
                Outcome::Passed(said) => ("ok", vec![said.clone()]),
                Outcome::Failed(reasons) => ("failed", reasons.clone()),
                Outcome::NotMade(why) => ("not-checked", vec![why.clone()]),
            };
            json!({ "check": subject.name(), "outcome": word, "details": sentences })
        })
        .collect();
    let names = |wanted: &str| -> Vec<Value> {
        let of = |check: &&Value| check.get("outcome").and_then(Value::as_str) == Some(wanted);
        checks
            .iter()
            .filter(of)
            .filter_map(|check| check.get("check").cloned())
            .collect()
    };
    let statement = found.statement();
    let pcrs: serde_json::Map<String, Value> = found.quoted_values().iter().map(bank).collect();
    json!({
        "verdict": if found.is_refused() { "refused" } else { "attested" },
        "failed": names("failed"),
        "not-checked": names("not-checked"),
        "checks": checks,
        "quote": {
            "qualified-signer": HEXLOWER.encode(&statement.qualified_signer),
            "qualifying-data": HEXLOWER.encode(&statement.extra_data),
            "clock": statement.clock,
            "reset-count": statement.reset_count,
            "restart-count": statement.restart_count,
            "safe": statement.safe,
            "firmware-version": format!("{:#018x}", statement.firmware_version),
            "selection": statement.selection,
        },
        "pcrs": pcrs,
    })
}

fn bank(values: &PcrValues) -> (String, Value) {
    let list: serde_json::Map<String, Value> = values
        .iter()
        .map(|(pcr, value)| (pcr.to_string(), value.to_string().into()))
        .collect();
    (values.selection().bank().to_string(), list.into())
}
