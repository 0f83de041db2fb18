//! Values of options: parsed here, so that what a command gets is valid.

use std::str::FromStr;

use clap::ValueEnum;
use domain::{HashAlg, PcrIndex, PcrSelection};

/// The cipher of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cipher {
    AesXts,
    Adiantum,
}

/// The sectors of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sector {
    #[value(name = "512")]
    B512,
    #[value(name = "4096")]
    B4096,
}

/// Under which storage key a secret is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Srk {
    /// systemd 252's own, on P-256
    #[default]
    #[value(name = "systemd-252")]
    Systemd,
    /// systemd 252's own with RSA, for TPMs without P-256
    #[value(name = "systemd-252-rsa")]
    SystemdRsa,
    /// The TCG's storage root key; systemd 254 and later
    Tcg,
}

/// A bank of PCRs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Bank {
    #[default]
    Sha256,
    Sha384,
    Sha1,
}

impl Bank {
    pub(crate) const fn alg(self) -> HashAlg {
        match self {
            Self::Sha256 => HashAlg::Sha256,
            Self::Sha384 => HashAlg::Sha384,
            Self::Sha1 => HashAlg::Sha1,
        }
    }
}

/// PCRs without their bank, at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PcrList(Vec<PcrIndex>);

impl PcrList {
    /// These PCRs in a bank.
    pub(crate) fn of(&self, bank: Bank) -> Result<PcrSelection, String> {
        PcrSelection::new(bank.alg(), self.0.iter().copied()).map_err(|e| e.to_string())
    }
}

impl FromStr for PcrList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = |one: &str| {
            let number = one.trim().parse::<u64>().ok()?;
            PcrIndex::try_from(number).ok()
        };
        let list: Option<Vec<PcrIndex>> = text.split([',', '+']).map(index).collect();
        let list = Self(list.ok_or("PCRs are numbers from 0 to 23, for example 7,11")?);
        list.of(Bank::Sha256).map(|_| list)
    }
}

/// A number of bytes, a multiple of 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a size is a multiple of 4096 such as 512MiB, 2GiB or 67108864".to_owned();
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match text.get(digits.len()..).unwrap_or_default() {
            "" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            _ => return Err(wrong()),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        bytes
            .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(4096))
            .map(Self)
            .ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_and_whole_blocks() {
        for (text, bytes) in [
            ("32MiB", 32 << 20),
            ("2G", 2 << 30),
            ("8192", 8192),
            ("4KiB", 4096),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "32MB",
            "4095",
            "-4096",
            "0",
            "99999999999GiB",
            "1.5GiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_of_pcrs_are_numbers_of_pcrs() {
        let list: PcrList = "7, 11".parse().unwrap();
        assert_eq!(list.of(Bank::Sha384).unwrap().to_string(), "sha384:7,11");
        for text in ["", "24", "7,,11", "sha256:7", "seven", "-1"] {
            assert!(text.parse::<PcrList>().is_err(), "{text}");
        }
    }
}
