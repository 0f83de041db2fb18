//! `provisioner evidence ek`: is this certificate a genuine TPM's, by the word of these roots?
//!
//! Owns: the reading of the folder, hidden files and folders in it left out; and that a file with several certificates
//! is the EK's and, after it, the intermediates that came along. Nothing is fetched.

use std::fmt::Write as _;

use domain::UnixTime;
use evidence::{
    EkCertificate, EndorsementKey, Roots,
    certificate::{ChainBreak, certificates_in},
    verify_ek_certificate,
};
use serde_json::json;

use super::{check::endorsement_key, not_evidence, read};
use crate::{adapters, cli::EkArgs, commands::Answer, ek_roots, failure::Failure, report::Reporter};

pub(super) fn run(args: &EkArgs, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    let file = read(&args.cert)?;
    // What cannot be cut is left whole, so that the reading below tells why.
    let sent = certificates_in(&file).unwrap_or_default();
    let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    let (certificate, intermediates) = sent
        .split_first()
        .map_or((&file[..], &[][..]), |(ek, rest)| (*ek, rest));
    let files = ek_roots::files(&args.roots)?;
    let roots = Roots::read(
        files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    );
    let roots = if args.allow_sha1 {
        roots.allowing_sha1_intermediates()
    } else {
        roots
    };
    let ek = args.ek.as_deref().map(endorsement_key).transpose()?;
    let now = adapters::real().clock.now();
    let unreadable: Vec<String> = roots.unreadable().iter().map(ToString::to_string).collect();
    let roots_known = roots.root_subjects().count();
    let mut text = String::new();
    for file in &unreadable {
        let _never_fails = writeln!(text, "left out     {file}");
    }
    let mut json = json!({
        "roots": roots_known,
        "intermediates": roots.intermediate_count(),
        "unreadable": unreadable,
        "checked-at": now,
    });
    let mut say = |key: &str, value: serde_json::Value| {
        if let Some(object) = json.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    let answer = match verify_ek_certificate(certificate, intermediates, &roots, now) {
        Err(error) if error.depth() == 0 && matches!(error.reason(), ChainBreak::Unreadable(_)) => {
            return Err(not_evidence("EK certificate", &args.cert, error));
        }
        Err(error) => {
            let _never_fails = writeln!(text, "refused: {error}");
            let hint = error.hint();
            if let Some(hint) = &hint {
                let _never_fails = writeln!(text, "hint: {hint}");
            }
            say("verdict", "refused".into());
            say("reason", error.to_string().into());
            say(
                "breaks-at",
                json!({ "depth": error.depth(), "subject": error.certificate() }),
            );
            say("issuer-urls", json!(error.issuer_urls()));
            say("hint", json!(hint));
            Answer::Refused
        }
        Ok(verified) => {
            text.push_str(&chain(&verified));
            say("chain", json!(verified.chain_subjects()));
            say("certificate", json!(verified.digest()));
            say("root", json!(verified.root_digest()));
            say("ek", json!(verified.ek_digest()));
            say("maker", json!(verified.maker().map(|maker| maker.to_string())));
            say("model", json!(verified.model()));
            say("firmware", json!(verified.firmware_text()));
            let (answer, verdict) = judge(&verified, ek.as_ref());
            let _never_fails = writeln!(text, "\n{verdict}");
            let word = if answer == Answer::Done {
                "trusted"
            } else {
                "refused"
            };
            say("verdict", word.into());
            say("reason", verdict.into());
            answer
        }
    };
    reporter.data(&text, &json)?;
    Ok(answer)
}

fn judge(verified: &EkCertificate, ek: Option<&EndorsementKey>) -> (Answer, String) {
    match ek.map(|ek| verified.matches(ek)) {
        Some(Err(other)) => (Answer::Refused, format!("refused: {other}")),
        Some(Ok(())) => (
            Answer::Done,
            format!("trusted: the endorsement key is that of {verified}"),
        ),
        None => (
            Answer::Done,
            format!(
                "trusted: a certificate of {verified}; not checked: whether a TPM at hand has this key, give its public \
                 area with --ek"
            ),
        ),
    }
}

fn chain(verified: &EkCertificate) -> String {
    let mut out = String::new();
    for (depth, subject) in verified.chain_subjects().iter().enumerate() {
        let what = match depth {
            0 => "EK certificate",
            _ if depth.saturating_add(1) == verified.chain_subjects().len() => "root",
            _ => "intermediate",
        };
        let subject = if subject.is_empty() {
            "(no subject)"
        } else {
            subject
        };
        let _never_fails = writeln!(out, "{what:<14}  {subject}");
    }
    let validity = verified.validity();
    let _never_fails = writeln!(
        out,
        "holds           {} to {}\nEK              {} (SHA-256 of its public key, as the registry and allow-lists name it)",
        day(validity.not_before),
        validity.not_after.map_or_else(|| "without end".to_owned(), day),
        verified.ek_digest()
    );
    out
}

/// `2026-11-22`, for a person.
fn day(time: UnixTime) -> String {
    let since = std::time::Duration::from_secs(time.as_secs());
    let date = std::time::UNIX_EPOCH
        .checked_add(since)
        .map(|time| humantime::format_rfc3339_seconds(time).to_string());
    date.and_then(|text| text.get(..10).map(ToOwned::to_owned))
        .unwrap_or_else(|| "far away".to_owned())
}
