//! The arrows between crates: what cargo knows against the table in ARCHITECTURE.md.
//!
//! Owns: reading that table and the comparison. A crate may use fewer arrows than it is allowed; a crate without a row, and a row without a
//! crate, are findings.

use std::collections::BTreeMap;

use crate::arch::source::{Crate, Workspace, rows};
use crate::arch::{ArchError, Finding, Report};

const DOCUMENT: &str = "ARCHITECTURE.md";
const OPEN: &str = "<!-- arrows -->";
const CLOSE: &str = "<!-- /arrows -->";

#[derive(Debug, Default, PartialEq, Eq)]
struct Allowed {
    always: Vec<String>,
    dev: Vec<String>,
}

pub(crate) fn check(workspace: &Workspace) -> Result<Report, ArchError> {
    let table = table(&workspace.document(DOCUMENT)?)?;
    let findings = compare(&table, &workspace.crates);
    let arrows: usize = workspace
        .crates
        .iter()
        .map(|c| c.dependencies.iter().filter(|d| d.ours).count())
        .sum();
    Ok((
        format!(
            "arrows: {} crates, {arrows} arrows, as in {DOCUMENT}",
            workspace.crates.len()
        ),
        findings,
    ))
}

fn table(document: &str) -> Result<BTreeMap<String, Allowed>, ArchError> {
    let (_, rest) = document
        .split_once(OPEN)
        .ok_or(ArchError::NoTable(DOCUMENT, OPEN, CLOSE))?;
    let (text, _) = rest
        .split_once(CLOSE)
        .ok_or(ArchError::NoTable(DOCUMENT, OPEN, CLOSE))?;
    let list = |cell: &str| -> Vec<String> {
        cell.split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    };
    // Header and ruler are the first two rows.
    Ok(rows(text)
        .skip(2)
        .filter_map(|(_, cells)| match cells.as_slice() {
            [name, always, dev] => Some((
                name.trim_matches('`').to_owned(),
                Allowed {
                    always: list(always),
                    dev: list(dev),
                },
            )),
            _ => None,
        })
        .collect())
}

fn compare(table: &BTreeMap<String, Allowed>, crates: &[Crate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for each in crates {
        let Some(allowed) = table.get(&each.name) else {
            findings.push(Finding::new(
                DOCUMENT,
                format!("the table of arrows has no row for the crate {}", each.name),
            ));
            continue;
        };
        for arrow in each.dependencies.iter().filter(|dependency| dependency.ours) {
            let may =
                allowed.always.contains(&arrow.name) || (arrow.dev && allowed.dev.contains(&arrow.name));
            if !may {
                let kind = if arrow.dev { "dev-depends" } else { "depends" };
                let message = format!(
                    "{} {kind} on {}, which {DOCUMENT} does not allow",
                    each.name, arrow.name
                );
                findings.push(Finding::new(format!("crate {}", each.name), message));
            }
        }
    }
    for name in table
        .keys()
        .filter(|name| !crates.iter().any(|each| each.name == **name))
    {
        findings.push(Finding::new(
            DOCUMENT,
            format!("the table of arrows has a row for {name}, which is no crate here"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::source::Dependency;

    const TABLE: &str = "<!-- arrows -->\n| crate | may depend on | dev only |\n|---|---|---|\n| core | | kit |\n| kit | core | |\n<!-- /arrows -->";

    fn member(name: &str, arrows: &[(&str, bool)]) -> Crate {
        let dependencies = arrows
            .iter()
            .map(|(name, dev)| Dependency {
                name: (*name).to_owned(),
                dev: *dev,
                ours: true,
            })
            .collect();
        Crate {
            name: name.to_owned(),
            files: Vec::new(),
            dependencies,
        }
    }

    fn messages(crates: &[Crate]) -> Vec<String> {
        compare(&table(TABLE).unwrap(), crates)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn arrows_as_in_the_table_pass() {
        assert_eq!(
            messages(&[
                member("core", &[("kit", true)]),
                member("kit", &[("core", false)])
            ]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_dev_arrow_that_ships_is_found() {
        let found = messages(&[member("core", &[("kit", false)]), member("kit", &[])]);
        assert_eq!(
            found,
            ["core depends on kit, which ARCHITECTURE.md does not allow"]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let found = messages(&[member("core", &[]), member("new", &[])]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("no row for the crate new") && found[1].contains("row for kit"),
            "{found:?}"
        );
    }

    #[test]
    fn a_document_without_the_table_is_an_error() {
        assert!(matches!(table("# Architecture"), Err(ArchError::NoTable(..))));
    }
}
