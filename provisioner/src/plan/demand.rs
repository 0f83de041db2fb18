//! What a policy asks for, in words: one line for each part, and one for each part that holds nothing without another.

use std::collections::BTreeSet;

use domain::PcrIndex;
use evidence::{DeclaredPolicy, GoldenSet, LogRules, StatementPolicy};

/// The demands of a policy, in the order in which a person reads them.
pub(crate) fn demands(evidence: Option<&DeclaredPolicy>) -> Vec<String> {
    let Some(evidence) = evidence else {
        return vec!["for the pre-shared key alone".to_owned()];
    };
    let sha1 = if evidence.allows_sha1() {
        ", SHA-1 allowed"
    } else {
        ""
    };
    let mut lines = vec![format!("for a quote over PCRs {}{sha1}", evidence.selection())];
    let parts = evidence.parts();
    if !parts.exact.is_empty() {
        lines.push(format!(
            "{}: one value each, the same at all times",
            pcrs(parts.exact.keys())
        ));
    }
    if let Some(first) = parts.golden.first() {
        let sets: Vec<String> = parts.golden.iter().map(set).collect();
        lines.push(format!(
            "{}: those of golden set {}",
            pcrs(first.values.keys()),
            sets.join(", or of ")
        ));
    }
    lines.extend(parts.statement.as_ref().map(statement));
    lines.extend(parts.log.as_ref().map(log));
    lines.extend(hollow(evidence).into_iter().map(str::to_owned));
    lines
}

/// Rules that a device's root fulfils in a boot of his own, because nothing beside them holds what they rest on.
fn hollow(evidence: &DeclaredPolicy) -> Vec<&'static str> {
    let parts = evidence.parts();
    let Some(rules) = &parts.log else {
        return Vec::new();
    };
    let golden = parts.golden.iter().flat_map(|set| set.values.keys());
    let stated = parts.statement.iter().flat_map(|statement| &statement.pcrs);
    let held: BTreeSet<u8> = parts
        .exact
        .keys()
        .chain(golden)
        .chain(stated)
        .map(|index| index.get())
        .collect();
    let about_lines = !rules.command_line.is_empty() || rules.no_debug_shell;
    let about_keys = !rules.keys.is_empty() || rules.authorities.is_some();
    let mut lines = Vec::new();
    if about_keys && !rules.secure_boot && !held.contains(&7) {
        lines.push(
            "but not for Secure Boot on: without it, keys keep nothing out, and any boot loader measures any authority",
        );
    }
    if about_lines && !held.contains(&4) {
        lines.push(
            "but for no boot loader (PCR 4): one that measures no command line leaves it to whoever is root later to \
             measure a good one",
        );
    }
    if held.is_empty() && !about_lines && !about_keys && !rules.secure_boot {
        lines.push("but for nothing that the log must show: every boot fulfils this");
    }
    lines
}

fn set(set: &GoldenSet) -> String {
    match set.until {
        Some(until) => format!("`{}` until {until}", set.name),
        None => format!("`{}`", set.name),
    }
}

fn statement(wanted: &StatementPolicy) -> String {
    let keys: Vec<String> = wanted.keys.iter().map(|key| key.digest().short()).collect();
    let revoked = match wanted.revoked.len() {
        0 => String::new(),
        some => format!(", {some} revoked"),
    };
    format!(
        "{}: what an image statement says, for profile `{}`, release {} or later{revoked}, signed by image key {}",
        pcrs(&wanted.pcrs),
        wanted.profile,
        wanted.least_release,
        keys.join(" or ")
    )
}

fn log(rules: &LogRules) -> String {
    let mut shows = Vec::new();
    if rules.secure_boot {
        shows.push("Secure Boot on".to_owned());
    }
    if !rules.keys.is_empty() {
        let names: Vec<String> = rules.keys.keys().map(ToString::to_string).collect();
        shows.push(format!("{} as listed", names.join(", ")));
    }
    if rules.authorities.is_some() {
        shows.push("boot loaders let in by listed authorities alone".to_owned());
    }
    let patterns: Vec<String> = rules
        .command_line
        .iter()
        .map(|p| format!("`{}`", p.to_string().escape_debug()))
        .collect();
    if !patterns.is_empty() {
        shows.push(format!("kernel command lines like {}", patterns.join(" or ")));
    }
    if rules.no_debug_shell {
        shows.push("no debug shell".to_owned());
    }
    let shows = if shows.is_empty() {
        String::new()
    } else {
        format!(" and shows {}", shows.join("; "))
    };
    format!("an event log that replays to {}{shows}", pcrs(&rules.pcrs()))
}

fn pcrs<'a>(indices: impl IntoIterator<Item = &'a PcrIndex>) -> String {
    let all: Vec<String> = indices.into_iter().map(ToString::to_string).collect();
    let word = if all.len() == 1 { "PCR" } else { "PCRs" };
    format!("{word} {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_line() {
        let text = include_str!("../../../manifests/examples/kiosk-fleet.toml");
        let fleet = manifest::parse("kiosk-fleet.toml", text).unwrap();
        let words = |name: &str| demands(fleet.policies[&name.parse().unwrap()].evidence.as_ref());
        assert_eq!(
            words("kiosk"),
            [
                "for a quote over PCRs sha256:4,7,11",
                "PCR 7: one value each, the same at all times",
                "PCRs 4, 11: those of golden set `2026-09` until 2026-12-01T00:00:00Z, or of `2026-10`",
            ]
        );
        let signage = words("signage");
        assert_eq!(signage.len(), 3);
        assert!(signage[1].starts_with(
            "PCRs 4, 11: what an image statement says, for profile `signage`, release 41 or later, 1 revoked, signed by"
        ));
        assert_eq!(
            signage[2],
            "an event log that replays to PCRs 2, 7, 8, 12 and shows Secure Boot on; KEK, db, dbx as listed; boot loaders \
             let in by listed authorities alone; kernel command lines like `/vmlinuz-* root=UUID=* ro **`; no debug shell"
        );
        assert!(
            hollow(
                fleet.policies[&"signage".parse().unwrap()]
                    .evidence
                    .as_ref()
                    .unwrap()
            )
            .is_empty()
        );
        assert_eq!(words("workshop"), ["for the pre-shared key alone"]);
    }
    #[test]
    fn rules_that_hold_nothing_on_their_own_say_so() {
        let of = |evidence: &str| {
            let policy = manifest::parse_evidence("policy.toml", evidence).unwrap();
            let said: Vec<String> = demands(Some(&policy))
                .into_iter()
                .filter(|line| line.starts_with("but "))
                .collect();
            said
        };
        let digest = "ab".repeat(32);
        let keys = format!("[log]\nauthorities = [\"{digest}\"]");
        let said = of(&keys);
        assert!(
            matches!(&said[..], [one] if one.contains("not for Secure Boot")),
            "{said:?}"
        );
        assert_eq!(of(&format!("{keys}\nsecure-boot = true")), [""; 0]);
        assert_eq!(of(&format!("pcrs = {{ 7 = \"{digest}\" }}\n{keys}")), [""; 0]);
        for line in ["command-line = [\"**\"]", "no-debug-shell = true"] {
            let rules = format!("[log]\nsecure-boot = true\n{line}");
            let said = of(&rules);
            assert!(
                matches!(&said[..], [one] if one.contains("no boot loader (PCR 4)")),
                "{said:?}"
            );
            assert_eq!(of(&format!("pcrs = {{ 4 = \"{digest}\" }}\n{rules}")), [""; 0]);
        }
        assert_eq!(
            of("[log]\nreplays = [0, 4]"),
            ["but for nothing that the log must show: every boot fulfils this"]
        );
        assert_eq!(
            of(&format!("pcrs = {{ 4 = \"{digest}\" }}\n[log]\nreplays = [0]")),
            [""; 0]
        );
    }
}
