//! Closing the way behind a volume: whatever runs later has the key store release nothing more until the next boot.
//!
//! Owns: what is closed, and the PCR that is extended. A TPM: the PCR, in every bank; that shuts what is sealed to it. A Raspberry Pi's
//! firmware: every use of its device key is locked. After a volume that did not open both are, whichever of them it named: an attacker may have written it. A raw key that was read cannot be closed, and its reader was warned.
//! It is `unlock`, once in a boot, that closes, whether the volume opened or not. `ask`, `quote` and `doctor` open the volume each time
//! they run and would lock each other out: where `unlock` has closed the way, `volume` names the folder where the volume is mounted.

use std::str::FromStr;

use domain::PcrIndex;
use otp::{KeyId, Locks};
use serde::{Deserialize, Deserializer, de::Error as _};
use tpm::Opening;

use crate::{
    device::DeviceError,
    keystore::{Keys, Store},
};

/// Where systemd measures volumes, and what `unlock` extends unless told otherwise.
const USUAL: u64 = 15;

/// What is extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extend {
    /// This PCR.
    Pcr(PcrIndex),
    /// The way is left open.
    Nothing,
}

/// Why a text names no PCR.
#[derive(Debug, thiserror::Error)]
#[error("a PCR is a number, 0 to 23, or `none`")]
pub(crate) struct NoPcr;

impl Extend {
    /// The PCR, if one is to be extended.
    pub(crate) fn pcr(wish: Option<Self>) -> Option<PcrIndex> {
        match wish {
            Some(Self::Pcr(pcr)) => Some(pcr),
            Some(Self::Nothing) => None,
            None => PcrIndex::try_from(USUAL).ok(),
        }
    }
}

impl TryFrom<u64> for Extend {
    type Error = NoPcr;

    fn try_from(number: u64) -> Result<Self, NoPcr> {
        PcrIndex::try_from(number).map(Self::Pcr).map_err(|_| NoPcr)
    }
}

impl FromStr for Extend {
    type Err = NoPcr;

    fn from_str(text: &str) -> Result<Self, NoPcr> {
        match text {
            "none" => Ok(Self::Nothing),
            number => Self::try_from(number.parse::<u64>().map_err(|_| NoPcr)?),
        }
    }
}

/// A number or `"none"`.
impl<'de> Deserialize<'de> for Extend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        let none = || D::Error::custom(NoPcr);
        match Either::deserialize(deserializer).map_err(|_| none())? {
            Either::Number(number) => Self::try_from(number).map_err(|_| none()),
            Either::Text(text) if text == "none" => Ok(Self::Nothing),
            Either::Text(_) => Err(none()),
        }
    }
}

/// Closes what released the volume's secret; where nothing opened, all that there is: what the volume names then, its writer chose.
pub(crate) fn close(keys: &mut Keys, pcr: PcrIndex, opening: Opening) -> Result<(), DeviceError> {
    match (opening, keys.asked()) {
        (Opening::Released, Some(Store::Tpm)) => Ok(keys.tpm()?.cap(pcr, opening)?),
        (Opening::Released, Some(Store::Firmware(key))) => Ok(keys.otp.lock(key, Locks::ALL).map(drop)?),
        // Nothing can be locked where there is no firmware to do it.
        (Opening::Released, Some(Store::RawKey)) => Ok(()),
        (Opening::Released, None) | (Opening::Failed, _) => close_all(keys, pcr, opening),
    }
}

fn close_all(keys: &mut Keys, pcr: PcrIndex, opening: Opening) -> Result<(), DeviceError> {
    let named = match keys.asked() {
        Some(Store::Firmware(key)) if key != KeyId::DEVICE => Some(key),
        _ => None,
    };
    let mut locked = Ok(());
    for key in [Some(KeyId::DEVICE), named].into_iter().flatten() {
        match keys.otp.lock(key, Locks::ALL) {
            Err(why) if !why.is_absent() => locked = Err(why.into()),
            _ => {}
        }
    }
    match (keys.tpm(), keys.asked()) {
        (Ok(mut tpm), _) => tpm.cap(pcr, opening)?,
        // A board of fuses has none.
        (Err(_), Some(Store::Firmware(_) | Store::RawKey)) => {}
        (Err(why), _) => return Err(why.into()),
    }
    locked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pcr_is_named_or_refused() {
        let pcr = |number: u64| PcrIndex::try_from(number).unwrap();
        assert_eq!(Extend::pcr(None), Some(pcr(15)));
        assert_eq!(Extend::pcr(Some("11".parse().unwrap())), Some(pcr(11)));
        assert_eq!(Extend::pcr(Some("none".parse().unwrap())), None);
        for odd in ["24", "-1", "", "all", "0x0b"] {
            assert!(odd.parse::<Extend>().is_err(), "{odd}");
        }
    }
}
