//! The anti-forensic splitter of LUKS (LUKS1 specification 2.4, kept by LUKS2 section 3.2): a key becomes 4000
//! stripes, all of which are needed, so that a disk which lost one forgotten sector has lost the key.
//!
//! Owns: split, merge and the diffuser. Buffers that held key material are wiped.

use openssl::{error::ErrorStack, hash::Hasher};
use zeroize::Zeroizing;

use crate::kdf::Hash;

/// Stripes: the one count that cryptsetup writes, and the only one that we read.
pub(crate) const STRIPES: usize = 4000;

/// Splits `key` into [`STRIPES`] stripes; all but the last are made of `entropy`.
pub(crate) fn split(
    key: &[u8],
    hash: Hash,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let mut material = Zeroizing::new(vec![0; key.len().saturating_mul(STRIPES)]);
    let random_len = key.len().saturating_mul(STRIPES.saturating_sub(1));
    let (random, last) = material.split_at_mut(random_len);
    entropy(random);
    let mut sum = Zeroizing::new(vec![0; key.len()]);
    for stripe in random.chunks_exact(key.len()) {
        xor(&mut sum, stripe);
        diffuse(&mut sum, hash)?;
    }
    last.copy_from_slice(key);
    xor(last, &sum);
    Ok(material)
}

/// Puts the stripes of `material` together again and writes the key, whose length tells the stripes' length.
pub(crate) fn merge(material: &[u8], hash: Hash, key: &mut [u8]) -> Result<(), ErrorStack> {
    let mut stripes = material.chunks_exact(key.len()).take(STRIPES).peekable();
    key.fill(0);
    while let Some(stripe) = stripes.next() {
        xor(key, stripe);
        if stripes.peek().is_some() {
            diffuse(key, hash)?;
        }
    }
    Ok(())
}

fn xor(into: &mut [u8], other: &[u8]) {
    for (a, b) in into.iter_mut().zip(other) {
        *a ^= b;
    }
}

/// Replaces each digest-sized block by the hash of its number (big-endian) and itself; the last one is cut.
fn diffuse(block: &mut [u8], hash: Hash) -> Result<(), ErrorStack> {
    let digest = hash.message_digest();
    let mut hasher = Hasher::new(digest)?;
    for (number, part) in (0_u32..).zip(block.chunks_mut(digest.size())) {
        hasher.update(&number.to_be_bytes())?;
        hasher.update(part)?;
        let out = hasher.finish()?;
        for (to, from) in part.iter_mut().zip(out.iter()) {
            *to = *from;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> impl FnMut(&mut [u8]) {
        let mut n = 0_u8;
        move |room: &mut [u8]| {
            for b in room {
                n = n.wrapping_mul(167).wrapping_add(13);
                *b = n;
            }
        }
    }

    #[test]
    fn what_is_split_merges_for_both_hashes() {
        let key: Vec<u8> = (0..64).collect();
        for hash in [Hash::Sha256, Hash::Sha512] {
            let material = split(&key, hash, &mut counter()).unwrap();
            assert_eq!(material.len(), 64 * STRIPES);
            let mut back = [0; 64];
            merge(&material, hash, &mut back).unwrap();
            assert_eq!(back.as_slice(), key);
        }
    }

    #[test]
    fn every_stripe_is_needed() {
        let key = [7; 64];
        let material = split(&key, Hash::Sha256, &mut counter()).unwrap();
        for at in [0, 64 * 1999 + 5, 64 * STRIPES - 1] {
            let mut torn = material.clone();
            torn[at] ^= 1;
            let mut back = [0; 64];
            merge(&torn, Hash::Sha256, &mut back).unwrap();
            assert_ne!(back, key);
        }
    }
}
