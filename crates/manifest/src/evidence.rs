//! What a quote must show, without the fleet around it: for checking evidence by hand.
//!
//! Owns: where in a text the section stands. It is the manifest's own section, by the same reader and the same checks;
//! whatever else a text holds beside it is not looked at.

use evidence::DeclaredPolicy;
use toml::de::DeValue;

use crate::{
    Diagnostics, check, document, raw,
    walk::{Findings, Read as _, Value},
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
    let raw = raw::EvidenceSection::read(section, findings)?;
    check::evidence_policy(&raw, findings)
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: &str = "bank = \"sha256\"\npcrs = { 7 = \"0101010101010101010101010101010101010101010101010101010101010101\" }\n";

    #[test]
    fn the_section_alone_under_its_heading_or_in_a_manifest() {
        let alone = parse_evidence("p.toml", ALONE).unwrap();
        assert_eq!(alone.parts().exact.len(), 1);
        let headed = format!("[policies.kiosk.evidence]\n{ALONE}");
        assert_eq!(parse_evidence("p.toml", &headed).unwrap(), alone);
        let demo = include_str!("../../../manifests/examples/demo.toml");
        assert_eq!(parse_evidence("demo.toml", demo).unwrap().parts().exact.len(), 2);
    }

    #[test]
    fn none_or_several_are_told() {
        let told = |text: &str| {
            parse_evidence("p.toml", text).unwrap_err().findings()[0]
                .message
                .clone()
        };
        assert_eq!(
            told("[policies.a]\nmodels = [\"*\"]\n"),
            "no policy here has `evidence`"
        );
        let two = format!("[policies.a.evidence]\n{ALONE}[policies.b.evidence]\n{ALONE}");
        assert_eq!(told(&two), "several policies here have `evidence`");
        assert_eq!(told("policies = 1\n"), "no policy here has `evidence`");
    }

    #[test]
    fn the_manifests_rules_hold() {
        let told = |text: &str| {
            let found = parse_evidence("p.toml", text).unwrap_err();
            (
                found.findings()[0].message.clone(),
                found.findings()[0].position.line,
            )
        };
        assert_eq!(told("").0, "`pcrs` is missing here");
        assert_eq!(told("pcrs = {}\n").0, "a quote over no PCR proves nothing");
        assert_eq!(
            told(&format!("{ALONE}pcr = 1\n")),
            ("unknown key `pcr`".to_owned(), 3)
        );
        let zero = ALONE.replace("01", "00");
        assert_eq!(told(&zero), ("nothing was measured into this PCR".to_owned(), 2));
    }
}
