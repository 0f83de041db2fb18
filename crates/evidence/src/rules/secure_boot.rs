//! PCR 7: Secure Boot's state, its keys, and what let boot loaders start (Firmware Profile, 3.3.4.8).
//!
//! Owns: the reading of PCR 7 as configuration, separator, authorities. The separator is told by its digest, so a log
//! cannot hide where it is; what comes after it may be measured by anybody, so nothing there can vouch for Secure Boot.

use std::fmt;

use domain::{HashAlg, Sha256Digest};

use super::{
    LogRules, RuleBroken, indices,
    shown::{events_of, measured},
};
use crate::{
    eventlog::{Event, ProvenLog, UefiVariable},
    hash,
};

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
const IMAGE_SECURITY: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// shim's variables that turn verification off: 1 does.
const SHIM_SWITCHES: [&str; 2] = ["MokSBState", "MokDBState"];
/// What firmware measures when its debugger may run (3.3.4.8).
const DEBUG_MODE: &[u8] = b"UEFI Debug Mode";

/// A variable that holds Secure Boot's keys, or lists of what they may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyVariable {
    /// The platform key.
    Pk,
    /// The keys that may change the lists.
    Kek,
    /// What may start.
    Db,
    /// What may not.
    Dbx,
}

impl KeyVariable {
    const fn vendor(self) -> &'static str {
        match self {
            Self::Pk | Self::Kek => GLOBAL,
            Self::Db | Self::Dbx => IMAGE_SECURITY,
        }
    }

    /// The variable's name: `PK`, `KEK`, `db`, `dbx`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pk => "PK",
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }
}

impl fmt::Display for KeyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An event of PCR 7 that shows what was measured.
struct Shown<'l, 'a> {
    event: &'l Event<'a>,
    measured: &'a [u8],
    variable: Option<UefiVariable<'a>>,
}

impl Shown<'_, '_> {
    fn is(&self, vendor: &str, name: &str) -> bool {
        let variable = self.variable.as_ref();
        variable.is_some_and(|v| v.name == name && v.vendor_guid() == vendor)
    }

    fn is_named(&self, name: &str) -> bool {
        self.variable.as_ref().is_some_and(|v| v.name == name)
    }

    fn value(&self) -> &[u8] {
        self.variable.as_ref().map_or(self.measured, |v| v.data)
    }

    fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.value())
    }
}

pub(super) fn judge(rules: &LogRules, log: &ProvenLog<'_>, broken: &mut Vec<RuleBroken>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut separated = false;
    for event in events_of(log, 7) {
        if !separated && is_separator(event, log.bank()) {
            separated = true;
            continue;
        }
        let Some(measured) = measured(event, log.bank()) else {
            let at = event.into();
            broken.extend(indices([7]).map(|pcr| RuleBroken::Hidden { pcr, at }));
            continue;
        };
        // What vouches is compared as a whole with what is allowed, so what old shims left behind it decides nothing. A
        // variable that says something about Secure Boot is a whole one.
        let variable = if separated {
            UefiVariable::parse_prefix(measured).map(|(variable, _)| variable)
        } else {
            UefiVariable::parse(measured)
        };
        let shown = Shown {
            event,
            measured,
            variable,
        };
        if separated {
            after.push(shown);
        } else {
            before.push(shown);
        }
    }
    if !separated {
        broken.push(RuleBroken::NoSeparator);
        return;
    }
    if rules.secure_boot {
        secure_boot(&before, &after, broken);
    }
    keys(rules, &before, broken);
    authorities(rules, &after, broken);
}

/// `EV_SEPARATOR` without an error: zeros or ones (3.3.2.2).
fn is_separator(event: &Event<'_>, bank: HashAlg) -> bool {
    let marks = [[0; 4], [0xff; 4]].map(|mark: [u8; 4]| hash::digest(bank, &[&mark]));
    let digest = event.digests.of(bank);
    marks.iter().any(|mark| digest == Some(mark.as_ref()))
}

fn secure_boot(before: &[Shown<'_, '_>], after: &[Shown<'_, '_>], broken: &mut Vec<RuleBroken>) {
    if !before.iter().any(|shown| shown.is(GLOBAL, "SecureBoot")) {
        broken.push(RuleBroken::SecureBootUnknown);
    }
    for shown in before.iter().chain(after) {
        let at = shown.event.into();
        if shown.is(GLOBAL, "SecureBoot") && shown.value() != [1] {
            broken.push(RuleBroken::SecureBootOff { at });
        }
        if shown.measured.starts_with(DEBUG_MODE) {
            broken.push(RuleBroken::DebugMode { at });
        }
        let switch = SHIM_SWITCHES.into_iter().find(|name| shown.is_named(name));
        if let Some(variable) = switch.filter(|_| shown.value().iter().any(|b| *b != 0)) {
            broken.push(RuleBroken::ShimOff { at, variable });
        }
    }
}

fn keys(rules: &LogRules, before: &[Shown<'_, '_>], broken: &mut Vec<RuleBroken>) {
    for (variable, allowed) in &rules.keys {
        let variable = *variable;
        let mut unknown = true;
        for shown in before {
            if !shown.is(variable.vendor(), variable.name()) {
                continue;
            }
            unknown = false;
            let found = shown.digest();
            if !allowed.contains(&found) {
                let at = shown.event.into();
                broken.push(RuleBroken::Keys { variable, at, found });
            }
        }
        if unknown {
            broken.push(RuleBroken::KeysUnknown { variable });
        }
    }
}

fn authorities(rules: &LogRules, after: &[Shown<'_, '_>], broken: &mut Vec<RuleBroken>) {
    let Some(allowed) = &rules.authorities else {
        return;
    };
    if after.is_empty() {
        broken.push(RuleBroken::AuthorityUnknown);
    }
    for shown in after {
        let found = shown.digest();
        let name = shown.variable.as_ref().map(|v| v.name.clone());
        if name.is_none() || !allowed.contains(&found) {
            broken.push(RuleBroken::Authority {
                at: shown.event.into(),
                name: name.unwrap_or_else(|| "no variable".to_owned()),
                found,
            });
        }
    }
}
