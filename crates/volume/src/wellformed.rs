//! The rules of LUKS2 that every reader holds metadata to, whatever it supports: which of two copies of a header is used depends
//! on them, and two tools have to choose alike.
//!
//! Owns: the JSON area as a text and the rules of the on-disk format (sections 3.1 to 3.6), as cryptsetup applies them while it reads.
//! What is well-formed and still not opened is `validate`'s work. Only [`WellFormed::parse`] makes a value.
//! Stricter than cryptsetup in what no tool writes: names that are there twice, JSON with comments or other laxity, numbers that are
//! empty or signed, hundreds of objects. An attacker controls every byte; depth is bounded by the parser (128), length by the header size.

use serde_json::{Map, Value};

use crate::{
    binary,
    unique::{self, Unique},
};

type Json = Map<String, Value>;

/// The largest keyslot area that the format knows, in bytes.
pub(crate) const MAX_KEYSLOTS_SIZE: u64 = 128 << 20;
/// What the keyslot area is aligned to, in bytes.
const KEYSLOTS_ALIGN: u64 = 4096;
/// Most objects of a kind, and names in a list; the format itself knows 32 keyslots, and checks that compare each with each must end.
const MAX_OBJECTS: usize = 256;
/// What segments are aligned to, in bytes.
const SEGMENT_ALIGN: u64 = 512;

/// A part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The whole object.
    Whole,
    /// A keyslot, by its name's number.
    Keyslot(u64),
    /// A token.
    Token(u64),
    /// A segment.
    Segment(u64),
    /// A digest.
    Digest(u64),
    /// The configuration.
    Config,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("the JSON area"),
            Self::Keyslot(number) => write!(f, "keyslot {number}"),
            Self::Token(number) => write!(f, "token {number}"),
            Self::Segment(number) => write!(f, "segment {number}"),
            Self::Digest(number) => write!(f, "digest {number}"),
            Self::Config => f.write_str("the configuration"),
        }
    }
}

/// Why a JSON area breaks the rules of LUKS2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFault {
    /// The text does not end with a NUL inside the area, or something follows it.
    #[error("its JSON area does not end in zeros")]
    Unterminated,
    /// It does not begin with an object.
    #[error("its JSON area does not begin with an object")]
    NoObject,
    /// It is no JSON, or a name is there twice.
    #[error("its JSON area is no JSON, from line {line}, column {column} on")]
    Syntax {
        /// From 1 on.
        line: usize,
        /// In bytes.
        column: usize,
    },
    /// A rule of the format is broken.
    #[error("{section} {what}")]
    Rule {
        /// Where.
        section: Section,
        /// Which, after the section's name.
        what: &'static str,
    },
}

/// Metadata that keep the rules.
#[derive(Debug, Clone)]
pub(crate) struct WellFormed(Value);

impl WellFormed {
    /// Reads the JSON area of a header of `header_size` bytes, binary header and JSON area together.
    pub(crate) fn parse(area: &[u8], header_size: u64) -> Result<Self, MetadataFault> {
        let text = text(area)?;
        let Unique(mut json) = serde_json::from_slice(text).map_err(|e| MetadataFault::Syntax {
            line: e.line(),
            column: e.column(),
        })?;
        drop_leftovers(&mut json);
        Rules::of(&json, header_size)?;
        Ok(Self(json))
    }

    /// The metadata.
    pub(crate) const fn json(&self) -> &Value {
        &self.0
    }

    /// Bytes of both headers and the keyslot area, below which a device holds no volume at all.
    pub(crate) fn len_of_areas(&self) -> u64 {
        let config = |name: &str| number(self.0.get("config").and_then(|config| config.get(name)));
        let header = config("json_size").unwrap_or(0).saturating_add(binary::LEN_U64);
        header
            .saturating_mul(2)
            .saturating_add(config("keyslots_size").unwrap_or(0))
    }
}

/// The object, and white space behind it if there is any; zeros alone follow.
fn text(area: &[u8]) -> Result<&[u8], MetadataFault> {
    // cryptsetup takes no white space before the object either.
    if area.first() != Some(&b'{') {
        return Err(MetadataFault::NoObject);
    }
    let end = area
        .iter()
        .position(|b| *b == 0)
        .ok_or(MetadataFault::Unterminated)?;
    let (text, rest) = area.split_at_checked(end).ok_or(MetadataFault::Unterminated)?;
    // Hidden text behind the object would be covered by the checksum and seen by nobody.
    if rest.iter().any(|b| *b != 0) {
        return Err(MetadataFault::Unterminated);
    }
    Ok(text)
}

/// What an early cryptsetup left in a keyslot when it changed its key derivation; today's drops it without a word, too.
fn drop_leftovers(json: &mut Value) {
    let keyslots = json.get_mut("keyslots").and_then(Value::as_object_mut);
    for keyslot in keyslots.into_iter().flat_map(Json::values_mut) {
        let Some(kdf) = keyslot.get_mut("kdf").and_then(Value::as_object_mut) else {
            continue;
        };
        let known = match kdf.get("type").and_then(Value::as_str) {
            Some("pbkdf2") => ["type", "salt", "hash", "iterations"].as_slice(),
            Some("argon2i" | "argon2id") => &["type", "salt", "time", "memory", "cpus"],
            _ => continue,
        };
        kdf.retain(|name, _| known.contains(&name.as_str()));
    }
}

/// The five sections.
struct Rules<'a> {
    keyslots: &'a Json,
    tokens: &'a Json,
    segments: &'a Json,
    digests: &'a Json,
    config: &'a Json,
    header_size: u64,
}

impl<'a> Rules<'a> {
    fn of(json: &'a Value, header_size: u64) -> Result<(), MetadataFault> {
        let whole = |what| rule(Section::Whole, what);
        let section = |name: &str| json.get(name).and_then(Value::as_object);
        let rules = Rules {
            keyslots: section("keyslots").ok_or(whole("has no keyslots"))?,
            tokens: section("tokens").ok_or(whole("has no tokens"))?,
            segments: section("segments").ok_or(whole("has no segments"))?,
            digests: section("digests").ok_or(whole("has no digests"))?,
            config: section("config").ok_or(whole("has no configuration"))?,
            header_size,
        };
        rules.counts()?;
        rules.tokens()?;
        rules.digests()?;
        rules.segments()?;
        rules.keyslots()?;
        let areas_end = rules.config()?;
        rules.areas(areas_end)
    }

    fn counts(&self) -> Result<(), MetadataFault> {
        let sections = [self.keyslots, self.tokens, self.segments, self.digests];
        let long = |value: &Value| value.as_array().is_some_and(|list| list.len() > MAX_OBJECTS);
        let lists = |object: &Value| {
            ["keyslots", "segments", "flags"]
                .iter()
                .any(|list| object.get(list).is_some_and(long))
        };
        let many = |section: &&Json| section.len() > MAX_OBJECTS || section.values().any(lists);
        if sections.iter().any(many) {
            return Err(rule(Section::Whole, "has more objects than anybody needs"));
        }
        Ok(())
    }

    fn tokens(&self) -> Result<(), MetadataFault> {
        for (name, token) in self.tokens {
            let at = Section::Token(id(name, "has a token whose name is no number")?);
            string(token, "type").ok_or(rule(at, "has no type"))?;
            let all = names(token, "keyslots").ok_or(rule(at, "has no list of keyslots"))?;
            if !all
                .iter()
                .all(|name| self.keyslots.get(*name).is_some_and(Value::is_object))
            {
                return Err(rule(at, "names a keyslot that is not there"));
            }
        }
        Ok(())
    }

    fn digests(&self) -> Result<(), MetadataFault> {
        for (name, digest) in self.digests {
            let at = Section::Digest(id(name, "has a digest whose name is no number")?);
            string(digest, "type").ok_or(rule(at, "has no type"))?;
            let keyslots = names(digest, "keyslots").ok_or(rule(at, "has no list of keyslots"))?;
            if !keyslots
                .iter()
                .all(|name| self.keyslots.get(*name).is_some_and(Value::is_object))
            {
                return Err(rule(at, "names a keyslot that is not there"));
            }
            let segments = names(digest, "segments").ok_or(rule(at, "has no list of segments"))?;
            if !segments
                .iter()
                .all(|name| self.segments.get(*name).is_some_and(Value::is_object))
            {
                return Err(rule(at, "names a segment that is not there"));
            }
        }
        Ok(())
    }

    /// Segments are numbered without a gap; those that are in use first, then backups of a reencryption.
    fn segments(&self) -> Result<(), MetadataFault> {
        let count = u64::try_from(self.segments.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return Err(rule(Section::Whole, "has no segment"));
        }
        let mut found = Vec::new();
        for (name, segment) in self.segments {
            let number = id(name, "has a segment whose name is no number")?;
            if number >= count || number.to_string() != *name {
                return Err(rule(Section::Segment(number), "leaves a gap before it"));
            }
            found.push((number, self.segment(number, segment)?));
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        let used = found.iter().take_while(|(_, segment)| !segment.backup).count();
        let (regular, backups) = found.split_at_checked(used).unwrap_or_default();
        if regular.is_empty() {
            return Err(rule(Section::Whole, "has backup segments alone"));
        }
        if let Some((number, _)) = backups.iter().find(|(_, segment)| !segment.backup) {
            return Err(rule(
                Section::Segment(*number),
                "is used and stands behind a backup",
            ));
        }
        for (number, segment) in regular {
            if segment.len.is_none() && number.saturating_add(1) != u64::try_from(used).unwrap_or(u64::MAX) {
                return Err(rule(
                    Section::Segment(*number),
                    "reaches to the end and is not the last",
                ));
            }
            let clash = |other: &&(u64, Extent)| other.0 != *number && segment.begins_in(&other.1);
            if regular.iter().any(|other| clash(&other)) {
                return Err(rule(Section::Segment(*number), "overlaps another"));
            }
        }
        Ok(())
    }

    fn segment(&self, number: u64, segment: &Value) -> Result<Extent, MetadataFault> {
        let at = Section::Segment(number);
        let kind = string(segment, "type").ok_or(rule(at, "has no type"))?;
        let offset = self::number(segment.get("offset")).filter(|n| n.is_multiple_of(SEGMENT_ALIGN));
        let offset = offset.ok_or(rule(at, "has no offset that is one"))?;
        let len = match string(segment, "size") {
            Some("dynamic") => None,
            _ => {
                let size = self::number(segment.get("size"));
                let size = size.filter(|n| *n > 0 && n.is_multiple_of(SEGMENT_ALIGN));
                Some(size.ok_or(rule(at, "has no size that is one"))?)
            }
        };
        let flags = match segment.get("flags") {
            None => Vec::new(),
            Some(_) => names(segment, "flags").ok_or(rule(at, "has flags that are no list of names"))?,
        };
        if kind == "crypt" {
            self.crypt(at, number, segment, len.unwrap_or(0))?;
        }
        Ok(Extent {
            offset,
            len,
            backup: flags.iter().any(|flag| flag.starts_with("backup-")),
        })
    }

    fn crypt(&self, at: Section, number: u64, segment: &Value, len: u64) -> Result<(), MetadataFault> {
        self::number(segment.get("iv_tweak")).ok_or(rule(at, "has no IV tweak that is a number"))?;
        let cipher = string(segment, "encryption").filter(|cipher| !cipher.is_empty());
        cipher.ok_or(rule(at, "has no encryption"))?;
        let sector = small(segment.get("sector_size")).filter(|n| *n > 0 && n.is_multiple_of(SEGMENT_ALIGN));
        let sector = sector.ok_or(rule(at, "has no sector size that is one"))?;
        if !len.is_multiple_of(sector) {
            return Err(rule(at, "does not end with a whole sector"));
        }
        if let Some(integrity) = segment.get("integrity") {
            let fields = ["type", "journal_encryption", "journal_integrity"];
            if !fields.iter().all(|field| string(integrity, field).is_some()) {
                return Err(rule(at, "has an integrity that is none"));
            }
        }
        let name = number.to_string();
        let mut lists = self
            .digests
            .values()
            .filter_map(|digest| names(digest, "segments"));
        if lists.any(|list| list.contains(&name.as_str())) {
            Ok(())
        } else {
            Err(rule(at, "has no digest"))
        }
    }

    fn keyslots(&self) -> Result<(), MetadataFault> {
        let mut reencryptions = 0_u32;
        for (name, keyslot) in self.keyslots {
            let at = Section::Keyslot(id(name, "has a keyslot whose name is no number")?);
            let kind = string(keyslot, "type").ok_or(rule(at, "has no type"))?;
            small(keyslot.get("key_size")).ok_or(rule(at, "has no key size that is one"))?;
            match kind {
                "luks2" => {
                    luks2(at, keyslot)?;
                    let lists = self
                        .digests
                        .values()
                        .filter_map(|digest| names(digest, "keyslots"));
                    if lists.filter(|list| list.contains(&name.as_str())).count() != 1 {
                        return Err(rule(at, "is not named by exactly one digest"));
                    }
                }
                "reencrypt" => reencryptions = reencryptions.saturating_add(1),
                _ => {}
            }
        }
        if reencryptions > 1 {
            return Err(rule(
                Section::Whole,
                "has more than one keyslot of a reencryption",
            ));
        }
        Ok(())
    }

    /// Where the keyslots' areas have to end.
    fn config(&self) -> Result<u64, MetadataFault> {
        let at = Section::Config;
        let json_size =
            number(self.config.get("json_size")).ok_or(rule(at, "has no size of the JSON area"))?;
        let header = json_size.checked_add(binary::LEN_U64);
        if header != Some(self.header_size) || !binary::SIZES.contains(&self.header_size) {
            return Err(rule(at, "has another size of the JSON area than there is"));
        }
        let keyslots = number(self.config.get("keyslots_size"));
        let keyslots = keyslots.filter(|n| *n <= MAX_KEYSLOTS_SIZE && n.is_multiple_of(KEYSLOTS_ALIGN));
        let keyslots = keyslots.ok_or(rule(at, "has no size of the keyslots that is one"))?;
        // Neither is large: the sum is far below 2^64.
        let end = self.header_size.saturating_mul(2).saturating_add(keyslots);
        let used = self.segments.values().filter(|segment| !is_backup(segment));
        let offsets = used.filter_map(|segment| number(segment.get("offset")));
        // At 0 the data is on another device, and the header detached.
        if offsets.min().is_some_and(|first| first != 0 && first < end) {
            return Err(rule(at, "has keyslots that reach into the data"));
        }
        let list = |value: &Value, name: &str| value.get(name).is_none() || names(value, name).is_some();
        let config = Value::Object(self.config.clone());
        if !list(&config, "flags") {
            return Err(rule(at, "has flags that are no list of names"));
        }
        match self.config.get("requirements") {
            Some(required) if !(required.is_object() && list(required, "mandatory")) => {
                Err(rule(at, "has requirements that are no list of names"))
            }
            _ => Ok(end),
        }
    }

    fn areas(&self, end: u64) -> Result<(), MetadataFault> {
        let mut areas: Vec<(u64, u64, Section)> = Vec::new();
        for (name, keyslot) in self.keyslots {
            let at = Section::Keyslot(id(name, "has a keyslot whose name is no number")?);
            let area = keyslot.get("area").filter(|area| string(area, "type").is_some());
            let area = area.ok_or(rule(at, "has no area"))?;
            let place = number(area.get("offset")).zip(number(area.get("size")));
            let (offset, len) = place.ok_or(rule(at, "has an area without a place"))?;
            let area_end = offset.checked_add(len).filter(|area_end| *area_end <= end);
            let inside = offset >= self.header_size.saturating_mul(2) && len > 0;
            let area_end = area_end
                .filter(|_| inside)
                .ok_or(rule(at, "has an area outside of the room for keyslots"))?;
            areas.push((offset, area_end, at));
        }
        areas.sort_unstable_by_key(|(offset, ..)| *offset);
        let mut last = 0;
        for (offset, area_end, at) in areas {
            if offset < last {
                return Err(rule(at, "has an area that overlaps another"));
            }
            last = area_end;
        }
        Ok(())
    }
}

/// A segment's place.
struct Extent {
    offset: u64,
    /// To the end of the device where there is none.
    len: Option<u64>,
    backup: bool,
}

impl Extent {
    fn begins_in(&self, other: &Self) -> bool {
        let end = other.len.map_or(u64::MAX, |len| other.offset.saturating_add(len));
        (other.offset..end).contains(&self.offset)
    }
}

fn luks2(at: Section, keyslot: &Value) -> Result<(), MetadataFault> {
    let kdf = keyslot
        .get("kdf")
        .and_then(Value::as_object)
        .ok_or(rule(at, "has no key derivation"))?;
    let is_string = |name: &str| kdf.get(name).is_some_and(Value::is_string);
    let is_number = |name: &str| kdf.get(name).is_some_and(unique::is_integer);
    let whole = match kdf.get("type").and_then(Value::as_str) {
        None => false,
        Some("pbkdf2") => is_string("hash") && is_number("iterations") && is_string("salt"),
        Some("argon2i" | "argon2id") => {
            ["time", "memory", "cpus"].iter().all(|n| is_number(n)) && is_string("salt")
        }
        Some(_) => true,
    };
    if !whole {
        return Err(rule(at, "has a key derivation that is none"));
    }
    let af = keyslot.get("af").filter(|af| string(af, "type") == Some("luks1"));
    let af =
        af.filter(|af| string(af, "hash").is_some() && af.get("stripes").is_some_and(unique::is_integer));
    af.ok_or(rule(at, "has no anti-forensic split that is one"))?;
    let area = keyslot
        .get("area")
        .filter(|area| string(area, "type") == Some("raw"));
    let area = area.filter(|area| {
        string(area, "encryption").is_some() && area.get("key_size").is_some_and(unique::is_integer)
    });
    area.ok_or(rule(at, "has no area that is one")).map(|_| ())
}

const fn rule(section: Section, what: &'static str) -> MetadataFault {
    MetadataFault::Rule { section, what }
}

/// An object's name, which is a number.
fn id(name: &str, what: &'static str) -> Result<u64, MetadataFault> {
    digits(name).ok_or(rule(Section::Whole, what))
}

fn digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A number in a string.
pub(crate) fn number(value: Option<&Value>) -> Option<u64> {
    digits(value?.as_str()?)
}

/// A plain number of 32 bits.
fn small(value: Option<&Value>) -> Option<u64> {
    let number = value.filter(|value| unique::is_integer(value))?.as_u64()?;
    u32::try_from(number).ok().map(u64::from)
}

fn string<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name)?.as_str()
}

/// A list of names.
fn names<'v>(object: &'v Value, name: &str) -> Option<Vec<&'v str>> {
    object.get(name)?.as_array()?.iter().map(Value::as_str).collect()
}

fn is_backup(segment: &Value) -> bool {
    names(segment, "flags").is_some_and(|flags| flags.iter().any(|flag| flag.starts_with("backup-")))
}

#[cfg(test)]
mod tests;
