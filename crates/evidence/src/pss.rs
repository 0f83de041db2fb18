//! RSASSA-PSS signatures with the longest salt that fits (RFC 8017, 8.1.2 and 9.1.2).
//!
//! Owns: what `ring` does not check. It takes a salt as long as the hash, as FIPS 186 and newer TPMs have it; TPMs of
//! the library specification before revision 1.38 fill the block with salt (part 1, B.7). No other length exists.
//! An attacker controls the signature; the modulus is the registered AK's, odd and with its top bit set.

use domain::HashAlg;

use crate::{
    hash,
    rsa::{Modulus2048, Modulus3072, mask},
};

/// The modulus of a key that may sign so.
pub(crate) enum PssModulus {
    Bits2048(Modulus2048),
    Bits3072(Modulus3072),
}

impl PssModulus {
    /// `None` where the modulus is even, or none of these.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let small = Modulus2048::new(bytes).map(Self::Bits2048);
        small.or_else(|| Modulus3072::new(bytes).map(Self::Bits3072))
    }

    /// Whether `signature` is one over `message` with the longest salt.
    pub(crate) fn verifies(&self, hash: HashAlg, message: &[u8], signature: &[u8]) -> bool {
        let block = match self {
            Self::Bits2048(modulus) => modulus.power(signature),
            Self::Bits3072(modulus) => modulus.power(signature),
        };
        block.is_some_and(|mut block| is_encoding(&mut block, hash, message).is_some())
    }
}

/// EMSA-PSS-VERIFY. The modulus fills its octets, so the block has one bit less, its first.
fn is_encoding(block: &mut [u8], alg: HashAlg, message: &[u8]) -> Option<()> {
    let (last, rest) = block.split_last_mut()?;
    let masked_len = rest.len().checked_sub(alg.digest_len())?;
    let (masked, sealed) = rest.split_at_mut_checked(masked_len)?;
    let first = *masked.first()?;
    if *last != 0xbc || first & 0x80 != 0 {
        return None;
    }
    mask(alg, masked, sealed);
    let (first, salt) = masked.split_first_mut()?;
    *first &= 0x7f;
    // No padding: its end marker comes first, all that follows is salt.
    if *first != 1 {
        return None;
    }
    let digest = hash::digest(alg, &[message]);
    let expected = hash::digest(alg, &[&[0; 8], digest.as_ref(), salt]);
    (expected.as_ref() == sealed).then_some(())
}
