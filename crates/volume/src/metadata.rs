//! The JSON area of LUKS2 (on-disk format section 3) as it is written: one shape for our writer and for reading.
//!
//! Owns: the field names, the numbers that are strings, and what an unknown field means: in a keyslot, an area, a
//! segment or a digest it is refused, because it may change how the bytes are to be understood; a token of a foreign
//! type is kept as it is. Nothing here is checked beyond its shape: that is `validate`'s work.
//! An attacker controls every byte. Depth is bounded by the parser (128), length by the header size.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

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
    #[serde(deserialize_with = "unique")]
    pub(crate) keyslots: BTreeMap<String, Keyslot>,
    #[serde(deserialize_with = "unique")]
    pub(crate) tokens: BTreeMap<String, Value>,
    #[serde(deserialize_with = "unique")]
    pub(crate) segments: BTreeMap<String, Segment>,
    #[serde(deserialize_with = "unique")]
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

/// A map whose names are there once: cryptsetup and we might believe another one of two.
fn unique<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Unique<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Unique<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, T>()? {
                if found.insert(name, value).is_some() {
                    return Err(A::Error::custom("a name is there twice"));
                }
            }
            Ok(found)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}

/// Why a JSON area is not one.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The text does not end with a NUL inside the area, or something follows it.
    #[error("the JSON area does not end in zeros")]
    Unterminated,
    /// It does not begin with an object.
    #[error("the JSON area does not begin with an object")]
    NoObject,
    /// Not JSON, or not the fields of LUKS2.
    #[error("the JSON area is not LUKS2 metadata: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Metadata {
    /// Reads a JSON area: the object, then zeros to the end.
    pub(crate) fn parse(area: &[u8]) -> Result<Self, MetadataError> {
        let end = area
            .iter()
            .position(|b| *b == 0)
            .ok_or(MetadataError::Unterminated)?;
        // cryptsetup takes no white space before the object either.
        if area.first() != Some(&b'{') {
            return Err(MetadataError::NoObject);
        }
        let (json, rest) = area.split_at_checked(end).ok_or(MetadataError::Unterminated)?;
        // Hidden text behind the object would be covered by the checksum and seen by nobody.
        if rest.iter().any(|b| *b != 0) {
            return Err(MetadataError::Unterminated);
        }
        Ok(serde_json::from_slice(json)?)
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

    const EMPTY: &str = r#"{"keyslots":{},"tokens":{},"segments":{},"digests":{},"config":{"json_size":"12288","keyslots_size":"0"}}"#;

    fn area(text: &str) -> Vec<u8> {
        let mut area = text.as_bytes().to_vec();
        area.resize(12288, 0);
        area
    }

    #[test]
    fn an_area_round_trips() {
        let metadata = Metadata::parse(&area(EMPTY)).unwrap();
        assert_eq!(metadata.encode(12288).unwrap().unwrap(), area(EMPTY));
        assert!(metadata.encode(EMPTY.len()).unwrap().is_none());
        assert!(metadata.encode(EMPTY.len() + 1).unwrap().is_some());
    }

    #[test]
    fn what_follows_the_object_must_be_zero() {
        let mut hidden = area(EMPTY);
        hidden[12287] = b'x';
        assert!(matches!(
            Metadata::parse(&hidden),
            Err(MetadataError::Unterminated)
        ));
        assert!(matches!(
            Metadata::parse(&[b' '; 64]),
            Err(MetadataError::Unterminated)
        ));
    }

    #[test]
    fn an_area_begins_with_its_object() {
        for bad in [
            format!(" {EMPTY}"),
            "[".repeat(4000),
            "\"text\"".to_owned(),
            String::new(),
        ] {
            assert!(
                matches!(Metadata::parse(&area(&bad)), Err(MetadataError::NoObject)),
                "{bad}"
            );
        }
    }

    #[test]
    fn unknown_and_numeric_fields_are_refused() {
        for bad in [
            EMPTY.replace("\"12288\"", "12288"),
            EMPTY.replace("\"12288\"", "\"+12288\""),
            EMPTY.replace("\"12288\"", "\"99999999999999999999\""),
            EMPTY.replace("\"tokens\"", "\"tokenz\""),
            EMPTY.replace("{\"json_size\"", "{\"new\":1,\"json_size\""),
            format!("{{\"keyslots\":{}", "[".repeat(4000)),
        ] {
            assert!(
                matches!(Metadata::parse(&area(&bad)), Err(MetadataError::Malformed(_))),
                "{bad}"
            );
        }
    }
}
