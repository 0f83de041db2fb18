//! What the firmware is asked to authenticate, and what becomes of its answer. Version 1.
//!
//! Owns: the recipe, which `docs/otp-volumes.md` repeats for other implementations:
//!
//! ```text
//! message = "signalbox/otp/1" || lp(device id) || lp(volume UUID, 16 bytes) || lp(salt, 32 bytes)
//! secret  = HKDF-SHA256(no salt, HMAC-SHA256(device key, message), "signalbox/otp/1/volume"), 32 bytes
//! ```
//!
//! `lp(x)` is the length of x in four bytes, big-endian, then x, as in the wire contract. The HKDF keeps a volume's secret apart from anything
//! else that a program may have the same firmware compute; whoever sees one secret learns nothing of another's.
//! Changing any of it is a new version with a new label: a volume that exists must open for ever.

use domain::{DeviceId, SealedSecret};
use ring::hkdf;
use zeroize::Zeroizing;

use crate::error::DeriveError;

const INFO: &[u8] = b"signalbox/otp/1/volume";

/// Everything but the key that a volume's secret depends on. None of it is secret.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The device that the volume is for.
    pub device: &'a DeviceId,
    /// The volume's UUID: a token that is moved to another volume derives another secret.
    pub volume: [u8; 16],
    /// Random, made once for the volume.
    pub salt: &'a [u8; 32],
}

impl Recipe<'_> {
    /// The version that this crate follows.
    pub const VERSION: u32 = 1;
    /// What the message begins with.
    pub const LABEL: &'static str = "signalbox/otp/1";

    /// The message for the firmware: 76 to 138 bytes.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut message = Self::LABEL.as_bytes().to_vec();
        for field in [self.device.as_str().as_bytes(), &self.volume, self.salt] {
            let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
            message.extend_from_slice(&len.to_be_bytes());
            message.extend_from_slice(field);
        }
        message
    }
}

/// The volume's secret out of the HMAC of its message.
pub(crate) fn expand(hmac: &Zeroizing<[u8; 32]>) -> Result<SealedSecret, DeriveError> {
    let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(hmac.as_slice());
    SealedSecret::try_fill(|room| {
        pseudo_random
            .expand(&[INFO], Len)
            .and_then(|expanded| expanded.fill(room))
    })
    .map_err(|_| DeriveError::Expand)
}

/// The length of a secret, as ring wants to be told.
struct Len;

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        SealedSecret::LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_documented_one() {
        let device = "edge-1".parse().unwrap();
        let recipe = Recipe {
            device: &device,
            volume: [0xab; 16],
            salt: &[0xcd; 32],
        };
        let mut expected = b"signalbox/otp/1\0\0\0\x06edge-1\0\0\0\x10".to_vec();
        expected.extend_from_slice(&[0xab; 16]);
        expected.extend_from_slice(b"\0\0\0\x20");
        expected.extend_from_slice(&[0xcd; 32]);
        assert_eq!(recipe.message(), expected);
    }

    #[test]
    fn a_message_has_the_length_that_its_documentation_says() {
        for (id, len) in [("a".to_owned(), 76), ("a".repeat(63), 138)] {
            let device = id.parse().unwrap();
            let recipe = Recipe {
                device: &device,
                volume: [0; 16],
                salt: &[0; 32],
            };
            assert_eq!(recipe.message().len(), len);
        }
    }
}
