//! `--generation` and `--rollback-counter` on the command line.

use std::str::FromStr;

use clap::Args;
use domain::Generation;
use tpm::RollbackIndex;

/// Which making of the device's volume this is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Rollback")]
pub(crate) struct GenerationArgs {
    /// The generation that the header carries: a number, or `next` for the one after the TPM's counter, which is made where there is
    /// none. Once `edge-client` has opened the volume, nothing older opens on that TPM
    #[arg(long, value_name = "N|next")]
    pub(crate) generation: Option<GenerationWish>,
    /// Where the TPM counts [default: 0x01800020]
    #[arg(long, value_name = "NV-INDEX", requires = "generation")]
    pub(crate) rollback_counter: Option<CounterIndex>,
}

impl GenerationArgs {
    /// Where the TPM counts.
    pub(crate) fn index(&self) -> RollbackIndex {
        self.rollback_counter
            .map_or_else(RollbackIndex::default, |at| at.0)
    }
}

/// What `--generation` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GenerationWish {
    /// This one.
    Number(Generation),
    /// The one after the TPM's.
    Next,
}

impl FromStr for GenerationWish {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "next" {
            return Ok(Self::Next);
        }
        match text.parse() {
            Ok(number @ 1..) => Ok(Self::Number(Generation(number))),
            _ => Err("a generation is a number from 1, or `next`"),
        }
    }
}

/// An NV index as it is written: `0x01800020`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CounterIndex(pub(crate) RollbackIndex);

impl FromStr for CounterIndex {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix("0x").filter(|digits| digits.len() == 8);
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let index = number.and_then(|number| RollbackIndex::try_from(number).ok());
        index
            .map(Self)
            .ok_or("an NV index of the owner is written 0x01800000 to 0x01bfffff")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_and_counters_are_read_or_refused() {
        assert_eq!("next".parse(), Ok(GenerationWish::Next));
        assert_eq!("7".parse(), Ok(GenerationWish::Number(Generation(7))));
        for bad in ["0", "-1", "", "last", "18446744073709551616"] {
            assert!(bad.parse::<GenerationWish>().is_err(), "{bad}");
        }
        assert_eq!("0x01800020".parse(), Ok(CounterIndex(RollbackIndex::default())));
        for bad in ["0x1800020", "01800020", "0x81010001", "0x01c00000"] {
            assert!(bad.parse::<CounterIndex>().is_err(), "{bad}");
        }
    }
}
