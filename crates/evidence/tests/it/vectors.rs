//! The vectors of `vectors/`, as any other verifier would run them; and `tpm2_checkquote` beside us on the same files.

use std::collections::BTreeSet;

use crate::vector::{
    Failed, Judged, Verdict, all, checkquote, kebab,
    keys::{self, KeyVerdict, Role},
};

#[test]
fn every_vector_is_judged_as_it_says() {
    let vectors = all();
    assert!(vectors.len() >= 110, "only {} vectors", vectors.len());
    for (name, vector) in vectors {
        assert_eq!(vector.judge(), vector.verdict, "{name}: {}", vector.title);
    }
}

/// A failure without a vector fails here: `examples/vectors` wants a case for it.
#[test]
fn every_failure_has_a_vector() {
    let told: BTreeSet<String> = failures().map(|failed| failed.kind).collect();
    assert_eq!(told, variants("Failure"));
}

/// And every reason within those that have reasons of their own.
#[test]
fn every_reason_has_a_vector() {
    for (kind, reasons) in [
        ("stale", "Stale"),
        ("statement", "StatementRefused"),
        ("event-log", "LogRefused"),
        ("rule", "RuleBroken"),
    ] {
        let told = failures().filter(|failed| failed.kind == kind);
        let told: BTreeSet<String> = told.filter_map(|failed| failed.detail).collect();
        assert_eq!(told, variants(reasons));
    }
}

#[test]
fn every_key_is_judged_as_its_vector_says() {
    let vectors = keys::all();
    assert!(vectors.len() >= 35, "only {} vectors", vectors.len());
    for (name, vector) in vectors {
        assert_eq!(vector.judge(), vector.verdict, "{name}: {}", vector.title);
    }
}

#[test]
fn every_reason_against_a_key_has_a_vector() {
    for (role, reasons) in [
        (Role::AttestationKey, "AkError"),
        (Role::EndorsementKey, "EkError"),
    ] {
        let vectors = keys::all().into_values().filter(|vector| vector.role == role);
        let told = vectors.filter_map(|vector| match vector.verdict {
            KeyVerdict::Refused { reason, .. } => Some(reason),
            KeyVerdict::Accepted { .. } => None,
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), variants(reasons));
    }
}

fn failures() -> impl Iterator<Item = Failed> {
    let refused = all().into_values().filter_map(|vector| match vector.verdict {
        Verdict::Refused { failures, .. } => Some(failures),
        Verdict::Attested { .. } => None,
    });
    refused.flatten()
}

/// The variants of an enum of ours, read off its source: an enum has no list of its variants.
fn variants(name: &str) -> BTreeSet<String> {
    let sources = [
        include_str!("../../src/ak.rs"),
        include_str!("../../src/ek.rs"),
        include_str!("../../src/failure.rs"),
        include_str!("../../src/freshness.rs"),
        include_str!("../../src/rules/broken.rs"),
        include_str!("../../src/statement/judge.rs"),
    ];
    let head = format!("pub enum {name} {{\n");
    let body = sources
        .iter()
        .find_map(|source| source.split_once(&head))
        .unwrap()
        .1;
    let body = body.split_once("\n}\n").unwrap().0;
    let variant = |line: &str| {
        let name = line.strip_prefix("    ")?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric())?;
        let is_variant = name.starts_with(|c: char| c.is_ascii_uppercase());
        is_variant.then(|| kebab(name.split_at(end).0))
    };
    body.lines().filter_map(variant).collect()
}

/// Where the tool is not of our opinion, and why.
const DIFFERS: [(&str, &str); 4] = [
    ("accepted-rsapss-2048", "it checks every RSA signature as RSASSA"),
    ("accepted-rsapss-3072", "it checks every RSA signature as RSASSA"),
    (
        "forged-wide-r",
        "it strips leading zeros beyond the length of the curve",
    ),
    ("signature-trailing", "it does not look behind the signature"),
];

#[test]
fn tpm2_checkquote_agrees_where_it_can_judge() {
    /// What it looks at.
    const CHECKED: [&str; 5] = ["quote", "not-a-quote", "signature", "forged", "qualifying-data"];
    for (name, vector) in all() {
        let judged = checkquote::judge(&vector);
        assert_eq!(judged, vector.checkquote, "{name}: {}", vector.title);
        let differs = DIFFERS.iter().any(|(differs, _)| *differs == name);
        match &vector.verdict {
            Verdict::Attested { .. } => assert_eq!(judged == Judged::Accepts, !differs, "{name}"),
            Verdict::Refused { failures, .. } => {
                if failures
                    .iter()
                    .any(|failed| CHECKED.contains(&failed.kind.as_str()))
                {
                    assert_eq!(judged == Judged::Refuses, !differs, "{name}");
                }
            }
        }
    }
}
