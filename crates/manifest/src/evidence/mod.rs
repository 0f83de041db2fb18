//! What a quote must show, without the fleet around it: for checking evidence by hand.
//!
//! Owns: where in a text the section stands. It is the manifest's own section, by the same reader and the same checks;
//! whatever else a text holds beside it is not looked at.

mod check;
mod leaf;
mod raw;
#[cfg(test)]
mod tests;

use evidence::DeclaredPolicy;
use toml::de::DeValue;

pub(crate) use self::{
    check::{For, evidence_policy, refuse_resettable},
    raw::EvidenceSection,
};
use crate::{
    Diagnostics, document,
    walk::{Findings, Value, spot},
};

/// Reads the evidence of a policy: the keys of `[policies.NAME.evidence]` alone, or under that heading, where the text
/// has one policy with evidence; so a whole manifest with one such policy will do.
///
/// # Errors
/// Every finding; none or several policies with evidence.
pub fn parse_evidence(file_name: &str, text: &str) -> Result<DeclaredPolicy, Diagnostics> {
    let mut findings = Findings::default();
    let policy = read(text, &mut findings);
    match policy {
        Some(policy) if findings.is_empty() => Ok(policy),
        _ => Err(Diagnostics::new(file_name, text, findings)),
    }
}

fn read(text: &str, findings: &mut Findings) -> Option<DeclaredPolicy> {
    let document = document(text, findings)?;
    let section = section(&document, findings)?;
    let raw = spot::<EvidenceSection>(section, findings)?;
    evidence_policy(&raw, For::Hand, findings)
}

fn section<'a, 'i>(document: &'a Value<'i>, findings: &mut Findings) -> Option<&'a Value<'i>> {
    let Some(policies) = entry(document, "policies") else {
        return Some(document);
    };
    let all = policies.get_ref().as_table().into_iter().flatten();
    let mut with: Vec<_> = all.filter_map(|(_, policy)| entry(policy, "evidence")).collect();
    match (with.pop(), with.len()) {
        (Some(only), 0) => Some(only),
        (_, others) => {
            let message = if others == 0 {
                "no policy here has `evidence`"
            } else {
                "several policies here have `evidence`"
            };
            let hint = Some("keep one `[policies.NAME.evidence]` in the file".to_owned());
            findings.push(policies.span(), message, hint);
            None
        }
    }
}

fn entry<'a, 'i>(value: &'a Value<'i>, name: &str) -> Option<&'a Value<'i>> {
    let DeValue::Table(table) = value.get_ref() else {
        return None;
    };
    table
        .iter()
        .find(|(key, _)| key.get_ref() == name)
        .map(|(_, value)| value)
}
