//! From bytes to a record, and back.
//!
//! Owns: which answer comes first where several would do: a newer record is called newer and not malformed.

use domain::DeviceId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _};

use super::SeenRecord;

/// The longest record that is read or written, in bytes.
pub const MAX_RECORD_LEN: usize = 64 * 1024;

/// How much of a parser's own words a reason repeats, in characters.
const MAX_REASON: usize = 200;

/// Why a record is not understood. Its device is refused, and only that one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than [`MAX_RECORD_LEN`].
    #[error("the record has {len} bytes, at most {MAX_RECORD_LEN} are read")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Written by another, most likely newer, version of this program.
    #[error("the record has version {0}, this program reads version 1")]
    Version(u64),
    /// Not JSON, an unknown or missing field, or a value out of bounds. The parser's words, shortened and escaped.
    #[error("the record is not understood: {0}")]
    Malformed(String),
    /// The record under one device's key names another device.
    #[error("the record names another device, '{0}'")]
    OtherDevice(DeviceId),
}

impl Unreadable {
    fn malformed(words: &str) -> Self {
        // Words of the parser can repeat text of the record: nothing of it may steer a terminal or fill a log.
        let shown = words.chars().take(MAX_REASON).flat_map(char::escape_debug);
        Self::Malformed(shown.collect())
    }
}

/// The only version of records that this program writes and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version1;

impl Version1 {
    const NUMBER: u64 = 1;
}

impl Serialize for Version1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(Self::NUMBER)
    }
}

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            Self::NUMBER => Ok(Self),
            other => Err(D::Error::custom(format_args!("version {other} instead of 1"))),
        }
    }
}

/// Reads a record.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    /// The one field that every version of every record has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }

    if bytes.len() > MAX_RECORD_LEN {
        return Err(Unreadable::TooLong { len: bytes.len() });
    }
    // serde would take an array for the object: its fields by position, those at the end left out.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable::malformed("it is not a JSON object"));
    }
    // What is understood wholly has version 1; only of the rest must be asked whether it is newer.
    serde_json::from_slice(bytes).map_err(|e| match serde_json::from_slice(bytes) {
        Ok(Versioned { version }) if version != Version1::NUMBER => Unreadable::Version(version),
        _ => Unreadable::malformed(&e.to_string()),
    })
}

/// Writes a record, if it is one that [`decode`] reads: nothing is stored that its readers would refuse.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(record: &T) -> Result<Vec<u8>, Unreadable> {
    let bytes = serde_json::to_vec(record).map_err(|e| Unreadable::malformed(&e.to_string()))?;
    decode::<T>(&bytes).map(|_| bytes)
}

/// Writes what was seen as [`encode`] does, in fewer steps: it holds numbers alone, each of which its type bounds, so that
/// there is none that [`decode`] would not read.
pub(crate) fn encode_seen(record: &SeenRecord) -> Vec<u8> {
    let SeenRecord {
        version: Version1,
        reset_count,
        restart_count,
        clock,
        safe,
        firmware_version,
        at,
    } = record;
    let at = at.as_secs();
    let text = format!(
        "{{\"version\":{},\"reset_count\":{reset_count},\"restart_count\":{restart_count},\"clock\":{clock},\
         \"safe\":{safe},\"firmware_version\":{firmware_version},\"at\":{at}}}",
        Version1::NUMBER
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use domain::UnixTime;
    use proptest::prelude::*;

    use super::*;

    const SEEN: &str = r#"{"version":1,"reset_count":3,"restart_count":0,"clock":9,"safe":true,"firmware_version":7,"at":1000}"#;

    fn read(json: &str) -> Result<SeenRecord, Unreadable> {
        decode(json.as_bytes())
    }

    #[test]
    fn a_record_is_understood_wholly_or_not_at_all() {
        let seen = read(SEEN).unwrap();
        assert_eq!(encode(&seen).unwrap(), SEEN.as_bytes());
        for (what, json) in [
            ("unknown field", SEEN.replace("\"safe\"", "\"extra\":0,\"safe\"")),
            ("missing field", SEEN.replace("\"safe\":true,", "")),
            (
                "field twice",
                SEEN.replace("\"safe\":true", "\"safe\":true,\"safe\":false"),
            ),
            ("negative", SEEN.replace("\"clock\":9", "\"clock\":-9")),
            (
                "too large",
                SEEN.replace("\"reset_count\":3", "\"reset_count\":4294967296"),
            ),
            ("trailing data", format!("{SEEN} {{}}")),
            ("no version", SEEN.replace("\"version\":1,", "")),
            (
                "version as text",
                SEEN.replace("\"version\":1", "\"version\":\"1\""),
            ),
            ("an array in its place", "[1,3,0,9,true,7,1000]".to_owned()),
            ("an array of a newer version", "[2,3,0,9,true,7,1000]".to_owned()),
            ("not JSON", "reset_count = 3".to_owned()),
            ("empty", String::new()),
        ] {
            assert!(matches!(read(&json), Err(Unreadable::Malformed(_))), "{what}");
        }
    }

    #[test]
    fn another_version_is_called_so_whatever_else_changed() {
        let newer = SEEN.replace("\"version\":1", "\"version\":2,\"novelty\":[]");
        assert_eq!(read(&newer), Err(Unreadable::Version(2)));
        assert_eq!(read(r#"{"version":0}"#), Err(Unreadable::Version(0)));
    }

    #[test]
    fn length_is_bounded_before_parsing() {
        let long = format!("{SEEN}{}", " ".repeat(MAX_RECORD_LEN));
        assert_eq!(read(&long), Err(Unreadable::TooLong { len: long.len() }));
    }

    #[test]
    fn reasons_are_short_and_do_not_steer_a_terminal() {
        let json = format!(r#"{{"version":1,"\u001b[2J{}":1}}"#, "x".repeat(5000));
        let Err(Unreadable::Malformed(reason)) = read(&json) else {
            panic!("read an unknown field");
        };
        assert!(reason.len() < 2 * MAX_REASON, "{}", reason.len());
        assert!(!reason.contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn every_record_of_what_was_seen_is_read_back(
            (reset_count, restart_count, clock) in any::<(u32, u32, u64)>(),
            (safe, firmware_version, at) in any::<(bool, u64, u64)>(),
        ) {
            let seen = SeenRecord {
                version: Version1,
                reset_count,
                restart_count,
                clock,
                safe,
                firmware_version,
                at: UnixTime::from_secs(at),
            };
            let bytes = encode_seen(&seen);
            prop_assert_eq!(Ok(bytes.clone()), encode(&seen));
            prop_assert_eq!(decode(&bytes), Ok(seen));
        }
    }
}
