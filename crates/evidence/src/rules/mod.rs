//! Rules on event logs: what must be true of a boot whose PCR values nobody knows beforehand.
//!
//! Owns: the rules ([`LogRules`]) and every reason against a log ([`LogRefused`], [`RuleBroken`]). A log counts only
//! where it replays to quoted values: PCR 7 for Secure Boot, PCRs 8 and 12 for the command line.
//! What an attacker controls: the log; with the device's operating system also what extends a PCR *after* the boot.
//! An event's type is not measured and its data only if it hashes to the digest. So no rule rests on a type; in the PCRs
//! of a rule an event that does not show what was measured is refused, since it may be the very one; and what the firmware
//! measures counts only before its separator, behind which nothing later can get.
//! Limits: a command line is readable where GRUB (PCR 8) or systemd-stub (PCR 12, before version 251 PCR 8) measured it;
//! the kernel's own stub (PCR 9) and the `.cmdline` of a unified kernel image (PCR 11) leave a digest alone, which is for
//! golden sets and image statements. GRUB's other commands are not judged. PCRs 8 and 12 have no end of the boot in them: after a loader
//! that measures no command line (shim can start a kernel itself), root measures a good one. Only PCR 4, held by a value, a
//! golden set or a statement, keeps such a loader out.

mod broken;
mod command_line;
mod debug_shell;
mod pattern;
mod secure_boot;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use domain::{PcrIndex, PcrValues, Sha256Digest};

pub use self::{
    broken::{At, LogRefused, RuleBroken},
    pattern::{CommandLinePattern, InvalidPattern},
    secure_boot::KeyVariable,
};
use crate::eventlog::{EventLog, ProvenLog};

/// What must be true of the boot. Digests are SHA-256 over the value of an EFI variable: what
/// `tail -c +5 /sys/firmware/efi/efivars/NAME-GUID | sha256sum` prints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRules {
    /// Secure Boot is on, no debug mode of the firmware, and shim verifies too.
    pub secure_boot: bool,
    /// The Secure Boot keys and lists that are good, by variable.
    pub keys: BTreeMap<KeyVariable, BTreeSet<Sha256Digest>>,
    /// What may have let boot loaders start: the values of all variables in PCR 7 after the separator, those of shim
    /// (`SbatLevel`, `MokListTrusted`, ...) included. `None`: no rule.
    pub authorities: Option<BTreeSet<Sha256Digest>>,
    /// Each kernel command line matches one of these; none: no rule.
    pub command_line: Vec<CommandLinePattern>,
    /// No command line asks for a shell or another first program.
    pub no_debug_shell: bool,
    /// More PCRs to which the log must replay.
    pub replays: BTreeSet<PcrIndex>,
}

impl LogRules {
    /// The PCRs to which the log must replay: those that the rules are about, and [`LogRules::replays`].
    #[must_use]
    pub fn pcrs(&self) -> BTreeSet<PcrIndex> {
        let mut pcrs = self.replays.clone();
        if self.about_pcr_7() {
            pcrs.extend(indices([7]));
        }
        if self.about_command_lines() {
            pcrs.extend(indices(command_line::PCRS));
        }
        pcrs
    }

    fn about_pcr_7(&self) -> bool {
        self.secure_boot || !self.keys.is_empty() || self.authorities.is_some()
    }

    fn about_command_lines(&self) -> bool {
        !self.command_line.is_empty() || self.no_debug_shell
    }

    /// Every rule that a proven log breaks.
    fn broken_by(&self, log: &ProvenLog<'_>) -> Vec<RuleBroken> {
        let mut broken = Vec::new();
        if self.about_pcr_7() {
            secure_boot::judge(self, log, &mut broken);
        }
        if self.about_command_lines() {
            command_line::judge(self, log, &mut broken);
        }
        broken
    }
}

fn indices(list: impl IntoIterator<Item = u64>) -> impl Iterator<Item = PcrIndex> {
    list.into_iter().filter_map(|i| PcrIndex::try_from(i).ok())
}

/// Judges what was sent. `quoted` holds the values of [`LogRules::pcrs`]; `None` where there are no values that a TPM
/// quoted: then the log is only read.
pub(crate) fn judge(
    rules: &LogRules,
    sent: Option<&[u8]>,
    quoted: Option<&PcrValues>,
) -> Result<(), Refused> {
    let bytes = sent.ok_or(Refused::Log(LogRefused::Missing))?;
    let log = EventLog::parse(bytes).map_err(|error| Refused::Log(error.into()))?;
    let Some(quoted) = quoted else {
        return Ok(());
    };
    let proven = log.prove(quoted).map_err(|error| Refused::Log(error.into()))?;
    let broken = rules.broken_by(&proven);
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Refused::Rules(broken))
    }
}

/// What was found against a log: a log that is worth nothing, or every rule that a true one breaks.
pub(crate) enum Refused {
    Log(LogRefused),
    Rules(Vec<RuleBroken>),
}
