//! The JSON area of LUKS2 (on-disk format section 3) as it is written: one shape for our writer and for reading.
//!
//! Owns: the field names, the numbers that are strings, and what an unknown field means: in a keyslot, an area, a
//! segment or a digest it is refused, because it may change how the bytes are to be understood; a token of a foreign
//! type is kept as it is. What is read kept the rules of the format already (`wellformed`); whether it is supported is `validate`'s work.
//! An attacker controls every byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::wellformed::WellFormed;

/// A number of up to 64 bits, which JSON would round: decimal digits in a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Decimal(pub(crate) u64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a number in a string"))
    }
}

impl Decimal {
    /// Digits alone: Rust itself takes a sign.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map(Self)
    }
}

/// The whole JSON object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    pub(crate) keyslots: BTreeMap<String, Keyslot>,
    pub(crate) tokens: BTreeMap<String, Value>,
    pub(crate) segments: BTreeMap<String, Segment>,
    pub(crate) digests: BTreeMap<String, Digest>,
    pub(crate) config: Config,
}

/// A keyslot of type `luks2`; of another type only the type is of interest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keyslot {
    pub(crate) r#type: String,
    pub(crate) key_size: u64,
    // Absent in keyslots of type `reencrypt`, which are to be named and not merely called malformed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) af: Option<Af>,
    pub(crate) area: Area,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kdf: Option<Kdf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u8>,
    #[serde(default, skip_serializing)]
    pub(crate) mode: Option<String>,
    #[serde(default, skip_serializing)]
    pub(crate) direction: Option<String>,
}

impl Keyslot {
    /// Whether it has what only keyslots of type `reencrypt` have.
    pub(crate) const fn reencrypts(&self) -> bool {
        let Area {
            hash,
            sector_size,
            shift_size,
            ..
        } = &self.area;
        let in_area = hash.is_some() || sector_size.is_some() || shift_size.is_some();
        in_area || self.mode.is_some() || self.direction.is_some()
    }
}

/// The anti-forensic splitter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Af {
    pub(crate) r#type: String,
    pub(crate) stripes: u64,
    pub(crate) hash: String,
}

/// Where a keyslot's material is, and under which cipher.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Area {
    pub(crate) r#type: String,
    pub(crate) offset: Decimal,
    pub(crate) size: Decimal,
    #[serde(default)]
    pub(crate) encryption: String,
    #[serde(default)]
    pub(crate) key_size: u64,
    // Of areas of keyslots of type `reencrypt` alone, which are to be named and not merely called malformed.
    #[serde(default, skip_serializing)]
    pub(crate) hash: Option<Value>,
    #[serde(default, skip_serializing)]
    pub(crate) sector_size: Option<Value>,
    #[serde(default, skip_serializing)]
    pub(crate) shift_size: Option<Value>,
}

/// How a passphrase becomes the key of an area.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Kdf {
    Pbkdf2 {
        hash: String,
        iterations: u64,
        salt: String,
    },
    Argon2i {
        time: u64,
        memory: u64,
        cpus: u64,
        salt: String,
    },
    Argon2id {
        time: u64,
        memory: u64,
        cpus: u64,
        salt: String,
    },
    #[serde(other)]
    Other,
}

/// A part of the device that holds data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) r#type: String,
    pub(crate) offset: Decimal,
    /// A [`Decimal`] or `dynamic`.
    pub(crate) size: String,
    // Absent only in segments that are not encrypted, which are to be named and not merely called malformed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iv_tweak: Option<Decimal>,
    #[serde(default)]
    pub(crate) encryption: String,
    #[serde(default)]
    pub(crate) sector_size: u64,
    #[serde(default, skip_serializing)]
    pub(crate) integrity: Option<Value>,
    #[serde(default, skip_serializing)]
    pub(crate) flags: Option<Vec<String>>,
}

/// What a volume key is checked against.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Digest {
    pub(crate) r#type: String,
    pub(crate) keyslots: Vec<String>,
    pub(crate) segments: Vec<String>,
    pub(crate) hash: String,
    pub(crate) iterations: u64,
    pub(crate) salt: String,
    pub(crate) digest: String,
}

/// Sizes, and what a reader must understand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) json_size: Decimal,
    pub(crate) keyslots_size: Decimal,
    // Wishes for device-mapper (`allow-discards` and the like), which say nothing about the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flags: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    pub(crate) requirements: Option<Value>,
}

impl Metadata {
    /// Metadata that keep the rules, read as what this crate knows.
    pub(crate) fn new(json: &WellFormed) -> Result<Self, serde_json::Error> {
        Self::deserialize(json.json())
    }

    /// The JSON area of `len` bytes; `None` inside when the object does not fit.
    pub(crate) fn encode(&self, len: usize) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let mut area = serde_json::to_vec(self)?;
        // At least one NUL has to follow.
        let fits = area.len() < len;
        area.resize(len, 0);
        Ok(fits.then_some(area))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = r#"{"keyslots":{},"tokens":{},"segments":{"0":{"type":"x","offset":"16777216","size":"dynamic"}},"digests":{},"config":{"json_size":"12288","keyslots_size":"0"}}"#;

    fn area(text: &str) -> Vec<u8> {
        let mut area = text.as_bytes().to_vec();
        area.resize(12288, 0);
        area
    }

    #[test]
    fn what_is_read_is_written_again_and_fits_or_not() {
        let well_formed = WellFormed::parse(&area(EMPTY), 0x4000).unwrap();
        let metadata = Metadata::new(&well_formed).unwrap();
        let written = metadata.encode(12288).unwrap().unwrap();
        let end = written.iter().position(|b| *b == 0).unwrap();
        assert!(WellFormed::parse(&written, 0x4000).is_ok());
        assert!(metadata.encode(end).unwrap().is_none());
        assert!(metadata.encode(end + 1).unwrap().is_some());
    }

    #[test]
    fn fields_that_are_not_known_are_refused() {
        for (good, bad) in [
            ("{\"json_size\"", "{\"new\":1,\"json_size\""),
            ("\"type\":\"x\"", "\"type\":\"x\",\"new\":1"),
            ("\"tokens\":{}", "\"tokens\":{},\"new\":{}"),
        ] {
            let well_formed = WellFormed::parse(&area(&EMPTY.replace(good, bad)), 0x4000).unwrap();
            assert!(Metadata::new(&well_formed).is_err(), "{bad}");
        }
    }
}
