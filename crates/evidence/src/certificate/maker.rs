//! Whose TPM it is, and which firmware it was made with.
//!
//! Owns: the TCG's vendor identifiers (TCG TPM Vendor ID Registry; the same four bytes as
//! `TPM2_PT_MANUFACTURER`) and the firmware version, as an EK certificate writes both into its alternative name (EK
//! Credential Profile: `id:` and hexadecimal digits). A certificate says what a TPM was when it was made: a later
//! firmware update does not change it.

use std::{fmt, str::FromStr};

/// What an EK certificate's alternative name says, as it is written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TpmDevice {
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) version: Option<String>,
}

/// Why a text names no maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TPM's maker is one to four letters or `id:` and eight hexadecimal digits")]
pub struct InvalidMaker;

/// A TPM's maker: the four bytes of the TCG's registry, spaces and zeros at their end alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MakerId([u8; 4]);

impl MakerId {
    /// From `TPM2_PT_MANUFACTURER`.
    #[must_use]
    pub fn from_tpm(id: u32) -> Self {
        let mut bytes = id.to_be_bytes();
        for byte in bytes.iter_mut().rev() {
            match *byte {
                0 | b' ' => *byte = 0,
                _ => break,
            }
        }
        Self(bytes)
    }

    /// The maker's name, if the registry here has it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match &self.0 {
            b"AMD\0" => "AMD",
            b"ANT\0" => "Ant Group",
            b"ATML" => "Atmel",
            b"BRCM" => "Broadcom",
            b"CSCO" => "Cisco",
            b"FLYS" => "FlySlice Technologies",
            b"GOOG" => "Google",
            b"HISI" => "Huawei",
            b"HPE\0" => "HPE",
            b"HPI\0" => "HPI",
            b"IBM\0" => "IBM",
            b"IFX\0" => "Infineon",
            b"INTC" => "Intel",
            b"LEN\0" => "Lenovo",
            b"MSFT" => "Microsoft",
            b"NSG\0" => "NSING",
            b"NSM\0" => "National Semiconductor",
            b"NTC\0" => "Nuvoton Technology",
            b"NTZ\0" => "Nationz",
            b"QCOM" => "Qualcomm",
            b"ROCC" => "Fuzhou Rockchip",
            b"SEAL" => "Wisekey",
            b"SECE" => "SecEdge",
            b"SMSC" => "SMSC",
            b"SMSN" => "Samsung",
            b"SNS\0" => "Sinosun",
            b"STM\0" => "STMicroelectronics",
            b"TXN\0" => "Texas Instruments",
            b"WEC\0" => "Winbond",
            // Not in the registry: what swtpm's own certificates say (IBM's PCI vendor number).
            [0, 0, 0x10, 0x14] => "swtpm, a software TPM",
            _ => return None,
        })
    }
}

/// `IFX`, or eight hexadecimal digits where the bytes are no letters.
impl fmt::Display for MakerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self
            .0
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last.saturating_add(1));
        let letters = self.0.get(..len).unwrap_or_default();
        match str::from_utf8(letters) {
            Ok(text) if !text.is_empty() && letters.iter().all(u8::is_ascii_graphic) => f.pad(text),
            _ => f.pad(&data_encoding::HEXUPPER.encode(&self.0)),
        }
    }
}

/// `IFX`, `STM `, `id:49465800` or `49465800`.
impl FromStr for MakerId {
    type Err = InvalidMaker;

    fn from_str(text: &str) -> Result<Self, InvalidMaker> {
        let text = text.strip_prefix("id:").unwrap_or(text);
        let bytes: [u8; 4] = if text.len() == 8 {
            let bytes = data_encoding::HEXUPPER_PERMISSIVE.decode(text.as_bytes());
            bytes
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or(InvalidMaker)?
        } else {
            let mut bytes = [0; 4];
            let letters = text.trim_end_matches([' ', '\0']).as_bytes();
            if letters.is_empty() || !letters.iter().all(u8::is_ascii_graphic) {
                return Err(InvalidMaker);
            }
            bytes
                .get_mut(..letters.len())
                .ok_or(InvalidMaker)?
                .copy_from_slice(letters);
            bytes
        };
        Ok(Self::from_tpm(u32::from_be_bytes(bytes)))
    }
}

/// Why a text is not a firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a TPM's firmware version is two numbers up to 65535 with a point between, or `id:` and two, four or eight hexadecimal digits"
)]
pub struct InvalidFirmwareVersion;

/// A TPM's firmware version: the two halves of `TPM2_PT_FIRMWARE_VERSION_1`. `7.85` is above `7.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareVersion {
    /// The upper 16 bits.
    pub major: u16,
    /// The lower 16 bits.
    pub minor: u16,
}

impl FirmwareVersion {
    /// The lowest there is.
    pub const MIN: Self = Self { major: 0, minor: 0 };
    /// The highest there is.
    pub const MAX: Self = Self {
        major: u16::MAX,
        minor: u16::MAX,
    };

    /// From `firmwareVersion` of a quote: its upper half is `TPM2_PT_FIRMWARE_VERSION_1`. This is what runs now, where
    /// a certificate says what ran when the TPM was made.
    #[must_use]
    pub const fn from_tpm(version: u64) -> Self {
        let [a, b, c, d, ..] = version.to_be_bytes();
        Self {
            major: u16::from_be_bytes([a, b]),
            minor: u16::from_be_bytes([c, d]),
        }
    }
}

/// `7.85`.
impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.major, self.minor))
    }
}

/// `7.85`, `id:00070055` or, as older certificates write the same, `id:0755`; `id:13` is `1.3`.
impl FromStr for FirmwareVersion {
    type Err = InvalidFirmwareVersion;

    fn from_str(text: &str) -> Result<Self, InvalidFirmwareVersion> {
        if let Some(digits) = text.strip_prefix("id:") {
            let bytes = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes());
            return match bytes.as_deref() {
                Ok([both]) => Ok(Self {
                    major: u16::from(both >> 4),
                    minor: u16::from(both & 0x0f),
                }),
                Ok([major, minor]) => Ok(Self {
                    major: u16::from(*major),
                    minor: u16::from(*minor),
                }),
                Ok([a, b, c, d]) => Ok(Self {
                    major: u16::from_be_bytes([*a, *b]),
                    minor: u16::from_be_bytes([*c, *d]),
                }),
                _ => Err(InvalidFirmwareVersion),
            };
        }
        let number = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| part.parse().ok())
                .flatten()
                .ok_or(InvalidFirmwareVersion)
        };
        let (major, minor) = text.split_once('.').ok_or(InvalidFirmwareVersion)?;
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_are_known_by_bytes_letters_and_number() {
        let infineon: MakerId = "id:49465800".parse().unwrap();
        assert_eq!(infineon, "IFX".parse().unwrap());
        assert_eq!(infineon, MakerId::from_tpm(0x4946_5800));
        assert_eq!(
            (infineon.to_string().as_str(), infineon.name()),
            ("IFX", Some("Infineon"))
        );
        let st: MakerId = "id:53544D20".parse().unwrap();
        assert_eq!(st, "STM".parse().unwrap());
        assert_eq!(st, "id:53544d00".parse().unwrap());
        assert_eq!(st.name(), Some("STMicroelectronics"));
        let swtpm: MakerId = "id:00001014".parse().unwrap();
        assert_eq!(swtpm.to_string(), "00001014");
        let unknown: MakerId = "id:FFFFF1D0".parse().unwrap();
        assert_eq!((unknown.to_string().as_str(), unknown.name()), ("FFFFF1D0", None));
        assert_eq!(MakerId::from_tpm(0).to_string(), "00000000");
        for broken in [
            "",
            "id:",
            "INFINEON!",
            "id:4946580",
            "id:4946580g",
            "TOOLONG",
            "a b",
            "\u{e9}",
        ] {
            assert_eq!(broken.parse::<MakerId>(), Err(InvalidMaker), "{broken:?}");
        }
    }

    #[test]
    fn every_maker_of_the_registry_has_its_name() {
        for (id, name) in [
            ("AMD", "AMD"),
            ("ANT", "Ant Group"),
            ("ATML", "Atmel"),
            ("BRCM", "Broadcom"),
            ("CSCO", "Cisco"),
            ("FLYS", "FlySlice Technologies"),
            ("GOOG", "Google"),
            ("HISI", "Huawei"),
            ("HPE", "HPE"),
            ("HPI", "HPI"),
            ("IBM", "IBM"),
            ("IFX", "Infineon"),
            ("INTC", "Intel"),
            ("LEN", "Lenovo"),
            ("MSFT", "Microsoft"),
            ("NSG", "NSING"),
            ("NSM", "National Semiconductor"),
            ("NTC", "Nuvoton Technology"),
            ("NTZ", "Nationz"),
            ("QCOM", "Qualcomm"),
            ("ROCC", "Fuzhou Rockchip"),
            ("SEAL", "Wisekey"),
            ("SECE", "SecEdge"),
            ("SMSC", "SMSC"),
            ("SMSN", "Samsung"),
            ("SNS", "Sinosun"),
            ("STM", "STMicroelectronics"),
            ("TXN", "Texas Instruments"),
            ("WEC", "Winbond"),
        ] {
            assert_eq!(id.parse::<MakerId>().unwrap().name(), Some(name));
        }
        assert_eq!(MakerId::from_tpm(0x1014).name(), Some("swtpm, a software TPM"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<FirmwareVersion>().unwrap();
        assert_eq!(version("id:00070055"), version("7.85"));
        assert_eq!(version("id:0755"), version("7.85"));
        assert_eq!(version("id:13"), version("1.3"));
        assert_eq!(FirmwareVersion::from_tpm(0x0007_0055_0000_11a0), version("7.85"));
        assert!(version("7.85") > version("7.9"));
        assert!(version("8.0") > version("7.65535"));
        assert_eq!(version("7.85").to_string(), "7.85");
        for broken in [
            "",
            "7",
            "7.",
            ".85",
            "7.85.1",
            "7.65536",
            "+7.85",
            "id:7",
            "id:",
            "id:075g",
            "id:0007005500",
        ] {
            assert_eq!(
                broken.parse::<FirmwareVersion>(),
                Err(InvalidFirmwareVersion),
                "{broken:?}"
            );
        }
    }
}
