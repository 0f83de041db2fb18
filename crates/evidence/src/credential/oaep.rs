//! RSAES-OAEP encryption with a 2048-bit key and SHA-256 (RFC 8017, 7.1.1): the public half alone.
//!
//! Owns: the padding. The block before encryption holds the seed of a credential, so it is wiped.

use domain::HashAlg;
use zeroize::Zeroizing;

use crate::{
    ek::MODULUS_LEN,
    hash,
    rsa::{Modulus2048, mask},
};

/// `nameAlg` of both EK templates.
const HASH: HashAlg = HashAlg::Sha256;
const HASH_LEN: usize = 32;
/// Bytes of the data block: all of the modulus but the leading zero and the seed.
const BLOCK_LEN: usize = MODULUS_LEN - 1 - HASH_LEN;

/// Encrypts a 32-byte message; `seed` is random and used once.
pub(super) fn encrypt(
    modulus: &Modulus2048,
    label: &[u8],
    message: &[u8; 32],
    seed: &[u8; HASH_LEN],
) -> Vec<u8> {
    let mut block = Zeroizing::new([0; BLOCK_LEN]);
    let (label_hash, rest) = block.split_at_mut(HASH_LEN);
    label_hash.copy_from_slice(hash::digest(HASH, &[label]).as_ref());
    let (padding, tail) = rest.split_at_mut(BLOCK_LEN - HASH_LEN - message.len());
    if let [.., last] = padding {
        *last = 1;
    }
    tail.copy_from_slice(message);
    mask(HASH, block.as_mut_slice(), seed);

    let mut masked_seed = Zeroizing::new(*seed);
    mask(HASH, masked_seed.as_mut_slice(), block.as_slice());

    let mut encoded = Zeroizing::new([0; MODULUS_LEN]);
    // The first octet stays zero.
    let (head, block_room) = encoded.split_at_mut(1 + HASH_LEN);
    let (_, seed_room) = head.split_at_mut(1);
    seed_room.copy_from_slice(masked_seed.as_slice());
    block_room.copy_from_slice(block.as_slice());
    // The modulus has its top bit, the block does not: it is below it.
    modulus.power(encoded.as_slice()).unwrap_or_default()
}
