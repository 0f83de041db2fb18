//! Where secrets come from: a file, standard input, or a person at the terminal. Never an argument or a variable.
//!
//! Owns: reading them with a bound into memory that is wiped, and taking one line end off. What is wrong with a secret is told without
//! the secret. The terminal is `opening`'s: it shows nothing of what somebody types.

use std::path::Path;

use domain::{DeviceId, Pin};
use opening::terminal::{self, AskError};
use volume::RecoveryKey;
use zeroize::Zeroizing;

use crate::{adapters::escrows, failure::Failure};

/// The bytes of a file, `-` being standard input, without their last line end.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = raw(path)?;
    let kept = without_line_end(&bytes).len();
    bytes.truncate(kept);
    Ok(bytes)
}

/// The bytes of a file as they are, `-` being standard input.
pub(crate) fn raw(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let from = if path == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        path
    };
    Ok(escrows::read(from)?)
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A PIN out of a file, or asked for.
pub(crate) fn pin(file: Option<&Path>) -> Result<Pin, Failure> {
    match file {
        Some(file) => Pin::parse(&read(file)?).map_err(|e| wrong("PIN", file, e)),
        None => {
            let typed = ask("PIN: ", "the volume wants a PIN", "--pin-file FILE")?;
            Pin::parse(&typed).map_err(|e| usage(e.to_string(), "type the PIN of the volume"))
        }
    }
}

/// A PIN that is to be: asked for twice.
pub(crate) fn new_pin(file: Option<&Path>) -> Result<Pin, Failure> {
    if file.is_some() {
        return pin(file);
    }
    twice("New PIN", "--new-pin-file FILE")
}

/// The PIN that a device is to have: asked for twice.
pub(crate) fn new_pin_of(device: &DeviceId) -> Result<Pin, Failure> {
    twice(&format!("New PIN of {device}"), "--pin-file FILE")
}

fn twice(prompt: &str, instead: &str) -> Result<Pin, Failure> {
    let ask = |prompt: &str| ask(prompt, "a new PIN is wanted", instead);
    let typed = ask(&format!("{prompt}: "))?;
    if *ask(&format!("{prompt} again: "))? != *typed {
        return Err(usage("the two PINs are not the same", "try again"));
    }
    Pin::parse(&typed).map_err(|e| usage(e.to_string(), "choose another"))
}

/// A recovery key out of a file.
pub(crate) fn recovery_key(file: &Path) -> Result<RecoveryKey, Failure> {
    let text = read(file)?;
    RecoveryKey::parse(text.trim_ascii()).map_err(|e| wrong("recovery key", file, e))
}

fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::Usage(what.into(), Some(hint.to_owned()))
}

fn wrong(
    what: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Failure {
    Failure::NotEvidence {
        what,
        path: path.to_owned(),
        source: source.into(),
    }
}

fn ask(prompt: &str, why: &str, instead: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    terminal::ask(prompt).map_err(|error| match error {
        AskError::NoTerminal => usage(
            format!("{why}, and {error}"),
            &format!("give it with {instead}, `-` being standard input"),
        ),
        AskError::Terminal(e) => Failure::Usage(format!("{why}, and the terminal fails: {e}"), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        for (text, pin) in [
            ("1234", "1234"),
            ("1234\n", "1234"),
            ("12 34\r\n", "12 34"),
            ("1234\n\n", "1234\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(*read(&path).unwrap(), pin.as_bytes());
        }
        assert_eq!(*raw(&path).unwrap(), b"1234\n\n");
    }

    #[test]
    fn what_is_no_secret_is_told_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(
            pin(Some(&path)),
            Err(Failure::NotEvidence { what: "PIN", .. })
        ));
        std::fs::write(&path, "canary-canary").unwrap();
        let Err(failure) = recovery_key(&path) else {
            panic!("it is none");
        };
        let told = format!("{failure} {:?}", failure.causes());
        assert!(!told.contains("canary"), "{told}");
        assert_eq!(failure.exit(), 2);
    }
}
