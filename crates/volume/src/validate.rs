//! From metadata as it was written to a layout that may be used: everything that is not exactly what this crate
//! writes, or what plain `cryptsetup luksFormat` makes with our cipher, is refused here with its name.
//!
//! Owns: the list of what is accepted, of metadata that keep the rules of the format (`wellformed`) already: names name what is there,
//! areas lie between headers and data, none over another. One `crypt` segment of one of our two ciphers, one PBKDF2 digest for it, keyslots of
//! `aes-xts-plain64` with 4000 stripes; costs bounded.
//! Refuses above all a null or unknown cipher (CVE-2025-59054, CVE-2025-58356: secrets written in clear into an
//! attacker's volume), requirements and reencryption (CVE-2021-4122: crash recovery that decrypts).
//! An attacker controls every value.

use std::collections::BTreeMap;

use argon2::Algorithm;
use data_encoding::BASE64;

use crate::{
    KeyslotId, Place, Unsupported,
    antiforensic::STRIPES,
    kdf::{Argon2Kdf, Hash, Kdf, Pbkdf2},
    keyslot,
    metadata::{self, Decimal, Metadata},
    sectors::{DataCipher, SectorSize},
    unsupported::MAX_OBJECTS,
};

/// Every area begins and ends on this boundary.
const AREA_ALIGN: u64 = 4096;

/// Bytes of one keyslot's area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Extent {
    fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// A keyslot that may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) area: Extent,
    pub(crate) af_hash: Hash,
    pub(crate) kdf: Kdf,
}

/// The segment of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) extent: Extent,
    pub(crate) cipher: DataCipher,
    pub(crate) sector: SectorSize,
}

/// What the volume key is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyDigest {
    pub(crate) kdf: Pbkdf2,
    pub(crate) value: Vec<u8>,
}

/// A layout that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The keyslots that hold the key of the data, by number.
    pub(crate) slots: BTreeMap<KeyslotId, Slot>,
    pub(crate) data: Data,
    pub(crate) digest: KeyDigest,
}

impl Layout {
    /// Checks `metadata` of a header of `header_size` bytes on a device of `device_len` bytes.
    pub(crate) fn new(metadata: &Metadata, header_size: u64, device_len: u64) -> Result<Self, Unsupported> {
        let config = &metadata.config;
        check_flags(metadata)?;
        if metadata.keyslots.len() > MAX_OBJECTS || metadata.tokens.len() > MAX_OBJECTS {
            return Err(Unsupported::TooMany);
        }
        // Within 136 MiB, by the rules of the format.
        let room_start = header_size.saturating_mul(2);
        let room_end = room_start.saturating_add(config.keyslots_size.0);
        let data = data(metadata, room_end, device_len)?;
        let mut all = BTreeMap::new();
        for (name, keyslot) in &metadata.keyslots {
            let id = KeyslotId::parse(name).ok_or_else(|| Unsupported::KeyslotName(name.clone()))?;
            all.insert(id, slot(id, keyslot, data.cipher, room_start, room_end)?);
        }
        let (digest, names) = digest(metadata)?;
        let mut slots = BTreeMap::new();
        for name in names {
            let found = KeyslotId::parse(name).and_then(|id| all.remove_entry(&id));
            let (id, slot) = found.ok_or_else(|| Unsupported::KeyslotName(name.clone()))?;
            slots.insert(id, slot);
        }
        if slots.is_empty() {
            return Err(Unsupported::NoKeyslot);
        }
        Ok(Self { slots, data, digest })
    }
}

/// Requirements and every trace of reencryption, before anything else is looked at.
fn check_flags(metadata: &Metadata) -> Result<(), Unsupported> {
    let reencrypts = |value: &serde_json::Value| value.to_string().contains("reencrypt");
    let slots_reencrypt = metadata
        .keyslots
        .values()
        .any(|slot| slot.r#type == "reencrypt" || slot.reencrypts());
    let required = metadata.config.requirements.as_ref();
    if slots_reencrypt || required.is_some_and(reencrypts) {
        return Err(Unsupported::Reencryption);
    }
    if required.is_some() {
        return Err(Unsupported::Requirements);
    }
    Ok(())
}

fn slot(
    id: KeyslotId,
    raw: &metadata::Keyslot,
    cipher: DataCipher,
    start: u64,
    end: u64,
) -> Result<Slot, Unsupported> {
    let place = Place::Keyslot(id);
    if raw.r#type != "luks2" {
        return Err(Unsupported::KeyslotType(id, raw.r#type.clone()));
    }
    if raw.area.r#type != "raw" {
        return Err(Unsupported::KeyslotType(id, raw.area.r#type.clone()));
    }
    // An area is AES-XTS whatever the data is, so that stock tools can open it everywhere.
    if accept_cipher(place, &raw.area.encryption)? != DataCipher::AesXts {
        return Err(Unsupported::Cipher {
            place,
            cipher: raw.area.encryption.clone(),
        });
    }
    accept_key_size(place, DataCipher::AesXts, raw.area.key_size)?;
    accept_key_size(place, cipher, raw.key_size)?;
    let af = raw
        .af
        .as_ref()
        .filter(|af| af.r#type == "luks1" && usize::try_from(af.stripes) == Ok(STRIPES))
        .ok_or(Unsupported::Split(id))?;
    let area = Extent {
        offset: raw.area.offset.0,
        len: raw.area.size.0,
    };
    let holds_material = usize::try_from(area.len).is_ok_and(|len| len >= keyslot::material_len(cipher));
    let inside = area.offset >= start && area.end().is_some_and(|area_end| area_end <= end);
    let aligned = area.offset.is_multiple_of(AREA_ALIGN) && area.len.is_multiple_of(AREA_ALIGN);
    if !(holds_material && inside && aligned) {
        return Err(Unsupported::OutOfBounds(place));
    }
    let kdf = raw.kdf.as_ref().ok_or(Unsupported::KdfCost(place))?;
    Ok(Slot {
        area,
        af_hash: hash(place, &af.hash)?,
        kdf: slot_kdf(id, kdf)?,
    })
}

fn data(metadata: &Metadata, room_end: u64, device_len: u64) -> Result<Data, Unsupported> {
    let segment = match metadata.segments.first_key_value() {
        Some((name, segment)) if metadata.segments.len() == 1 && name == "0" && segment.r#type == "crypt" => {
            segment
        }
        _ => return Err(Unsupported::Segments),
    };
    let cipher = accept_cipher(Place::Data, &segment.encryption)?;
    for (used, what) in [
        (segment.integrity.is_some(), "integrity"),
        (segment.flags.is_some(), "flags"),
        (segment.iv_tweak != Some(Decimal(0)), "an IV tweak"),
    ] {
        if used {
            return Err(Unsupported::SegmentOption(what));
        }
    }
    let sector = match segment.sector_size {
        512 => SectorSize::B512,
        4096 => SectorSize::B4096,
        other => return Err(Unsupported::SectorSize(other)),
    };
    let offset = segment.offset.0;
    let wrong = Unsupported::OutOfBounds(Place::Data);
    let len = if segment.size == "dynamic" {
        let rest = device_len.checked_sub(offset).ok_or(Unsupported::Truncated {
            needed: offset,
            found: device_len,
        })?;
        rest & !(sector.bytes_u64().wrapping_sub(1))
    } else {
        Decimal::parse(&segment.size).ok_or_else(|| wrong.clone())?.0
    };
    let extent = Extent { offset, len };
    let needed = extent.end().ok_or_else(|| wrong.clone())?;
    let aligned = offset.is_multiple_of(AREA_ALIGN) && len.is_multiple_of(sector.bytes_u64());
    if offset < room_end || len == 0 || !aligned {
        return Err(wrong);
    }
    if needed > device_len {
        return Err(Unsupported::Truncated {
            needed,
            found: device_len,
        });
    }
    Ok(Data {
        extent,
        cipher,
        sector,
    })
}

/// The digest of the data segment, and the names of the keyslots that hold its key.
fn digest(metadata: &Metadata) -> Result<(KeyDigest, &[String]), Unsupported> {
    let mut of_data = metadata
        .digests
        .values()
        .filter(|digest| digest.segments.iter().any(|s| s == "0"));
    let (Some(digest), None) = (of_data.next(), of_data.next()) else {
        let count = metadata
            .digests
            .values()
            .filter(|d| d.segments.iter().any(|s| s == "0"))
            .count();
        return Err(Unsupported::Digests(count));
    };
    if digest.r#type != "pbkdf2" {
        return Err(Unsupported::DigestType(digest.r#type.clone()));
    }
    let value = BASE64
        .decode(digest.digest.as_bytes())
        .map_err(|_| Unsupported::Base64(Place::Digest))?;
    let kdf = pbkdf2(Place::Digest, &digest.hash, digest.iterations, &digest.salt)?;
    // A short digest would let many keys pass, an empty one every key.
    if !(32..=64).contains(&value.len()) {
        return Err(Unsupported::KdfCost(Place::Digest));
    }
    Ok((KeyDigest { kdf, value }, &digest.keyslots))
}

fn slot_kdf(id: KeyslotId, raw: &metadata::Kdf) -> Result<Kdf, Unsupported> {
    let place = Place::Keyslot(id);
    let argon2 = |algorithm, time, memory, cpus, salt: &str| {
        let salt = BASE64
            .decode(salt.as_bytes())
            .map_err(|_| Unsupported::Base64(place))?;
        let kdf = Argon2Kdf::new(algorithm, time, memory, cpus, salt);
        kdf.map(Kdf::Argon2).ok_or(Unsupported::KdfCost(place))
    };
    match raw {
        metadata::Kdf::Pbkdf2 {
            hash,
            iterations,
            salt,
        } => pbkdf2(place, hash, *iterations, salt).map(Kdf::Pbkdf2),
        metadata::Kdf::Argon2i {
            time,
            memory,
            cpus,
            salt,
        } => argon2(Algorithm::Argon2i, *time, *memory, *cpus, salt),
        metadata::Kdf::Argon2id {
            time,
            memory,
            cpus,
            salt,
        } => argon2(Algorithm::Argon2id, *time, *memory, *cpus, salt),
        metadata::Kdf::Other => Err(Unsupported::KdfType(id)),
    }
}

fn pbkdf2(place: Place, name: &str, iterations: u64, salt: &str) -> Result<Pbkdf2, Unsupported> {
    let salt = BASE64
        .decode(salt.as_bytes())
        .map_err(|_| Unsupported::Base64(place))?;
    let hash = hash(place, name)?;
    Pbkdf2::new(hash, iterations, salt).ok_or(Unsupported::KdfCost(place))
}

fn hash(place: Place, name: &str) -> Result<Hash, Unsupported> {
    Hash::from_name(name).ok_or_else(|| Unsupported::Hash {
        place,
        hash: name.to_owned(),
    })
}

fn accept_cipher(place: Place, name: &str) -> Result<DataCipher, Unsupported> {
    DataCipher::from_name(name).ok_or_else(|| Unsupported::Cipher {
        place,
        cipher: name.to_owned(),
    })
}

fn accept_key_size(place: Place, cipher: DataCipher, bytes: u64) -> Result<(), Unsupported> {
    if usize::try_from(bytes) == Ok(cipher.key_len()) {
        Ok(())
    } else {
        Err(Unsupported::KeySize { place, bytes })
    }
}
