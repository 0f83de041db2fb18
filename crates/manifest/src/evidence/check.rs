//! From the sections of a policy's evidence to one that can be judged by.
//!
//! Owns: which place in the text a refusal of [`DeclaredPolicy::new`] is about, and what only a manifest refuses: values
//! into which nothing was measured, and SHA-1 that nobody said is meant. A text that breaks several rules between its
//! parts hears of the first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use domain::{HashAlg, PcrIndex, PcrValue};
use evidence::{
    DeclaredError, DeclaredPolicy, GoldenSet, LogRules, Mix, PolicyError, SetName, StatementPolicy,
};

use super::raw::{EvidenceSection, GoldenSection, LogSection, StatementSection};
use crate::walk::{Entries, Findings, Spot};

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Devices that call later.
    Fleet,
    /// Evidence that somebody looks at by hand, who says there whether SHA-1 is believed.
    Hand,
}

/// What a quote must show; findings where it would show nothing.
pub(crate) fn evidence_policy(
    section: &Spot<EvidenceSection>,
    whose: For,
    findings: &mut Findings,
) -> Option<DeclaredPolicy> {
    let raw = &section.value;
    let reader = Reader {
        bank: raw.bank.as_ref().map_or(HashAlg::Sha256, |bank| bank.value),
        uninitialised: raw.allow_uninitialised.as_ref().is_some_and(|allow| allow.value),
    };
    let allow_sha1 = raw.allow_sha1.as_ref().is_some_and(|allow| allow.value);
    if let Some(bank) = &raw.bank
        && bank.value == HashAlg::Sha1
        && !allow_sha1
        && whose == For::Fleet
    {
        let hint = "use \"sha256\"; where a TPM has no other bank, `allow-sha1 = true` takes it all the same";
        findings.push(
            bank.span.clone(),
            "SHA-1 collides: who makes the software can choose what such a PCR holds",
            Some(hint.to_owned()),
        );
    }
    let parts = parts(raw, reader, findings);
    let nothing = [
        raw.pcrs.is_none(),
        raw.golden.is_none(),
        raw.statement.is_none(),
        raw.log.is_none(),
    ];
    if nothing == [true; 4] && findings.is_empty() {
        let hint = "at least one of `pcrs`, `golden`, `statement` and `log`; without `evidence` the pre-shared key alone is enough";
        findings.push(
            section.span.clone(),
            "the policy asks for evidence of nothing",
            Some(hint.to_owned()),
        );
    }
    // A part that could not be read is missing here: what follows from that is nobody's mistake.
    if !findings.is_empty() {
        return None;
    }
    DeclaredPolicy::new(reader.bank, parts, allow_sha1)
        .map_err(|wrong| {
            let (span, hint) = place(&wrong, section);
            findings.push(span, wrong.to_string(), hint.map(str::to_owned));
        })
        .ok()
}

fn parts(raw: &EvidenceSection, reader: Reader, findings: &mut Findings) -> Mix {
    let mut parts = Mix::default();
    if let Some(table) = &raw.pcrs {
        let hint = "name at least one, or leave out `evidence`: then the pre-shared key alone is enough";
        parts.exact = reader.values(table, "a quote over no PCR proves nothing", hint, findings);
    }
    if let Some(golden) = &raw.golden {
        if golden.value.is_empty {
            let hint = Some("as in `[policies.NAME.evidence.golden.\"2026-10\".pcrs]`".to_owned());
            findings.push(golden.span.clone(), "there is no golden set", hint);
        }
        for (name, section) in &golden.value.list {
            let (set, events) = reader.golden(&name.value, &section.value, findings);
            parts.golden_events.insert(name.value.clone(), events);
            parts.golden.push(set);
        }
    }
    parts.statement = raw
        .statement
        .as_ref()
        .and_then(|section| statement(&section.value, findings));
    parts.log = raw.log.as_ref().map(|section| log(&section.value, findings));
    parts
}

/// What values are read by.
#[derive(Clone, Copy)]
struct Reader {
    bank: HashAlg,
    uninitialised: bool,
}

impl Reader {
    fn golden(
        self,
        name: &SetName,
        section: &GoldenSection,
        findings: &mut Findings,
    ) -> (GoldenSet, BTreeMap<PcrIndex, Vec<PcrValue>>) {
        let hint = "what a good device has: `provisioner evidence golden` writes it";
        let values = section.pcrs.as_ref().map_or_else(BTreeMap::new, |table| {
            self.values(table, "a golden set over no PCR proves nothing", hint, findings)
        });
        let mut events = BTreeMap::new();
        for (index, digests) in section.events.iter().flat_map(|table| &table.value.list) {
            let digests = digests
                .value
                .iter()
                .filter_map(|digest| self.value(digest, findings));
            events.insert(index.value, digests.collect());
        }
        let set = GoldenSet {
            name: name.clone(),
            until: section.until.as_ref().map(|until| until.value),
            values,
        };
        (set, events)
    }

    fn values(
        self,
        table: &Spot<Entries<PcrIndex, String>>,
        none: &str,
        hint: &str,
        findings: &mut Findings,
    ) -> BTreeMap<PcrIndex, PcrValue> {
        if table.value.is_empty {
            findings.push(table.span.clone(), none, Some(hint.to_owned()));
        }
        let mut values = BTreeMap::new();
        for (index, text) in &table.value.list {
            refuse_resettable(index, findings);
            let Some(value) = self.value(text, findings) else {
                continue;
            };
            if value.is_uninitialised() && !self.uninitialised {
                let hint = "every machine that was never measured shows this; `allow-uninitialised = true` takes it all the same";
                findings.push(
                    text.span.clone(),
                    "nothing was measured into this PCR",
                    Some(hint.to_owned()),
                );
            } else {
                values.insert(index.value, value);
            }
        }
        values
    }

    fn value(self, text: &Spot<String>, findings: &mut Findings) -> Option<PcrValue> {
        PcrValue::from_hex(self.bank, &text.value)
            .map_err(|wrong| {
                let hint = format!("{} hexadecimal digits", self.bank.digest_len().saturating_mul(2));
                findings.push(text.span.clone(), wrong.to_string(), Some(hint));
            })
            .ok()
    }
}

fn statement(section: &StatementSection, findings: &mut Findings) -> Option<StatementPolicy> {
    let pcrs = section.pcrs.as_ref().map(|pcrs| {
        if pcrs.value.is_empty() && findings.is_empty() {
            let hint = Some("those that the image builder states, as in [4, 11]".to_owned());
            findings.push(pcrs.span.clone(), "a statement about no PCR proves nothing", hint);
        }
        for index in &pcrs.value {
            refuse_resettable(index, findings);
        }
        set(pcrs, findings)
    });
    let revoked = section.revoked.as_ref().map(|revoked| set(revoked, findings));
    let keys = section.keys.as_ref()?.value.iter().map(|key| key.value.clone());
    Some(StatementPolicy {
        keys: keys.collect(),
        profile: section.profile.as_ref()?.value.clone(),
        least_release: section.least_release.as_ref()?.value,
        revoked: revoked.unwrap_or_default(),
        pcrs: pcrs?,
    })
}

fn log(section: &LogSection, findings: &mut Findings) -> LogRules {
    let is_true = |flag: &Option<Spot<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    let mut keys = BTreeMap::new();
    for (variable, digests) in section.keys.iter().flat_map(|keys| &keys.value.list) {
        keys.insert(variable.value, set(digests, findings));
    }
    if let Some(table) = section.keys.as_ref().filter(|table| table.value.is_empty) {
        let hint = Some("name what is good of `PK`, `KEK`, `db` or `dbx`, or leave it out".to_owned());
        findings.push(table.span.clone(), "no variable is named", hint);
    }
    let replays = section.replays.as_ref().map(|pcrs| {
        for index in &pcrs.value {
            refuse_resettable(index, findings);
        }
        set(pcrs, findings)
    });
    let patterns = section.command_line.iter().flat_map(|list| &list.value);
    LogRules {
        secure_boot: is_true(&section.secure_boot),
        keys,
        authorities: section.authorities.as_ref().map(|list| set(list, findings)),
        command_line: patterns.map(|pattern| pattern.value.clone()).collect(),
        no_debug_shell: is_true(&section.no_debug_shell),
        replays: replays.unwrap_or_default(),
    }
}

/// A list in which nothing comes twice.
fn set<T: Ord + Clone + std::fmt::Display>(
    list: &Spot<Vec<Spot<T>>>,
    findings: &mut Findings,
) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for entry in &list.value {
        if !set.insert(entry.value.clone()) {
            findings.push(
                entry.span.clone(),
                format!("{} is named twice", entry.value),
                None,
            );
        }
    }
    set
}

pub(crate) fn refuse_resettable(index: &Spot<PcrIndex>, findings: &mut Findings) {
    if index.value.is_resettable() {
        let hint = Some("16 and 23 are for debugging and applications; choose others".to_owned());
        let message = format!("PCR {} can be reset by any program", index.value);
        findings.push(index.span.clone(), message, hint);
    }
}

/// Where the reason is, and what would be taken.
fn place(wrong: &DeclaredError, section: &Spot<EvidenceSection>) -> (Range<usize>, Option<&'static str>) {
    let raw = &section.value;
    let sets = || raw.golden.iter().flat_map(|golden| &golden.value.list);
    let statement = || raw.statement.as_ref().map(|section| &section.value);
    let log = || raw.log.as_ref().map(|section| &section.value);
    let span = match wrong {
        DeclaredError::Policy(PolicyError::Selection { name, .. }) => sets()
            .find(|(key, _)| key.value == *name)
            .map(|(key, _)| key.span.clone()),
        DeclaredError::Policy(PolicyError::Overlap(index)) => {
            let mut exact = raw.pcrs.iter().flat_map(|pcrs| &pcrs.value.list);
            exact
                .find(|(key, _)| key.value == *index)
                .map(|(key, _)| key.span.clone())
        }
        DeclaredError::Policy(PolicyError::GoldenEvents { set, index }) => {
            let set = sets().find(|(key, _)| key.value == *set);
            let mut events = set
                .and_then(|(_, set)| set.value.events.as_ref())
                .into_iter()
                .flat_map(|e| &e.value.list);
            events
                .find(|(key, _)| key.value == *index)
                .map(|(key, _)| key.span.clone())
        }
        DeclaredError::Policy(PolicyError::NoImageKey)
        | DeclaredError::Twice("image keys")
        | DeclaredError::TooMany {
            what: "image keys", ..
        } => statement().and_then(|s| Some(s.keys.as_ref()?.span.clone())),
        DeclaredError::Policy(PolicyError::NoRule) => raw.log.as_ref().map(|log| log.span.clone()),
        DeclaredError::Twice("patterns for command lines")
        | DeclaredError::TooMany {
            what: "patterns for command lines",
            ..
        } => log().and_then(|l| Some(l.command_line.as_ref()?.span.clone())),
        DeclaredError::TooMany {
            what: "golden sets", ..
        } => raw.golden.as_ref().map(|golden| golden.span.clone()),
        DeclaredError::EmptyList("authorities") => {
            log().and_then(|l| Some(l.authorities.as_ref()?.span.clone()))
        }
        DeclaredError::EmptyList(variable) => {
            let mut keys = log()
                .and_then(|l| l.keys.as_ref())
                .into_iter()
                .flat_map(|keys| &keys.value.list);
            keys.find(|(key, _)| key.value.name() == *variable)
                .map(|(_, list)| list.span.clone())
        }
        DeclaredError::NoSha1(_) => raw.allow_sha1.as_ref().map(|allow| allow.span.clone()),
        _ => None,
    };
    let hint = match wrong {
        DeclaredError::Policy(PolicyError::Selection { .. }) => Some("give every golden set the same PCRs"),
        DeclaredError::Policy(PolicyError::Overlap(_)) => {
            Some("keep it in `pcrs` if it never changes, else in each golden set")
        }
        DeclaredError::Policy(PolicyError::GoldenEvents { .. }) => Some(
            "all digests that were extended, in order, as `provisioner evidence log` shows them; or leave them out",
        ),
        DeclaredError::Policy(PolicyError::NoImageKey) => Some("the PEM of at least one image key"),
        DeclaredError::Policy(PolicyError::NoRule) => Some(
            "`secure-boot = true`, `keys`, `authorities`, `command-line`, `no-debug-shell = true` or `replays`",
        ),
        DeclaredError::EmptyList(_) => {
            Some("name at least one digest, or leave the list out: then there is no such rule")
        }
        DeclaredError::NoSha1(_) => Some("leave it out"),
        DeclaredError::TooLong { .. } => Some("remove golden sets that ended, their events first"),
        _ => None,
    };
    (span.unwrap_or_else(|| section.span.clone()), hint)
}
