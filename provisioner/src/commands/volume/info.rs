//! `volume info`: what a header says, without any key. One that is not opened here is described all the same, with the reason.
//!
//! Owns: the words. Refuses headers that break the rules of LUKS2, which say nothing. All of it is the word of whoever wrote the header: only opening authenticates it.

use std::{fs::File, path::Path};

use data_encoding::HEXLOWER;
use domain::Generation;
use serde_json::{Value, json};
use tpm::PolicyKey;
use volume::{Description, Header, InspectError, KeyslotId, OtpToken, TokenError, TokenPin, Tpm2Token};

use super::{file_fault, unopened};
use crate::{failure::Failure, report::Reporter, tokens::object};

pub(super) fn run(path: &Path, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let file = File::open(path).map_err(file_fault("open", path))?;
    match volume::inspect(&file) {
        Ok(header) => reporter.data(&text(path, &header), &json(&header)),
        Err(InspectError::Unsupported(_)) => {
            let described = volume::describe(&file).map_err(|e| unopened(path, e))?;
            reporter.data(&foreign_text(path, &described), &foreign_json(&described))
        }
        Err(e) => Err(unopened(path, e)),
    }
}

/// A header that is not opened here.
fn foreign_text(path: &Path, header: &Description) -> String {
    let mut text = format!("LUKS2 volume {}\n", path.display());
    let mut line =
        |label: &str, value: &str| text.push_str(&format!("  {label:<9} {}\n", value.escape_debug()));
    line("uuid", &header.uuid);
    if !header.label.is_empty() {
        line("label", &header.label);
    }
    for segment in &header.segments {
        let cipher = segment.cipher.as_deref().unwrap_or("no cipher");
        let len = segment
            .len
            .map_or("to the end".to_owned(), |len| format!("{len} bytes"));
        let mut said = format!("{}: {cipher}, {len} from {}", segment.kind, segment.offset);
        if let Some(sector) = segment.sector {
            said.push_str(&format!(", sectors of {sector} bytes"));
        }
        if let Some(integrity) = &segment.integrity {
            said.push_str(&format!(", integrity {integrity}"));
        }
        line("segment", &said);
    }
    line(
        "header",
        &format!("{}, written {} times", header.copy, header.seqid),
    );
    for keyslot in &header.keyslots {
        let kdf = keyslot.kdf.as_deref().unwrap_or("no key derivation");
        let said = format!(
            "{}: {}, a key of {} bits, {kdf}",
            keyslot.number, keyslot.kind, keyslot.key_bits
        );
        line("keyslot", &said);
    }
    for token in &header.tokens {
        line("token", &format!("of the type {token}"));
    }
    if !header.requirements.is_empty() {
        line("requires", &header.requirements.join(", "));
    }
    let why = header.refused.as_ref().map(ToString::to_string);
    line("refused", &why.unwrap_or_default());
    text
}

fn foreign_json(header: &Description) -> Value {
    let segments = header.segments.iter().map(|segment| {
        json!({
            "segment": segment.number, "type": segment.kind, "cipher": segment.cipher, "offset": segment.offset,
            "bytes": segment.len, "sector-size": segment.sector, "integrity": segment.integrity,
        })
    });
    let keyslots = header.keyslots.iter().map(|keyslot| {
        json!({ "keyslot": keyslot.number, "type": keyslot.kind, "key-bits": keyslot.key_bits, "kdf": keyslot.kdf })
    });
    json!({
        "uuid": header.uuid,
        "label": header.label,
        "headers": header.copy.to_string(),
        "sequence": header.seqid,
        "segments": segments.collect::<Vec<_>>(),
        "keyslots": keyslots.collect::<Vec<_>>(),
        "tokens": header.tokens,
        "requirements": header.requirements,
        "refused": header.refused.as_ref().map(ToString::to_string),
    })
}

fn text(path: &Path, header: &Header) -> String {
    let mut text = format!("LUKS2 volume {}\n", path.display());
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<9} {value}\n"));
    line("uuid", header.uuid());
    if !header.label().is_empty() {
        line("label", &header.label().escape_debug().to_string());
    }
    line("cipher", header.cipher().name());
    line("sectors", &format!("{} bytes", header.sector_size().bytes()));
    line("data", &format!("{} bytes", header.data_len()));
    line(
        "header",
        &format!("{}, written {} times", header.copy(), header.seqid()),
    );
    line("keyslots", &list(header.keyslots()));
    for token in header.sealed_tokens() {
        line("TPM", &sealed(token));
    }
    for token in header.otp_tokens() {
        line("OTP", &otp(token));
    }
    for wrong in unusable(header) {
        line("unusable", &wrong);
    }
    if !header.recovery_keyslots().is_empty() {
        let slots = list(header.recovery_keyslots().iter());
        line("recovery", &format!("keyslot {slots}"));
    }
    match list(header.authenticated_keyslots()).as_str() {
        "" => line(
            "MAC",
            "none: nothing proves that this header is the one that was made",
        ),
        slots => line(
            "MAC",
            &format!("of the secrets of keyslots {slots}, verified when one of them opens"),
        ),
    }
    if let Some(generation) = generation(header) {
        line("age", &format!("generation {generation}, as the header claims"));
    }
    if let Some(bytes) = header.authenticated_content() {
        line(
            "content",
            &format!("{bytes} bytes have a MAC, which `verify` checks"),
        );
    }
    for other in header.other_tokens() {
        let kind = other.get("type").and_then(Value::as_str).unwrap_or("?");
        line("other", &format!("a token of the type {}", kind.escape_debug()));
    }
    text
}

fn sealed(token: &Tpm2Token) -> String {
    let mut parts = Vec::new();
    if let Some(exact) = token.exact {
        parts.push(format!("sealed to PCRs {exact}"));
    }
    if let Some(signed) = &token.signed {
        let key = PolicyKey::from_pem(&signed.key_pem);
        let key = key.map_or_else(|e| e.to_string(), |key| key.fingerprint().to_string());
        parts.push(format!(
            "sealed to values of {} that the key {key} approves",
            signed.pcrs
        ));
    }
    match token.pin {
        TokenPin::None => {}
        TokenPin::Plain => parts.push("wants a PIN".to_owned()),
        TokenPin::Salted(_) => parts.push("wants a PIN (salted)".to_owned()),
    }
    if object(token).waits_for_import() {
        parts.push("not imported by its TPM yet".to_owned());
    }
    let srk = if token.srk.is_some() {
        "the TCG's storage key"
    } else {
        "systemd's storage key"
    };
    format!(
        "{} (keyslot {}, under {srk})",
        parts.join(", "),
        token.keyslot.get()
    )
}

fn otp(token: &OtpToken) -> String {
    format!(
        "sealed to the OTP device key {} of {} (keyslot {})",
        token.key_id,
        token.device,
        token.keyslot.get()
    )
}

fn unusable(header: &Header) -> Vec<String> {
    // Those with a signed policy or a PIN are among them, and can be used here.
    let rich = header
        .sealed_tokens()
        .len()
        .saturating_sub(header.tpm2_tokens().len());
    let malformed = |why: &&TokenError| matches!(why, TokenError::Malformed(_));
    let mut tpm: Vec<String> = header
        .unusable_tokens()
        .iter()
        .filter(malformed)
        .map(ToString::to_string)
        .collect();
    let unknown = header
        .unusable_tokens()
        .len()
        .saturating_sub(rich)
        .saturating_sub(tpm.len());
    tpm.extend((0..unknown).map(|_| "a TPM token of a kind that is not supported".to_owned()));
    tpm.into_iter()
        .chain(header.unusable_otp_tokens().iter().map(ToString::to_string))
        .collect()
}

fn json(header: &Header) -> Value {
    let tpm = header.sealed_tokens().iter().map(|token| {
        json!({
            "type": "systemd-tpm2",
            "keyslot": token.keyslot.get(),
            "pcrs": token.exact.map(|pcrs| pcrs.to_string()),
            "signed-pcrs": token.signed.as_ref().map(|signed| signed.pcrs.to_string()),
            "pin": token.pin != TokenPin::None,
            "storage-key": if token.srk.is_some() { "tcg" } else { "systemd" },
            "waits-for-import": object(token).waits_for_import(),
            "policy-hash": HEXLOWER.encode(&token.policy_hash),
        })
    });
    let otp = header.otp_tokens().iter().map(|token| {
        json!({
            "type": "signalbox-otp",
            "keyslot": token.keyslot.get(),
            "device": token.device,
            "key-id": token.key_id,
        })
    });
    let recovery = header
        .recovery_keyslots()
        .iter()
        .map(|slot| json!({ "type": "systemd-recovery", "keyslot": slot.get() }));
    let tokens: Vec<Value> = tpm.chain(otp).chain(recovery).collect();
    json!({
        "uuid": header.uuid(),
        "label": header.label(),
        "cipher": header.cipher().name(),
        "sector-size": header.sector_size().bytes(),
        "data-bytes": header.data_len(),
        "headers": header.copy().to_string(),
        "sequence": header.seqid(),
        "keyslots": header.keyslots().map(KeyslotId::get).collect::<Vec<_>>(),
        "tokens": tokens,
        "unusable-tokens": unusable(header),
        "authenticated-keyslots": header.authenticated_keyslots().map(KeyslotId::get).collect::<Vec<_>>(),
        "authenticated-content": header.authenticated_content(),
        "generation": generation(header).map(|generation| generation.0),
    })
}

/// What the header claims for the first of the secrets that authenticate it.
fn generation(header: &Header) -> Option<Generation> {
    header
        .authenticated_keyslots()
        .find_map(|slot| header.claimed_generation(slot))
}

fn list(all: impl Iterator<Item = impl ToString>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
