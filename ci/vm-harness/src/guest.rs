//! What a machine is asked, and what it says.
//!
//! Owns: the words that `guest/init` and we exchange. An answer is believed only where its line is whole; what the machine did not say, it did
//! not do.

use std::collections::BTreeMap;
use std::fmt;

use domain::{HashAlg, PcrIndex, PcrValue, VolumeKeyDigest};

/// Who opens a volume inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// `edge-client unlock`, then cryptsetup.
    Ours,
    /// cryptsetup alone, with systemd's token.
    Stock,
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Stock => "stock",
        })
    }
}

/// One thing to do inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Open the volume on the disk of this name.
    Unlock(Opener, &'static str),
    /// Open it as ours does, expecting this digest of the volume's key.
    Expect(VolumeKeyDigest, &'static str),
    /// Write a volume with what the disk "content" holds straight to the disk of this name, sealed to this machine as it is.
    Create(&'static str),
    /// Mount the disk of this name, for as long as the machine runs.
    Mount(&'static str),
    /// Measure something into a PCR.
    Extend(u8),
    /// Quote, answering a nonce of 64 hexadecimal digits, for the device of the volume on this disk.
    Quote(String, &'static str),
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlock(opener, disk) => write!(f, "unlock {opener} {disk}"),
            Self::Expect(digest, disk) => write!(f, "expect {digest} {disk}"),
            Self::Create(disk) => write!(f, "create {disk}"),
            Self::Mount(disk) => write!(f, "mount {disk}"),
            Self::Extend(pcr) => write!(f, "extend {pcr}"),
            Self::Quote(nonce, disk) => write!(f, "quote {nonce} {disk}"),
        }
    }
}

/// What a machine said on its console.
#[derive(Debug, Clone)]
pub struct Console(String);

impl Console {
    /// Takes what came over the serial line.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Everything, the firmware's and the kernel's words included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether our first program ran.
    #[must_use]
    pub fn booted(&self) -> bool {
        self.lines().next().is_some()
    }

    /// Whether it did everything that it was asked.
    #[must_use]
    pub fn done(&self) -> bool {
        self.lines().any(|line| line == "done")
    }

    /// Whether the firmware says that Secure Boot is on.
    #[must_use]
    pub fn secure_boot(&self) -> Option<bool> {
        match self.lines().find_map(|line| line.strip_prefix("secure-boot "))? {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }

    /// The PCRs as they were before the first verb.
    #[must_use]
    pub fn pcrs(&self) -> BTreeMap<PcrIndex, PcrValue> {
        let pcr = |line: &str| {
            let (index, value) = line.strip_prefix("pcr ")?.split_once(' ')?;
            let index = PcrIndex::try_from(index.parse::<u64>().ok()?).ok()?;
            Some((index, PcrValue::from_hex(HashAlg::Sha256, value).ok()?))
        };
        self.lines().filter_map(pcr).collect()
    }

    /// The SHA-256 of a variable of Secure Boot (`PK`, `KEK`, `db`, `dbx`), or of the first entry of db (`db-entry`).
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let said = format!("variable {name} ");
        self.lines().find_map(|line| line.strip_prefix(said.as_str()))
    }

    /// What came of each time that this was asked, in order.
    #[must_use]
    pub fn answers(&self, verb: &Verb) -> Vec<&str> {
        let said = format!("{verb} ");
        self.lines()
            .filter_map(|line| line.strip_prefix(said.as_str()))
            .collect()
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        // The line may begin with what the firmware left to drive a terminal.
        let whole = self
            .0
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'));
        whole.filter_map(|line| Some(line.trim_end_matches('\r').split_once("vm: ")?.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "BdsDxe: starting\r\n\x1b[2Jvm: secure-boot 1\r\nvm: variable db 5f\r\nvm: pcr 7 1111111111111111111111111111111111111111111111111111111111111111\r\n\
                        [  1.0] kernel\r\nvm: unlock ours aes opened 00\r\nvm: unlock ours aes refused why not\r\nvm: done\r\nvm: unlock ours aes op";

    #[test]
    fn answers_are_found_among_other_words() {
        let console = Console::new(SAID.as_bytes());
        assert!(console.booted() && console.done());
        assert_eq!(console.secure_boot(), Some(true));
        let verb = Verb::Unlock(Opener::Ours, "aes");
        assert_eq!(console.answers(&verb), ["opened 00", "refused why not"]);
        assert_eq!(console.pcrs().len(), 1);
        assert!(console.answers(&Verb::Extend(7)).is_empty());
        assert_eq!(console.variable("db"), Some("5f"));
        assert_eq!(console.variable("dbx"), None);
    }

    #[test]
    fn a_machine_that_did_not_boot_said_nothing() {
        let console = Console::new(b"Access Denied\r\n");
        assert!(!console.booted() && !console.done());
        assert_eq!(console.secure_boot(), None);
    }
}
