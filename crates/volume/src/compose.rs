//! What a volume's header and keyslots hold, before a byte is written.
//!
//! Owns: the keyslots' places, the metadata, its authentication and the bytes of both headers. What was put together is
//! checked by the same rules as a header from elsewhere: nothing is written that we would not open.
//! The order in which entropy is drawn is part of "same inputs, same bytes" within one version.

use data_encoding::{BASE64, HEXLOWER};
use domain::VolumeKey;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    CreateError, DataCipher, KeyslotError, KeyslotId, Volume,
    authentic::MacToken,
    binary::{self, BinaryHeader, Copy},
    content_mac::ContentToken,
    create::DATA_OFFSET,
    kdf::{self, Argon2Kdf, Hash, Kdf, Pbkdf2},
    keyslot,
    metadata::{self, Af, Config, Decimal, Digest, Keyslot, Metadata, Segment},
    recovery::RecoveryToken,
    sectors::SectorSize,
    validate::Layout,
};

/// Where the first keyslot is: behind both headers.
const KEYSLOTS_OFFSET: u64 = 2 * binary::DEFAULT_SIZE;
/// A keyslot's area is rounded up to this.
const AREA_ALIGN: usize = 4096;
/// The hash of the sealed secret's keyslot, as systemd has it; the other one follows it.
const SLOT_HASH: Hash = Hash::Sha512;
/// The hash of the digest, as cryptsetup has it, and the length of its value.
const DIGEST_HASH: Hash = Hash::Sha256;
const DIGEST_LEN: usize = 32;

/// All that is written besides the data.
pub(crate) struct Composed {
    pub(crate) areas: Vec<Area>,
    pub(crate) frame: Frame,
    metadata: Metadata,
    content: Option<u64>,
}

/// What both binary headers hold beside the JSON area.
pub(crate) struct Frame {
    pub(crate) uuid: String,
    pub(crate) label: String,
    pub(crate) seqid: u64,
    pub(crate) size: u64,
    pub(crate) salts: [[u8; 64]; 2],
}

/// A keyslot's encrypted material and its place.
pub(crate) struct Area {
    pub(crate) offset: u64,
    pub(crate) material: Zeroizing<Vec<u8>>,
}

/// Puts the header of a volume together, whose content will have `content` bytes.
pub(crate) fn compose(
    volume: &Volume<'_>,
    data_len: u64,
    content: u64,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Composed, CreateError> {
    let options = &volume.options;
    let (cipher, key) = (options.cipher, volume.volume_key);
    let mut slots = Slots::new(cipher);
    let kdf = sealed_kdf(entropy).ok_or(CreateError::Header(None))?;
    slots.add(key, &keyslot::passphrase_of(volume.secret), &kdf, entropy)?;
    let mut tokens = vec![volume.token.object().map_err(CreateError::Token)?];
    let mut authenticates = vec![(KeyslotId::SEALED, volume.secret)];
    if let Some(recovery) = options.recovery {
        let kdf = recovery_kdf(entropy).ok_or(CreateError::Header(None))?;
        let id = recovery.expose(|text| slots.add(key, text, &kdf, entropy))?;
        tokens.push(json(&RecoveryToken::new(id))?);
        authenticates.push((id, recovery.secret()));
    }
    let digest = digest(cipher, key, &slots, entropy)?;
    let mut metadata = Metadata {
        keyslots: slots
            .keyslots
            .iter()
            .map(|(id, slot)| (id.to_string(), slot.clone()))
            .collect(),
        tokens: [].into(),
        segments: [("0".to_owned(), segment(cipher, options.sector_size, data_len))].into(),
        digests: [("0".to_owned(), digest)].into(),
        config: Config {
            json_size: Decimal(binary::DEFAULT_SIZE - binary::LEN_U64),
            keyslots_size: Decimal(DATA_OFFSET - KEYSLOTS_OFFSET),
            flags: None,
            requirements: None,
        },
    };
    let layout = Layout::new(&metadata, binary::DEFAULT_SIZE, volume.size)?;
    let uuid = uuid(volume.uuid);
    for (id, secret) in authenticates {
        let mac = MacToken::new(secret, &uuid, id, &layout, options.generation);
        let mac = mac.ok_or(CreateError::Header(None))?;
        tokens.push(json(&mac)?);
    }
    metadata.tokens = (0..).map(|number: u8| number.to_string()).zip(tokens).collect();
    let composed = Composed {
        areas: slots.areas,
        frame: Frame {
            uuid,
            label: volume.label.to_owned(),
            seqid: 1,
            size: binary::DEFAULT_SIZE,
            salts: [draw(entropy), draw(entropy)],
        },
        metadata,
        content: options.authenticate_content.then_some(content),
    };
    // Whatever does not fit is refused now and not after the data was written.
    composed.headers(Some(ContentToken::placeholder(content)))?;
    Ok(composed)
}

impl Composed {
    /// The length of the content that is to be authenticated.
    pub(crate) const fn content(&self) -> Option<u64> {
        self.content
    }

    /// The first and the second header, each with its JSON area. A token for the content is used only where one is wanted.
    pub(crate) fn headers(&self, content: Option<ContentToken>) -> Result<[Vec<u8>; 2], CreateError> {
        let mut metadata = self.metadata.clone();
        if let Some(token) = content.filter(|_| self.content.is_some()) {
            let number = metadata.tokens.len().to_string();
            metadata.tokens.insert(number, json(&token)?);
        }
        self.frame.headers(&metadata)
    }
}

impl Frame {
    /// Both copies, first and second, each with its JSON area.
    pub(crate) fn headers(&self, metadata: &Metadata) -> Result<[Vec<u8>; 2], CreateError> {
        let json_len = usize::try_from(metadata.config.json_size.0).map_err(|_| CreateError::Header(None))?;
        let json = metadata
            .encode(json_len)
            .map_err(|e| CreateError::Header(Some(e)))?;
        let json = json.ok_or(CreateError::Header(None))?;
        let one = |copy, offset, salt| {
            let header = BinaryHeader {
                size: self.size,
                seqid: self.seqid,
                label: self.label.clone(),
                salt,
                uuid: self.uuid.clone(),
                offset,
            };
            let mut bytes = header.encode(copy, &json).ok_or(CreateError::Label)?.to_vec();
            bytes.extend_from_slice(&json);
            Ok::<_, CreateError>(bytes)
        };
        let [first, second] = self.salts;
        Ok([
            one(Copy::Primary, 0, first)?,
            one(Copy::Secondary, self.size, second)?,
        ])
    }
}

/// The keyslots so far, one area after the other.
struct Slots {
    cipher: DataCipher,
    keyslots: Vec<(KeyslotId, Keyslot)>,
    areas: Vec<Area>,
    next: u64,
}

impl Slots {
    const fn new(cipher: DataCipher) -> Self {
        Self {
            cipher,
            keyslots: Vec::new(),
            areas: Vec::new(),
            next: KEYSLOTS_OFFSET,
        }
    }

    /// Adds the keyslot of a passphrase under the next number.
    fn add(
        &mut self,
        volume_key: &VolumeKey,
        passphrase: &[u8],
        kdf: &Kdf,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<KeyslotId, CreateError> {
        let number = u8::try_from(self.keyslots.len()).ok().and_then(KeyslotId::new);
        let id = number.ok_or(CreateError::Header(None))?;
        let (keyslot, area) = slot_at(self.next, self.cipher, volume_key, passphrase, kdf, entropy)?;
        self.areas.push(area);
        self.keyslots.push((id, keyslot));
        self.next = self.next.saturating_add(area_len(self.cipher));
        Ok(id)
    }
}

/// Bytes of the area of a keyslot.
pub(crate) fn area_len(cipher: DataCipher) -> u64 {
    bytes(keyslot::material_len(cipher).next_multiple_of(AREA_ALIGN))
}

/// How the passphrase of a sealed secret is derived from.
pub(crate) fn sealed_kdf(entropy: &mut dyn FnMut(&mut [u8])) -> Option<Kdf> {
    let salt = draw::<{ kdf::SALT_LEN }>(entropy);
    Pbkdf2::new(SLOT_HASH, kdf::ITERATIONS.into(), salt.to_vec()).map(Kdf::Pbkdf2)
}

/// How a recovery key is derived from.
pub(crate) fn recovery_kdf(entropy: &mut dyn FnMut(&mut [u8])) -> Option<Kdf> {
    Argon2Kdf::recovery(draw(entropy)).map(Kdf::Argon2)
}

/// A keyslot whose area is at `offset`, and its material.
pub(crate) fn slot_at(
    offset: u64,
    cipher: DataCipher,
    volume_key: &VolumeKey,
    passphrase: &[u8],
    kdf: &Kdf,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<(Keyslot, Area), KeyslotError> {
    let material = keyslot::lock(cipher, volume_key, passphrase, kdf, SLOT_HASH, entropy)?;
    let keyslot = Keyslot {
        r#type: "luks2".to_owned(),
        key_size: bytes(cipher.key_len()),
        af: Some(Af {
            r#type: "luks1".to_owned(),
            stripes: 4000,
            hash: SLOT_HASH.name().to_owned(),
        }),
        area: metadata::Area {
            r#type: "raw".to_owned(),
            offset: Decimal(offset),
            size: Decimal(area_len(cipher)),
            encryption: DataCipher::AesXts.name().to_owned(),
            key_size: bytes(DataCipher::AesXts.key_len()),
            ..metadata::Area::default()
        },
        kdf: Some(kdf.to_metadata()),
        priority: None,
        mode: None,
        direction: None,
    };
    Ok((keyslot, Area { offset, material }))
}

fn segment(cipher: DataCipher, sector: SectorSize, data_len: u64) -> Segment {
    Segment {
        r#type: "crypt".to_owned(),
        offset: Decimal(DATA_OFFSET),
        // Not `dynamic`: a volume that was cut off is known by it, and a longer device has no unknown tail.
        size: data_len.to_string(),
        iv_tweak: Some(Decimal(0)),
        encryption: cipher.name().to_owned(),
        sector_size: sector.bytes_u64(),
        integrity: None,
        flags: None,
    }
}

fn digest(
    cipher: DataCipher,
    volume_key: &VolumeKey,
    slots: &Slots,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Digest, CreateError> {
    let salt = draw::<{ kdf::SALT_LEN }>(entropy);
    let kdf = Pbkdf2::new(DIGEST_HASH, kdf::ITERATIONS.into(), salt.to_vec());
    let kdf = kdf.ok_or(CreateError::Header(None))?;
    Ok(Digest {
        r#type: "pbkdf2".to_owned(),
        keyslots: slots.keyslots.iter().map(|(id, _)| id.to_string()).collect(),
        segments: vec!["0".to_owned()],
        hash: DIGEST_HASH.name().to_owned(),
        iterations: kdf::ITERATIONS.into(),
        salt: BASE64.encode(&salt),
        digest: BASE64.encode(&keyslot::derive_digest(cipher, volume_key, &kdf, DIGEST_LEN)?),
    })
}

pub(crate) fn json(value: &impl Serialize) -> Result<serde_json::Value, CreateError> {
    serde_json::to_value(value).map_err(|e| CreateError::Header(Some(e)))
}

fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The next bytes of entropy.
pub(crate) fn draw<const N: usize>(entropy: &mut dyn FnMut(&mut [u8])) -> [u8; N] {
    let mut room = [0; N];
    entropy(&mut room);
    room
}

/// The text of a UUID: 8-4-4-4-12 hexadecimal digits.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let mut text = HEXLOWER.encode(&bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}
