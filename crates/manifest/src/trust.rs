//! Why an endorsement key is believed: `ek-trust`.
//!
//! Owns: its three forms. The folder of roots is named here and read by whoever has a file system.

use domain::EkDigest;
use evidence::certificate::{DenyRule, FirmwareVersion, InvalidFirmwareVersion, InvalidMaker, MakerId};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    fleet::{EkChain, EkTrust},
    leaf::text_leaf,
    walk::{Findings, Read, Section, Spot, Value, section, wrong_type},
};

const FORMS: &str = "write { roots = \"<folder>\" }, { allow = [\"<digest>\", ..] } or \"first-use\"";
const MAX_REASON: usize = 200;

section! {
    /// Keys with a certificate of a TPM maker's.
    ChainSection as "ek-chain" {
        /// The folder of makers' certificates, from the manifest's folder; self-signed ones are trusted, others help to reach them.
        required "roots" roots: RootsPath,
        /// Firmware that is refused though its certificate is good.
        optional "deny" deny: Vec<Spot<DenySection>>,
    }
}

section! {
    /// Firmware of one maker that is refused.
    DenySection as "ek-deny" {
        /// The maker, as certificates name it: IFX, STM, NTC, INTC, AMD.
        required "maker" maker: MakerId,
        /// The first version that is refused, as in "7.0"; without `from` and `to`, all of them are.
        optional "from" from: FirmwareVersion,
        /// The last version that is refused.
        optional "to" to: FirmwareVersion,
        /// Why, for whoever reads the refusal.
        required "reason" reason: Reason,
    }
}

section! {
    /// Keys that were written down beforehand.
    AllowSection as "ek-allow" {
        /// The SHA-256 digests of the endorsement keys to trust.
        required "allow" allow: Vec<Spot<EkDigest>>,
    }
}

impl Read for EkTrust {
    const DEFINITION: Option<&'static str> = Some("ek-trust");

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let chain = generator.subschema_for::<Spot<ChainSection>>();
        let allow = generator.subschema_for::<Spot<AllowSection>>();
        json_schema!({ "oneOf": [{ "const": "first-use" }, allow, chain] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let hint = || Some(FORMS.to_owned());
        if let Some(word) = value.get_ref().as_str() {
            if word == "first-use" {
                return Some(Self::FirstUse);
            }
            findings.push(value.span(), format!("`{word}` is no reason for trust"), hint());
            return None;
        }
        let Some(table) = value.get_ref().as_table() else {
            wrong_type(value, "a string or a table", findings);
            return None;
        };
        let has = |key: &str| table.iter().any(|(name, _)| name.get_ref() == key);
        match (has("roots") || has("deny"), has("allow")) {
            (true, true) => {
                findings.push(
                    value.span(),
                    "`allow` and `roots` are two reasons for trust",
                    hint(),
                );
                None
            }
            (true, false) => chain(&ChainSection::read(value, findings)?, findings),
            (false, true) => allow(value, findings),
            (false, false) if table.is_empty() => {
                findings.push(value.span(), "no reason for trust is given", hint());
                None
            }
            (false, false) => {
                Section::open(value, findings)?.close(&["allow", "roots", "deny"], findings);
                None
            }
        }
    }
}

fn allow(value: &Value<'_>, findings: &mut Findings) -> Option<EkTrust> {
    let section = AllowSection::read(value, findings)?;
    let allow = section.allow.as_ref()?;
    let list = value
        .get_ref()
        .get("allow")
        .and_then(|list| list.get_ref().as_array());
    if list.is_some_and(|list| list.is_empty()) {
        let hint = Some("no device could ever be enrolled".to_owned());
        findings.push(allow.span.clone(), "the list of endorsement keys is empty", hint);
        return None;
    }
    let digests = allow.value.iter().map(|digest| digest.value);
    Some(EkTrust::Allow(digests.collect()))
}

fn chain(section: &ChainSection, findings: &mut Findings) -> Option<EkTrust> {
    let entries = section.deny.iter().flat_map(|list| &list.value);
    let mut deny = Vec::new();
    for entry in entries {
        deny.extend(rule(entry, findings));
    }
    let roots = section.roots.as_ref()?.value.0.clone();
    Some(EkTrust::Chain(EkChain { roots, deny }))
}

fn rule(entry: &Spot<DenySection>, findings: &mut Findings) -> Option<DenyRule> {
    let section = &entry.value;
    let (maker, reason) = (
        section.maker.as_ref()?.value,
        section.reason.as_ref()?.value.0.as_str(),
    );
    match (&section.from, &section.to) {
        (None, None) => Some(DenyRule::whole_maker(maker, reason)),
        (Some(from), Some(to)) => DenyRule::new(maker, from.value, to.value, reason)
            .map_err(|wrong| findings.push(to.span.clone(), wrong.to_string(), None))
            .ok(),
        // The other end may be there and unreadable, which was told.
        (Some(_), None) | (None, Some(_)) if !findings.is_empty() => None,
        (Some(one), None) | (None, Some(one)) => {
            let hint = Some(
                "give `from` and `to`, both are refused too; or neither, for all of the maker's".to_owned(),
            );
            findings.push(one.span.clone(), "a range of firmware has two ends", hint);
            None
        }
    }
}

impl Read for EkDigest {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: domain::digest::InvalidDigest| {
                let hint = "`provisioner plan` prints the digest of the TPM's endorsement key";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}

/// A folder, not looked at.
#[derive(Debug)]
pub(crate) struct RootsPath(String);

impl Read for RootsPath {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": ["keys/ek-roots"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            if text.is_empty() || text.chars().any(char::is_control) {
                let hint = Some("as in \"keys/ek-roots\"".to_owned());
                return Err((format!("{text:?} is not the path of a folder"), hint));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

/// A sentence for the refusal.
#[derive(Debug)]
pub(crate) struct Reason(String);

impl Read for Reason {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_REASON })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            if text.is_empty() || text.len() > MAX_REASON || text.chars().any(char::is_control) {
                let hint = Some("a few words on one line, as in \"ROCA\"".to_owned());
                return Err(("this is not a reason".to_owned(), hint));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

impl Read for MakerId {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["IFX", "STM"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: InvalidMaker| {
                let hint = "as the TCG registered it: \"IFX\", \"STM\", \"NTC\", \"INTC\", \"AMD\"";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}

impl Read for FirmwareVersion {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["7.61"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: InvalidFirmwareVersion| {
                let hint = "major and minor, as in \"7.61\"";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}
