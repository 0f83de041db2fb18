//! `/device.toml` of a device volume: what a device must know besides its secret.
//!
//! Owns: the one type that `provisioner` writes and `edge-client` reads. Holds nothing secret: the pre-shared key is
//! a file of its own. Unknown keys are refused, so that a typo does not silently weaken a device.
//! An attacker who can write the volume has its key; the text is parsed all the same with bounds.

use data_encoding::HEXLOWER;
use domain::{Audience, DeviceId, FleetName, HashAlg, PcrIndex, PcrSelection};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The longest `/device.toml`, in bytes.
const MAX_LEN: usize = 16 * 1024;

/// What a device reads from its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct DeviceConfig {
    /// The fleet.
    pub fleet: FleetName,
    /// The device.
    pub device: DeviceId,
    /// The service for which quotes are made.
    pub audience: Audience,
    /// Origin of the proxy, such as `https://llm.example`.
    pub proxy: String,
    /// Persistent handle of the attestation key, `0x81000000` to `0x81ffffff`; `None` on a device without a TPM.
    pub ak_handle: Option<u32>,
    /// The PCRs that the device's policy asks for; `None` where the PSK alone is enough, as it must be without a TPM.
    pub pcrs: Option<PcrSelection>,
}

/// Why a text is not a device's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Longer than 16 KiB.
    #[error("device.toml has {0} bytes, at most {MAX_LEN} are read")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("device.toml is not UTF-8 text")]
    NotText,
    /// Not the fields that are known, or a value that none of them takes.
    #[error("device.toml is not valid: {0}")]
    Invalid(#[from] toml::de::Error),
    /// Cannot be written.
    #[error("device.toml cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
}

impl DeviceConfig {
    /// Reads the content of `/device.toml`.
    ///
    /// # Errors
    /// Too long, not text, an unknown or missing key, a value out of range.
    pub fn from_toml(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_LEN {
            return Err(ConfigError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NotText)?;
        Ok(toml::from_str(text)?)
    }

    /// The content of `/device.toml`.
    ///
    /// # Errors
    /// Those of the TOML writer; none is known for these fields.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }
}

/// The file's own shape.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    fleet: FleetName,
    device: DeviceId,
    audience: Audience,
    proxy: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ak_handle: Option<Handle>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    bank: Option<HashAlg>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pcrs: Vec<PcrIndex>,
}

/// Why the fields do not fit together.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("`bank` and `pcrs` are given together or not at all")]
    HalfSelection,
    #[error("`pcrs` ask for a quote, and there is no `ak-handle` to make one with")]
    NobodyQuotes,
    #[error(transparent)]
    Pcr(#[from] domain::pcr::InvalidPcr),
}

impl TryFrom<Raw> for DeviceConfig {
    type Error = Unfit;

    fn try_from(raw: Raw) -> Result<Self, Unfit> {
        let pcrs = match (raw.bank, raw.pcrs.is_empty()) {
            (None, true) => None,
            (Some(bank), false) => Some(PcrSelection::new(bank, raw.pcrs)?),
            _ => return Err(Unfit::HalfSelection),
        };
        if pcrs.is_some() && raw.ak_handle.is_none() {
            return Err(Unfit::NobodyQuotes);
        }
        Ok(Self {
            fleet: raw.fleet,
            device: raw.device,
            audience: raw.audience,
            proxy: raw.proxy,
            ak_handle: raw.ak_handle.map(|handle| handle.0),
            pcrs,
        })
    }
}

impl From<DeviceConfig> for Raw {
    fn from(config: DeviceConfig) -> Self {
        Self {
            fleet: config.fleet,
            device: config.device,
            audience: config.audience,
            proxy: config.proxy,
            ak_handle: config.ak_handle.map(Handle),
            bank: config.pcrs.map(|selection| selection.bank()),
            pcrs: config.pcrs.iter().flat_map(PcrSelection::iter).collect(),
        }
    }
}

/// A persistent TPM handle, written `"0x81010020"`.
#[derive(Clone, Copy)]
struct Handle(u32);

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", HEXLOWER.encode(&self.0.to_be_bytes())))
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .filter(|handle| handle >> 24 == 0x81)
            .map(Self)
            .ok_or_else(|| D::Error::custom("a persistent handle is written 0x81000000 to 0x81ffffff"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fleet = \"demo\"\ndevice = \"kiosk-bern-01\"\naudience = \"https://llm.demo.example\"\n\
        proxy = \"http://127.0.0.1:8080\"\nak-handle = \"0x81010020\"\nbank = \"sha256\"\npcrs = [7, 11]\n";

    #[test]
    fn the_text_round_trips() {
        let config = DeviceConfig::from_toml(TEXT.as_bytes()).unwrap();
        assert_eq!(config.ak_handle, Some(0x8101_0020));
        assert_eq!(config.pcrs.unwrap().to_string(), "sha256:7,11");
        assert_eq!(config.to_toml().unwrap(), TEXT);
    }

    #[test]
    fn a_device_without_evidence_has_no_pcrs() {
        let text = TEXT.replace("bank = \"sha256\"\npcrs = [7, 11]\n", "");
        let config = DeviceConfig::from_toml(text.as_bytes()).unwrap();
        assert_eq!(config.pcrs, None);
        assert_eq!(config.to_toml().unwrap(), text);
    }

    #[test]
    fn a_device_without_a_tpm_has_no_attestation_key() {
        let text = TEXT.replace(
            "ak-handle = \"0x81010020\"\nbank = \"sha256\"\npcrs = [7, 11]\n",
            "",
        );
        let config = DeviceConfig::from_toml(text.as_bytes()).unwrap();
        assert_eq!((config.ak_handle, config.pcrs), (None, None));
        assert_eq!(config.to_toml().unwrap(), text);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (from, to) in [
            ("fleet =", "flet ="),
            ("proxy =", "extra = 1\nproxy ="),
            ("ak-handle = \"0x81010020\"\n", ""),
            ("0x81010020", "0x01010020"),
            ("0x81010020", "81010020"),
            ("0x81010020", "0x8101002"),
            ("0x81010020", "0x+1010020"),
            ("[7, 11]", "[7, 7]"),
            ("[7, 11]", "[24]"),
            ("[7, 11]", "[]"),
            ("bank = \"sha256\"\n", ""),
            ("sha256", "sha3"),
        ] {
            let text = TEXT.replace(from, to);
            assert!(
                matches!(
                    DeviceConfig::from_toml(text.as_bytes()),
                    Err(ConfigError::Invalid(_))
                ),
                "{to}"
            );
        }
    }

    #[test]
    fn refuses_too_much_and_non_text() {
        let long = format!("{TEXT}#{}", "x".repeat(MAX_LEN));
        assert!(matches!(
            DeviceConfig::from_toml(long.as_bytes()),
            Err(ConfigError::TooLong(_))
        ));
        assert!(matches!(
            DeviceConfig::from_toml(&[0xff]),
            Err(ConfigError::NotText)
        ));
    }
}
