//! What a header says, whether this crate opens it or not: for people who ask why it does not.
//!
//! Owns: [`Description`], made of any header that keeps the rules of LUKS2. Refuses nothing that cryptsetup's `luksDump` shows, but names
//! what stands in the way of opening. Nothing in it may be used to open: that takes a [`Header`](crate::Header).
//! An attacker controls every text; whoever prints one escapes it.

use serde_json::{Map, Value};

use crate::{
    HeaderCopy, InspectError, Source, Unsupported,
    copies::{Chosen, choose},
    metadata::Metadata,
    validate::Layout,
    wellformed::number,
};

/// A header in the words of whoever wrote it.
#[derive(Debug, Clone)]
pub struct Description {
    /// Which copy was read.
    pub copy: HeaderCopy,
    /// The UUID.
    pub uuid: String,
    /// The label, often empty.
    pub label: String,
    /// How often the header was changed.
    pub seqid: u64,
    /// The segments of the device, by number.
    pub segments: Vec<SegmentFacts>,
    /// The keyslots, by number.
    pub keyslots: Vec<KeyslotFacts>,
    /// The types of the tokens.
    pub tokens: Vec<String>,
    /// What a reader has to understand.
    pub requirements: Vec<String>,
    /// The whole metadata, what an early cryptsetup left behind in keyslots taken out.
    pub metadata: Value,
    /// Why the header is not opened; `None` where it is.
    pub refused: Option<Unsupported>,
}

/// A segment of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its number.
    pub number: u64,
    /// `crypt`, or another.
    pub kind: String,
    /// The cipher, where there is one.
    pub cipher: Option<String>,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its bytes; to the end of the device where there is none.
    pub len: Option<u64>,
    /// Bytes of a sector.
    pub sector: Option<u64>,
    /// The kind of integrity protection, where there is one.
    pub integrity: Option<String>,
}

/// A keyslot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyslotFacts {
    /// Its number.
    pub number: u64,
    /// `luks2`, or another.
    pub kind: String,
    /// Bits of the key in it.
    pub key_bits: u64,
    /// Its key derivation, where there is one.
    pub kdf: Option<String>,
}

/// Describes the header of a volume, without any secret.
///
/// # Errors
/// [`InspectError`], but never [`InspectError::Unsupported`]: that is [`Description::refused`].
pub fn describe(source: &impl Source) -> Result<Description, InspectError> {
    let device_len = source.len().map_err(InspectError::Io)?;
    let Chosen { whole, copy } = choose(source, device_len)?;
    let refused = match Metadata::new(&whole.metadata) {
        Err(e) => Some(Unsupported::Field(e.to_string())),
        Ok(metadata) => Layout::new(&metadata, whole.binary.size, device_len).err(),
    };
    let json = whole.metadata.json();
    let required = json
        .pointer("/config/requirements/mandatory")
        .and_then(Value::as_array);
    let mut segments: Vec<SegmentFacts> = section(json, "segments").filter_map(segment).collect();
    segments.sort_unstable_by_key(|segment| segment.number);
    let mut keyslots: Vec<KeyslotFacts> = section(json, "keyslots").filter_map(keyslot).collect();
    keyslots.sort_unstable_by_key(|keyslot| keyslot.number);
    Ok(Description {
        copy,
        uuid: whole.binary.uuid.clone(),
        label: whole.binary.label.clone(),
        seqid: whole.binary.seqid,
        segments,
        keyslots,
        tokens: section(json, "tokens")
            .filter_map(|(_, token)| text(token, "type"))
            .collect(),
        requirements: required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        metadata: json.clone(),
        refused,
    })
}

fn section<'a>(json: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    json.get(name)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

fn segment((name, json): (&String, &Value)) -> Option<SegmentFacts> {
    Some(SegmentFacts {
        number: name.parse().ok()?,
        kind: text(json, "type")?,
        cipher: text(json, "encryption"),
        offset: number(json.get("offset"))?,
        len: number(json.get("size")),
        sector: json.get("sector_size").and_then(Value::as_u64),
        integrity: json
            .get("integrity")
            .and_then(|integrity| text(integrity, "type")),
    })
}

fn keyslot((name, json): (&String, &Value)) -> Option<KeyslotFacts> {
    Some(KeyslotFacts {
        number: name.parse().ok()?,
        kind: text(json, "type")?,
        key_bits: json.get("key_size").and_then(Value::as_u64)?.saturating_mul(8),
        kdf: json.get("kdf").and_then(|kdf| text(kdf, "type")),
    })
}

fn text(json: &Value, name: &str) -> Option<String> {
    json.get(name).and_then(Value::as_str).map(str::to_owned)
}
