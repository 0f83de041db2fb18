//! Session keys: Ed25519 (RFC 8032), made by the client for one session.
//!
//! Owns: which public keys are taken at all. ring checks `S < L` (RFC 8032, section 5.1.7) but takes any point as a
//! public key; under a key of small order one signature fits many messages, so those keys, and y coordinates that
//! are not reduced, are refused here before a session is opened and before each check.

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// Length of a public key in bytes.
pub const PUBLIC_KEY_LEN: usize = 32;

/// y of the points of order 1, 2, 4 and 8; the sign bit of x does not matter.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // 0 (order 4)
    [0; 32],
    // 1 (order 1)
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ],
    // p - 1 (order 2)
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    // order 8
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    // order 8
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Why bytes are not taken as a session's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes.
    #[error("an Ed25519 public key has {PUBLIC_KEY_LEN} bytes")]
    Length,
    /// A point of small order, under which signatures mean nothing.
    #[error("the public key is a point of small order")]
    SmallOrder,
    /// A y coordinate of 2^255 - 19 or more (RFC 8032, section 5.1.3).
    #[error("the public key is not in its canonical form")]
    NotCanonical,
}

/// The client's key pair of one session. Its seed is shown to nobody.
pub struct SessionKey(Ed25519KeyPair);

impl SessionKey {
    /// Makes the pair of a seed: 32 bytes of entropy, used for this session only.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "every 32 bytes are a seed; only the length is checked"
        )]
        Self(Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("a seed of 32 bytes"))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        let mut out = [0; PUBLIC_KEY_LEN];
        for (place, byte) in out.iter_mut().zip(self.0.public_key().as_ref()) {
            *place = *byte;
        }
        out
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Takes the public key of a session: 32 bytes, canonical, not of small order.
///
/// # Errors
/// The first reason for which it is not taken.
pub fn check_public_key(bytes: &[u8]) -> Result<[u8; PUBLIC_KEY_LEN], KeyError> {
    let key: [u8; PUBLIC_KEY_LEN] = bytes.try_into().map_err(|_| KeyError::Length)?;
    let mut y = key;
    let [first, middle @ .., last] = &mut y;
    *last &= 0x7f;
    if *last == 0x7f && *first >= 0xed && middle.iter().all(|b| *b == 0xff) {
        return Err(KeyError::NotCanonical);
    }
    if SMALL_ORDER.contains(&y) {
        return Err(KeyError::SmallOrder);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_keys_are_refused_with_either_sign() {
        for y in SMALL_ORDER {
            assert_eq!(check_public_key(&y), Err(KeyError::SmallOrder));
            let mut negative = y;
            negative[31] |= 0x80;
            assert_eq!(check_public_key(&negative), Err(KeyError::SmallOrder));
        }
    }

    #[test]
    fn coordinates_beyond_the_field_are_refused() {
        for first in 0xed..=0xff {
            for last in [0x7f, 0xff] {
                let mut key = [0xff; 32];
                key[0] = first;
                key[31] = last;
                assert_eq!(check_public_key(&key), Err(KeyError::NotCanonical));
            }
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for len in [0, 31, 33, 64] {
            assert_eq!(check_public_key(&vec![2; len]), Err(KeyError::Length));
        }
    }

    /// Under the identity (y = 1) the all-zero `S` with `R` the identity fits every message: ring says so too, which is
    /// why the key is refused before ring is asked.
    #[test]
    fn ring_alone_would_take_a_small_order_key() {
        let mut signature = [0; 64];
        signature[0] = 1;
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, SMALL_ORDER[1]);
        assert!(key.verify(b"anything", &signature).is_ok());
        assert!(key.verify(b"and its opposite", &signature).is_ok());
    }

    #[test]
    fn a_made_key_is_taken() {
        for byte in 0..32 {
            let key = SessionKey::from_seed(&Zeroizing::new([byte; 32])).public_key();
            assert_eq!(check_public_key(&key), Ok(key));
        }
    }

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn the_pair_is_rfc_8032s() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = SessionKey::from_seed(&Zeroizing::new(seed.try_into().unwrap()));
        assert_eq!(
            key.public_key().to_vec(),
            hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        );
        assert_eq!(
            key.sign(b""),
            hex(
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            )
        );
    }
}
