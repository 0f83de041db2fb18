//! The content's authentication: a MAC over the plain image, for volumes that are never written to again.
//!
//! Owns: what is hashed and its token (`signalbox-content`), which other tools ignore. Neither AES-XTS nor Adiantum notices a
//! changed sector; `verify` does where this token is. It is optional: hashing costs more time than encrypting, and the first
//! write through dm-crypt makes it wrong.
//! Leaf `n`: SHA-256 of bytes `n * 4 MiB` and on, up to 4 MiB. Root: SHA-256 of the image's length (8 bytes, big endian) and all
//! leaves. MAC: HMAC-SHA256 of the root under HKDF-SHA256 of the volume key, no salt, info `signalbox volume content v1`:
//! keyed, so that the header tells nobody what is inside. Keyslots may come and go without changing it.
//! Limits: 8 MiB of memory for a TiB of image.

use std::sync::Mutex;

use data_encoding::BASE64;
use domain::VolumeKey;
use ring::{digest, hkdf, hmac};
use serde::{Deserialize, Serialize};

use crate::{DataCipher, KeyslotId, metadata::Decimal};

/// The type of the token.
pub(crate) const TYPE: &str = "signalbox-content";
const INFO: &[u8] = b"signalbox volume content v1";
/// Bytes of a leaf.
pub(crate) const LEAF: u64 = 4 << 20;

/// The hashes of all leaves, which come in no order.
#[derive(Default)]
pub(crate) struct Leaves(Mutex<Vec<(u64, digest::Digest)>>);

/// A leaf that is being hashed.
pub(crate) struct Leaf(Option<digest::Context>);

impl Leaves {
    pub(crate) fn begin(&self) -> Leaf {
        Leaf(None)
    }

    /// Keeps the hash of the leaf at `offset`, if it has a byte.
    pub(crate) fn end(&self, offset: u64, leaf: Leaf) {
        if let Some(context) = leaf.0 {
            let mut leaves = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            leaves.push((offset, context.finish()));
        }
    }

    /// The token for an image of `len` bytes, if all of its leaves are there.
    pub(crate) fn mac(&self, cipher: DataCipher, key: &VolumeKey, len: u64) -> Option<ContentToken> {
        let mut leaves = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        leaves.sort_unstable_by_key(|(offset, _)| *offset);
        root(len, &leaves).and_then(|root| ContentToken::new(cipher, key, len, root.as_ref()))
    }
}

impl Leaf {
    /// Takes the next bytes, of which only the first `inside` belong to the image.
    pub(crate) fn update(&mut self, piece: &[u8], inside: u64) {
        let here = usize::try_from(inside).map_or(piece.len(), |inside| inside.min(piece.len()));
        let piece = piece.get(..here).unwrap_or_default();
        if !piece.is_empty() {
            let context = self
                .0
                .get_or_insert_with(|| digest::Context::new(&digest::SHA256));
            context.update(piece);
        }
    }
}

fn root(len: u64, leaves: &[(u64, digest::Digest)]) -> Option<digest::Digest> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&len.to_be_bytes());
    let mut expected = 0;
    for (offset, leaf) in leaves {
        if *offset != expected {
            return None;
        }
        context.update(leaf.as_ref());
        expected = expected.checked_add(LEAF)?;
    }
    (expected >= len).then(|| context.finish())
}

/// The token that carries the MAC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContentToken {
    r#type: String,
    // Always empty: it belongs to no keyslot, but to the volume key.
    keyslots: Vec<KeyslotId>,
    /// Bytes of the image; what is behind it is not covered.
    pub(crate) len: Decimal,
    mac: String,
}

impl ContentToken {
    fn new(cipher: DataCipher, key: &VolumeKey, len: u64, root: &[u8]) -> Option<Self> {
        let mac = hmac::sign(&mac_key(cipher, key)?, root);
        Some(Self {
            r#type: TYPE.to_owned(),
            keyslots: Vec::new(),
            len: Decimal(len),
            mac: BASE64.encode(mac.as_ref()),
        })
    }

    /// A token of the right length, to see whether it fits.
    pub(crate) fn placeholder(len: u64) -> Self {
        Self {
            r#type: TYPE.to_owned(),
            keyslots: Vec::new(),
            len: Decimal(len),
            mac: BASE64.encode(&[0; 32]),
        }
    }

    /// Whether the leaves are those of the image that was written.
    pub(crate) fn agrees(&self, leaves: &Leaves, cipher: DataCipher, key: &VolumeKey) -> bool {
        let other = leaves.mac(cipher, key, self.len.0);
        other.is_some_and(|other| {
            let (ours, theirs) = (self.mac.as_bytes(), other.mac.as_bytes());
            ours.len() == theirs.len() && openssl::memcmp::eq(ours, theirs)
        })
    }
}

fn mac_key(cipher: DataCipher, key: &VolumeKey) -> Option<hmac::Key> {
    let pseudo_random = cipher.expose(key, |key| hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key));
    let expanded = pseudo_random.expand(&[INFO], hmac::HMAC_SHA256).ok()?;
    Some(hmac::Key::from(expanded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> VolumeKey {
        VolumeKey::copy_from(&[byte; 64]).unwrap()
    }

    fn leaves(parts: &[(u64, &[u8])]) -> Leaves {
        let leaves = Leaves::default();
        for (offset, bytes) in parts {
            let mut leaf = leaves.begin();
            leaf.update(bytes, u64::MAX);
            leaves.end(*offset, leaf);
        }
        leaves
    }

    #[test]
    fn leaves_come_in_any_order_and_all_have_to_come() {
        let (len, whole) = (LEAF + 5, vec![7; usize::try_from(LEAF).unwrap()]);
        let token = leaves(&[(0, &whole), (LEAF, b"tail!")])
            .mac(DataCipher::AesXts, &key(1), len)
            .unwrap();
        let agrees =
            |parts: &[(u64, &[u8])], key: &VolumeKey| token.agrees(&leaves(parts), DataCipher::AesXts, key);
        assert!(agrees(&[(LEAF, b"tail!"), (0, &whole)], &key(1)));
        assert!(!agrees(&[(LEAF, b"tail!"), (0, &whole)], &key(2)), "keyed");
        assert!(!agrees(&[(LEAF, b"tails"), (0, &whole)], &key(1)));
        assert!(!agrees(&[(0, &whole)], &key(1)), "one is missing");
        assert!(!agrees(&[(LEAF, b"tail!")], &key(1)));
        assert!(leaves(&[]).mac(DataCipher::Adiantum, &key(1), 1).is_none());
    }

    #[test]
    fn what_is_behind_the_image_is_not_hashed() {
        let leaves = Leaves::default();
        let mut leaf = leaves.begin();
        leaf.update(b"content and more", 7);
        leaf.update(b"zeros", 0);
        leaves.end(0, leaf);
        let other = tests::leaves(&[(0, b"content")]);
        let mac = |leaves: Leaves| leaves.mac(DataCipher::AesXts, &key(1), 7).unwrap();
        let (one, two) = (mac(leaves), mac(other));
        assert_eq!(one, two);
        assert_eq!(one.mac.len(), ContentToken::placeholder(7).mac.len());
    }
}
