//! Kernel command lines as boot loaders measured them.
//!
//! Owns: which measured texts are command lines. systemd-stub measures UTF-16 into PCR 12 (before version 251 into PCR 8)
//! and GRUB UTF-8 into PCR 8: the path of the kernel, then its arguments. GRUB's label of a text is not measured, so the
//! text itself decides: a path comes first (`/` or `(`), or a command that starts something.

use domain::PcrIndex;

use super::{
    LogRules, RuleBroken,
    debug_shell::asks_for_a_shell,
    shown::{Text, events_of, measured, words},
};
use crate::eventlog::ProvenLog;

/// GRUB's strings, systemd-stub's command lines.
pub(super) const PCRS: [u64; 2] = [8, 12];
/// GRUB's commands that take a kernel, or a program with arguments.
const LOADERS: [&str; 12] = [
    "linux",
    "linux16",
    "linuxefi",
    "chainloader",
    "multiboot",
    "multiboot2",
    "module",
    "module2",
    "xen_hypervisor",
    "xen_module",
    "kfreebsd",
    "knetbsd",
];

pub(super) fn judge(rules: &LogRules, log: &ProvenLog<'_>, broken: &mut Vec<RuleBroken>) {
    let mut unknown = true;
    for index in PCRS {
        for event in events_of(log, index) {
            let Some(measured) = measured(event, log.bank()) else {
                let at = event.into();
                let pcr = PcrIndex::try_from(index).ok();
                broken.extend(pcr.map(|pcr| RuleBroken::Hidden { pcr, at }));
                continue;
            };
            let (is_command_line, text) = match Text::of(measured) {
                Text::Utf16(text) => (true, text),
                Text::Utf8(text) => (index == 12 || text.starts_with(['/', '(']), text),
            };
            let words: Vec<_> = words(&text).collect();
            let Some(first) = words.first() else {
                // A separator, or an empty command line.
                continue;
            };
            let at = event.into();
            if is_command_line {
                unknown = false;
                let matches = || rules.command_line.iter().any(|pattern| pattern.matches(&words));
                if !rules.command_line.is_empty() && !matches() {
                    let found = words.join(" ");
                    broken.push(RuleBroken::CommandLine { at, found });
                }
            }
            if rules.no_debug_shell && (is_command_line || LOADERS.contains(&first.as_str())) {
                let asking = words.iter().filter(|word| asks_for_a_shell(word)).cloned();
                broken.extend(asking.map(|word| RuleBroken::DebugShell { at, word }));
            }
        }
    }
    if unknown {
        broken.push(RuleBroken::CommandLineUnknown);
    }
}
