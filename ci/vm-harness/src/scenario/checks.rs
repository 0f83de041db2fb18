//! What scenarios expect of a boot, and the words for what they found instead.

use std::path::Path;

use domain::{PcrIndex, PcrValue};

use crate::arch::SecureBoot;
use crate::error::VmError;
use crate::factory::SEALED_TO;
use crate::guest::{Console, Opener, Verb};
use crate::machine::Boot;
use crate::yard::Yard;

/// What came of the `nth` time that this was asked.
pub(super) fn expect<'a>(
    console: &'a Console,
    verb: &Verb,
    nth: usize,
) -> Result<(String, &'a str), VmError> {
    let what = format!("\"{verb}\" (time {})", nth + 1);
    match console.answers(verb).get(nth) {
        Some(answer) => Ok((what, answer)),
        None => Err(VmError::Unexpected {
            expected: format!("an answer to {what}"),
            found: "none".to_owned(),
        }),
    }
}

/// An answer and what it was to.
pub(super) trait Expect {
    /// Fails unless it is these words.
    fn is(&self, words: &str) -> Result<(), VmError>;
    /// Fails unless it begins so and has one of these words behind it.
    fn begins(&self, start: &str, one_of: &[&str]) -> Result<(), VmError>;
}

impl Expect for (String, &str) {
    fn is(&self, words: &str) -> Result<(), VmError> {
        let (what, answer) = self;
        unless(
            *answer == words,
            || format!("{what}: {words}"),
            || format!("{answer:?}"),
        )
    }

    fn begins(&self, start: &str, one_of: &[&str]) -> Result<(), VmError> {
        let (what, answer) = self;
        let rest = answer.strip_prefix(start);
        let holds = rest.is_some_and(|rest| one_of.iter().any(|words| rest.contains(words)));
        unless(
            holds,
            || format!("{what}: {start} .. {}", one_of.join(" or ")),
            || format!("{answer:?}"),
        )
    }
}

/// The volume opened, and the key in it is the one that was put in.
pub(super) fn opened(console: &Console, verb: &Verb, nth: usize, psk: &str) -> Result<(), VmError> {
    expect(console, verb, nth)?.is(&format!("opened {psk}"))
}

/// The TPM did not release the key, in the words of whoever asked it.
pub(super) fn refused(console: &Console, verb: &Verb, nth: usize) -> Result<(), VmError> {
    let reasons: &[&str] = match verb {
        Verb::Unlock(Opener::Ours, _) => &["the TPM does not release the volume's key"],
        _ => &["Current policy digest does not match stored policy digest"],
    };
    expect(console, verb, nth)?.begins("refused ", reasons)
}

/// The firmware says no, and nothing of the image runs.
pub(super) fn image_refused(yard: &Yard, image: &Path) -> Result<(), VmError> {
    let boot = yard.boot(image, SecureBoot::On, &[], &[])?;
    let said = boot.console.text();
    let denied = said.contains("Access Denied") || said.contains("Security Violation");
    let found = || format!("{:?}", said.get(said.len().saturating_sub(300)..).unwrap_or(said));
    unless(
        denied && !boot.console.booted(),
        || "Access Denied by the firmware".to_owned(),
        found,
    )
}

/// What the firmware says of Secure Boot.
pub(super) fn secure_boot(boot: &Boot, on: bool) -> Result<(), VmError> {
    unless(
        boot.console.secure_boot() == Some(on),
        || format!("Secure Boot {on}"),
        || format!("{:?}", boot.console.secure_boot()),
    )
}

/// Of the PCRs to which the volumes are sealed this one alone is not as in the first boot.
pub(super) fn only_differs(yard: &Yard, boot: &Boot, pcr: u64) -> Result<(), VmError> {
    let (before, now) = (yard.first.console.pcrs(), boot.console.pcrs());
    let value = |pcrs: &std::collections::BTreeMap<PcrIndex, PcrValue>, index: u64| {
        PcrIndex::try_from(index)
            .ok()
            .and_then(|index| pcrs.get(&index).copied())
    };
    for sealed in SEALED_TO {
        let (was, is) = (value(&before, sealed), value(&now, sealed));
        unless(
            is.is_some() && (was != is) == (sealed == pcr),
            || format!("that of the sealed PCRs only {pcr} differs from {was:?}"),
            || format!("PCR {sealed} {is:?}"),
        )?;
    }
    Ok(())
}

pub(super) fn unless(
    holds: bool,
    expected: impl FnOnce() -> String,
    found: impl FnOnce() -> String,
) -> Result<(), VmError> {
    if holds {
        return Ok(());
    }
    Err(VmError::Unexpected {
        expected: expected(),
        found: found(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERB: Verb = Verb::Unlock(Opener::Stock, "aes");

    #[test]
    fn a_refusal_counts_with_its_reason_alone() {
        let console = |said: &str| Console::new(format!("vm: unlock stock aes {said}\n").as_bytes());
        refused(
            &console("refused Current policy digest does not match stored policy digest, cancelling"),
            &VERB,
            0,
        )
        .unwrap();
        for other in ["refused cryptsetup: not found", "opened 00", "absent", "refused"] {
            assert!(refused(&console(other), &VERB, 0).is_err(), "{other}");
        }
        // Said once is not said twice.
        assert!(
            refused(
                &console("refused Current policy digest does not match stored policy digest, cancelling"),
                &VERB,
                1
            )
            .is_err()
        );
    }

    #[test]
    fn opened_means_the_right_key() {
        let console = Console::new(b"vm: unlock stock aes opened 00ff\n");
        opened(&console, &VERB, 0, "00ff").unwrap();
        let text = opened(&console, &VERB, 0, "00fe").unwrap_err().to_string();
        assert!(text.contains("opened 00fe") && text.contains("00ff"), "{text}");
    }
}
