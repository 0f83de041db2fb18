//! A fleet's manifest: TOML text to a valid [`Fleet`], or everything that is wrong with it at once.
//!
//! Owns: the format (version 1), its JSON Schema and its diagnostics. Three stages, three kinds of type: TOML with
//! spans ([`toml`]), raw sections whose leaves are parsed and whose spans are kept (`raw`), and the valid
//! [`Fleet`], which only [`parse`] makes.
//! Refuses: unknown keys, names that lead nowhere, and what would be unsafe to do (sealing to resettable PCRs, a
//! pre-shared key sent in clear). Pure: no file, no clock, no environment; paths are not looked at.
//! An attacker who writes manifests controls all of the text; it is bounded by [`MAX_LEN`] and no input panics.

mod certificate;
mod check;
mod diagnostics;
mod evidence;
mod fleet;
mod hint;
mod leaf;
mod policy;
mod profile;
mod raw;
mod targets;
mod trust;
mod walk;

pub use certificate::CertificateRule;
pub use diagnostics::{Diagnostics, Finding, Position};
pub use evidence::parse_evidence;
pub use fleet::{
    CertificateSource, Cipher, ClientCertificate, Device, EkChain, EkKind, EkTrust, Fleet, KeyStore, Profile,
    SectorSize, SignedSeal, Srk, TpmSeal, TpmStore, VolumeSpec,
};
pub use policy::Policy;

use walk::{Findings, Read as _, Spot};

/// The longest manifest, in bytes.
pub const MAX_LEN: usize = 4 * 1024 * 1024;

/// Reads the text of a manifest. `file_name` is for the diagnostics alone.
///
/// # Errors
/// Every finding, in the order of the text: first all of the syntax, and when that is well, all of the rest.
pub fn parse(file_name: &str, text: &str) -> Result<Fleet, Diagnostics> {
    let mut findings = Findings::default();
    let fleet = read(text, &mut findings);
    match fleet {
        Some(fleet) if findings.is_empty() => Ok(fleet),
        _ => Err(Diagnostics::new(file_name, text, findings)),
    }
}

/// The JSON Schema (draft 2020-12) of a manifest, for editors; ends with a line feed.
///
/// It knows keys and types. What only shows across sections (a policy that does not exist) is [`parse`]'s to say.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<Spot<raw::Manifest>>();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn read(text: &str, findings: &mut Findings) -> Option<Fleet> {
    let manifest = raw::Manifest::read(&document(text, findings)?, findings)?;
    check::fleet(&manifest, findings)
}

/// The TOML of a text.
fn document<'i>(text: &'i str, findings: &mut Findings) -> Option<walk::Value<'i>> {
    if text.len() > MAX_LEN {
        let hint = Some(format!("at most {MAX_LEN} bytes are read"));
        findings.push(0..0, format!("the manifest has {} bytes", text.len()), hint);
        return None;
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What a broken document recovers to would only lead to findings that are not the author's.
        for error in errors {
            findings.push(error.span().unwrap_or(0..0), error.message().to_owned(), None);
        }
        return None;
    }
    let span = document.span();
    Some(toml::Spanned::new(
        span,
        toml::de::DeValue::Table(document.into_inner()),
    ))
}
