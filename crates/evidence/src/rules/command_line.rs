//! Kernel command lines as boot loaders measured them.
//!
//! Owns: which measured texts are command lines. systemd-stub measures UTF-16 into PCR 12 (before version 251 into PCR 8)
//! and GRUB UTF-8 into PCR 8: the path of the kernel, then its arguments. GRUB's label of a text is not measured, so the
//! text itself decides: a path comes first (`/` or `(`), or a command that starts something. Such a command's arguments are
//! a command line of their own, unless GRUB measured the same words as one: a kernel can be named by its blocks
//! (`linux 2048+20480`), and what is chain-loaded gets its arguments without GRUB measuring them again.

use std::collections::BTreeSet;

use domain::PcrIndex;

use super::{
    At, LogRules, RuleBroken,
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
    let mut lines = Vec::new();
    let mut commands = Vec::new();
    for index in PCRS {
        for event in events_of(log, index) {
            let Some(measured) = measured(event, log.bank()) else {
                let at = event.into();
                let pcr = PcrIndex::try_from(index).ok();
                broken.extend(pcr.map(|pcr| RuleBroken::Hidden { pcr, at }));
                continue;
            };
            let at = event.into();
            let text = Text::of(measured);
            for octets in &text.readings {
                let words: Vec<_> = words(octets).collect();
                let Some(first) = words.first() else {
                    // A separator, or an empty command line.
                    continue;
                };
                let is_command = LOADERS.contains(&first.as_str());
                let is_line = text.is_utf16 || index == 12 || first.starts_with(['/', '(']);
                if is_line {
                    lines.push(bare(&words));
                    unlike(rules, &words, at, broken);
                }
                if rules.no_debug_shell && (is_command || is_line) {
                    shells(&words, at, broken);
                }
                if is_command && !is_line {
                    commands.push((at, words));
                }
            }
        }
    }
    for (at, words) in commands {
        let arguments = words.get(1..).unwrap_or_default();
        if !lines.contains(&bare(arguments)) {
            unlike(rules, arguments, at, broken);
        }
    }
    if lines.is_empty() {
        broken.push(RuleBroken::CommandLineUnknown);
    }
}

/// A line that matches no pattern.
fn unlike(rules: &LogRules, words: &[String], at: At, broken: &mut Vec<RuleBroken>) {
    let matches = || rules.command_line.iter().any(|pattern| pattern.matches(words));
    if !rules.command_line.is_empty() && !matches() {
        let found = words.join(" ");
        broken.push(RuleBroken::CommandLine { at, found });
    }
}

/// Each word once that asks for a shell.
fn shells(words: &[String], at: At, broken: &mut Vec<RuleBroken>) {
    let mut told = BTreeSet::new();
    for word in words.iter().flat_map(|word| pieces(word)) {
        let plain = without_quotes(word);
        // Nobody takes all quotes off; what stays on makes another name.
        if (asks_for_a_shell(&plain) || asks_for_a_shell(word)) && told.insert(plain.clone()) {
            broken.push(RuleBroken::DebugShell { at, word: plain });
        }
    }
}

/// What zeros and all kinds of spaces and control characters part, so that nothing hides behind one.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|piece| !piece.is_empty())
}

/// The kernel takes off double quotes, systemd single ones too, and some of its versions backslashes.
fn without_quotes(word: &str) -> String {
    word.replace(['"', '\'', '\\'], "")
}

/// Words to compare: a command is measured without the quotes and backslashes that GRUB puts into the line.
fn bare(words: &[String]) -> Vec<String> {
    words.iter().map(|word| without_quotes(word)).collect()
}
