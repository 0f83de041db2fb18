//! What the configuration says of this device's volume and TPM, for who would put others in their place.
//!
//! Owns: the volume's identity (the digest of its key), its generation against the TPM's counter, and the Names of the TPM's
//! storage keys; their form in the configuration. A seal says who may open a volume, not who sealed it, and a header that is
//! authentic under what the TPM released belongs to whoever sealed that: only what is said here, outside of the volume, tells
//! the device's own volume from one that somebody else sealed to the same TPM and PCRs.
//! Refuses: a volume with another key, an older one, and one without a generation where a counter is named; then nothing in it is read.
//! Limits: it is worth as much as the configuration: in a signed image it binds, on a disk that an attacker writes it does not.

use domain::{TpmName, VolumeKeyDigest};
use serde::{Deserialize, Deserializer, de::Error as _};
use tpm::{Generation, RollbackError, RollbackIndex, SrkPin, StorageTemplate, Tpm, TpmError};
use volume::OpenVolume;

/// What is known of volume and TPM. The default knows nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// SHA-256 of the volume's key.
    pub(crate) volume_key: Option<VolumeKeyDigest>,
    /// Where the TPM counts the generations of this device's volume; the volume must then have one.
    pub(crate) counter: Option<RollbackIndex>,
    /// The TPM's storage keys. Any other one gets no secret.
    pub(crate) storage_keys: Vec<SrkPin>,
}

/// Why a volume that opened is not this device's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unexpected {
    #[error("this is another volume: the digest of its key is {found}, and {expected} is this device's")]
    AnotherVolume {
        expected: VolumeKeyDigest,
        found: VolumeKeyDigest,
    },
    #[error("the volume carries no generation, and the counter at NV index {0} is to be compared with one")]
    NoGeneration(RollbackIndex),
    #[error("the volume's age cannot be accepted")]
    Age(#[source] RollbackError),
}

impl Unexpected {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::AnotherVolume { .. } => Some(
                "the registry has the digest of the device's own (`provisioner device show`); resealing does not change it, writing \
                 the volume anew does"
                    .to_owned(),
            ),
            Self::NoGeneration(_) => Some("`provisioner` gives a volume its generation when it seals it".to_owned()),
            Self::Age(error) => error.hint().map(str::to_owned),
        }
    }

    /// Whether it was judged and refused, rather than not judged.
    pub(crate) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Age(RollbackError::Tpm(_)))
    }
}

impl Expected {
    /// Compares an open volume with what is known. `tpm` is opened where a generation has to be compared; a volume that is newer than
    /// the counter raises it, so that what is older stays shut.
    pub(crate) fn check(
        &self,
        volume: &OpenVolume,
        tpm: impl FnOnce() -> Result<Tpm, TpmError>,
    ) -> Result<(), Unexpected> {
        let found = volume.volume_key_digest();
        match self.volume_key {
            // First, so that somebody else's volume raises no counter.
            Some(expected) if expected != found => return Err(Unexpected::AnotherVolume { expected, found }),
            _ => {}
        }
        match (volume.generation(), self.counter) {
            (None, None) => Ok(()),
            (None, Some(index)) => Err(Unexpected::NoGeneration(index)),
            (Some(generation), index) => {
                fresh(generation, index.unwrap_or_default(), tpm).map_err(Unexpected::Age)
            }
        }
    }
}

fn fresh(
    generation: Generation,
    index: RollbackIndex,
    tpm: impl FnOnce() -> Result<Tpm, TpmError>,
) -> Result<(), RollbackError> {
    let mut tpm = tpm()?;
    let fresh = tpm.check_generation(index, generation)?;
    if fresh.is_ahead() {
        tpm.raise_generation(index, fresh)?;
    }
    Ok(())
}

/// An NV index as the configuration has it: `"0x01800020"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter(pub(crate) RollbackIndex);

impl<'de> Deserialize<'de> for Counter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text
            .strip_prefix("0x")
            .filter(|digits| digits.len() == 8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let index = number.and_then(|number| RollbackIndex::try_from(number).ok());
        index
            .map(Self)
            .ok_or_else(|| D::Error::custom("an NV index of the owner is written 0x01800000 to 0x01bfffff"))
    }
}

/// The Names of the TPM's storage keys as the configuration has them, by template: those that `provisioner inventory collect` found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct StorageKeys {
    systemd_ecc: Option<Name>,
    systemd_rsa: Option<Name>,
    tcg_ecc: Option<Name>,
}

impl StorageKeys {
    pub(crate) fn pins(self) -> Vec<SrkPin> {
        let all = [
            (StorageTemplate::SystemdEcc, self.systemd_ecc),
            (StorageTemplate::SystemdRsa, self.systemd_rsa),
            (StorageTemplate::TcgEcc, self.tcg_ecc),
        ];
        let pin = |(template, name): (_, Option<Name>)| {
            Some(SrkPin {
                template,
                name: name?.0,
            })
        };
        all.into_iter().filter_map(pin).collect()
    }
}

/// A Name in hexadecimal digits: `000b`, then a SHA-256 digest.
#[derive(Debug, Clone)]
struct Name(TpmName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let sha256 = bytes.filter(|bytes| bytes.len() == 34 && bytes.starts_with(&[0, 0x0b]));
        let name = sha256.and_then(|bytes| TpmName::try_from(bytes).ok());
        name.map(Self)
            .ok_or_else(|| D::Error::custom("the Name of a storage key is 000b and 64 hexadecimal digits"))
    }
}
