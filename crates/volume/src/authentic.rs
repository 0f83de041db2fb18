//! The header's authentication: a MAC under a key that only this volume's sealed secret gives.
//!
//! Owns: what the MAC covers, and its token (`signalbox-header`), which other tools ignore. LUKS2's own checksum proves
//! nothing: whoever can write the disk can make it. The MAC covers all that decides how the bytes of the data are
//! understood: UUID, data segment and cipher, digest, the keyslot of the secret with its derivation, and the volume's
//! generation where it has one. It leaves out what may change without harm: the label, other keyslots and tokens, the sequence number, `config.flags` (THREAT_MODEL.md says what they do); stock `luksAddKey` and
//! `luksKillSlot` keep working.
//! Key: HKDF-SHA256 of the secret, no salt, info `signalbox volume header v1`. MAC: HMAC-SHA256 over length-prefixed
//! fields. Limits: the data is not authenticated, AES-XTS and Adiantum cannot; an older volume of the same secret is
//! told from a newer one by the generation alone, which somebody has to compare with a counter that nobody can turn back.

use data_encoding::BASE64;
use domain::{Generation, SealedSecret};
use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};

use crate::{
    HeaderFault, KeyslotId,
    kdf::Pbkdf2,
    metadata::{self, Decimal},
    validate::{Layout, Slot},
};

/// The type of the token.
pub(crate) const TYPE: &str = "signalbox-header";
const INFO: &[u8] = b"signalbox volume header v1";
/// Before the generation, in a header that has one.
const GENERATION: &[u8] = b"generation";

/// The token that carries the MAC of a keyslot's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MacToken {
    r#type: String,
    // Always empty: systemd takes a keyslot with two tokens for a conflict.
    keyslots: Vec<KeyslotId>,
    pub(crate) keyslot: KeyslotId,
    mac: String,
    // Who reads headers of before knows no such field, and finds the MAC wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    generation: Option<Decimal>,
}

/// Why a header is not taken for this secret's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// There is no token with a MAC for the keyslot.
    #[error("it carries no authentication")]
    Missing,
    /// The MAC does not verify: the header was changed.
    #[error("it was changed, or made by another tool")]
    Changed,
    /// The copy that was not used is not damaged: it was made so that this crate passes it over, and another tool may use it.
    #[error("its other copy was made to be read by some tools and not by others: {0}")]
    TwoFaced(HeaderFault),
}

impl MacToken {
    /// Authenticates the `layout` of the volume `uuid` for whoever opens `keyslot` with `secret`.
    pub(crate) fn new(
        secret: &SealedSecret,
        uuid: &str,
        keyslot: KeyslotId,
        layout: &Layout,
        generation: Option<Generation>,
    ) -> Option<Self> {
        let covered = covered(uuid, keyslot, layout, generation)?;
        let mac = hmac::sign(&key(secret)?, &covered);
        Some(Self {
            r#type: TYPE.to_owned(),
            keyslots: Vec::new(),
            keyslot,
            mac: BASE64.encode(mac.as_ref()),
            generation: generation.map(|generation| Decimal(generation.0)),
        })
    }

    /// The generation that the header says it has. Believed by whoever has verified.
    pub(crate) fn generation(&self) -> Option<Generation> {
        self.generation.map(|number| Generation(number.0))
    }

    /// Verifies in constant time.
    pub(crate) fn verify(
        &self,
        secret: &SealedSecret,
        uuid: &str,
        keyslot: KeyslotId,
        layout: &Layout,
    ) -> Result<(), NotAuthentic> {
        let parts = covered(uuid, keyslot, layout, self.generation())
            .zip(key(secret))
            .zip(BASE64.decode(self.mac.as_bytes()).ok());
        let ((covered, key), mac) = parts.ok_or(NotAuthentic::Changed)?;
        hmac::verify(&key, &covered, &mac).map_err(|_| NotAuthentic::Changed)
    }
}

fn key(secret: &SealedSecret) -> Option<hmac::Key> {
    let pseudo_random = secret.expose(|secret| hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret));
    let expanded = pseudo_random.expand(&[INFO], hmac::HMAC_SHA256).ok()?;
    Some(hmac::Key::from(expanded))
}

/// Every covered value with its length before it, so that no two headers have one text.
fn covered(
    uuid: &str,
    keyslot: KeyslotId,
    layout: &Layout,
    generation: Option<Generation>,
) -> Option<Vec<u8>> {
    let Slot { area, af_hash, kdf } = layout.slots.get(&keyslot)?;
    let data = &layout.data;
    let mut text = Vec::new();
    let mut field = |bytes: &[u8]| {
        text.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        text.extend_from_slice(bytes);
    };
    let number = |number: u64| number.to_be_bytes();
    field(INFO);
    field(uuid.as_bytes());
    field(data.cipher.name().as_bytes());
    field(&number(data.extent.offset));
    field(&number(data.extent.len));
    field(&number(data.sector.bytes_u64()));
    pbkdf2(&layout.digest.kdf, &mut field);
    field(&layout.digest.value);
    field(&[keyslot.get()]);
    field(&number(area.offset));
    field(&number(area.len));
    field(af_hash.name().as_bytes());
    let kdf: metadata::Kdf = kdf.to_metadata();
    field(&serde_json::to_vec(&kdf).ok()?);
    if let Some(generation) = generation {
        field(GENERATION);
        field(&number(generation.0));
    }
    Some(text)
}

fn pbkdf2(kdf: &Pbkdf2, field: &mut impl FnMut(&[u8])) {
    let (hash, iterations, salt) = kdf.parameters();
    field(hash.name().as_bytes());
    field(&u64::from(iterations).to_be_bytes());
    field(salt);
}
