//! RSAES-OAEP encryption with a 2048-bit key and SHA-256 (RFC 8017, 7.1.1): the public half alone.
//!
//! Owns: the padding and one modular power with the exponent 65537. Written here because the field's RSA library
//! brings private-key operations under an open timing advisory into the proxy; what encryption needs is this much. The
//! arithmetic is `crypto-bigint`'s, in constant time.

use crypto_bigint::{
    Encoding as _, U2048, Uint,
    modular::runtime_mod::{DynResidue, DynResidueParams},
};
use ring::digest::{self, SHA256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::ek::MODULUS_LEN;

const HASH_LEN: usize = 32;
/// Bytes of the data block: all of the modulus but the leading zero and the seed.
const BLOCK_LEN: usize = MODULUS_LEN - 1 - HASH_LEN;

/// Encrypts a 32-byte message. `modulus` is odd with its top bit set, as an [`EndorsementKey`](crate::EndorsementKey)
/// has it; `seed` is random and used once.
pub(super) fn encrypt(
    modulus: &[u8; MODULUS_LEN],
    label: &[u8],
    message: &[u8; 32],
    seed: &[u8; HASH_LEN],
) -> [u8; MODULUS_LEN] {
    let mut block = Zeroizing::new([0; BLOCK_LEN]);
    let (label_hash, rest) = block.split_at_mut(HASH_LEN);
    label_hash.copy_from_slice(digest::digest(&SHA256, label).as_ref());
    let (padding, tail) = rest.split_at_mut(BLOCK_LEN - HASH_LEN - message.len());
    if let [.., last] = padding {
        *last = 1;
    }
    tail.copy_from_slice(message);
    mask(block.as_mut_slice(), seed);

    let mut masked_seed = Zeroizing::new(*seed);
    mask(masked_seed.as_mut_slice(), block.as_slice());

    let mut encoded = Zeroizing::new([0; MODULUS_LEN]);
    // The first octet stays zero.
    let (head, block_room) = encoded.split_at_mut(1 + HASH_LEN);
    let (_, seed_room) = head.split_at_mut(1);
    seed_room.copy_from_slice(masked_seed.as_slice());
    block_room.copy_from_slice(block.as_slice());
    power(modulus, &encoded)
}

/// XORs `MGF1(seed)` over `data` (RFC 8017, B.2.1).
fn mask(data: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0_u32..).zip(data.chunks_mut(HASH_LEN)) {
        let mut hash = digest::Context::new(&SHA256);
        hash.update(seed);
        hash.update(&counter.to_be_bytes());
        for (octet, mask) in chunk.iter_mut().zip(hash.finish().as_ref()) {
            *octet ^= mask;
        }
    }
}

/// `base ^ 65537 mod modulus`; `base` has a leading zero octet, so it is below the modulus.
fn power(modulus: &[u8; MODULUS_LEN], base: &[u8; MODULUS_LEN]) -> [u8; MODULUS_LEN] {
    let modulus = DynResidueParams::new(&U2048::from_be_bytes(*modulus));
    let mut base = U2048::from_be_bytes(*base);
    let exponent = Uint::<1>::from_u32(65_537);
    let result = DynResidue::new(&base, modulus).pow_bounded_exp(&exponent, 17);
    base.zeroize();
    result.retrieve().to_be_bytes()
}
