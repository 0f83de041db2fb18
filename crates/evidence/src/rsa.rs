//! The public half of RSA where `ring` has none: a power with the exponent 65537, and MGF1.
//!
//! Owns: which moduli there are, and nothing else: the arithmetic is `crypto-bigint`'s, in constant time. The field's RSA
//! library would bring private-key operations under an open timing advisory into the proxy; a public operation needs
//! this much.

use crypto_bigint::{
    Encoding, U2048, U3072, Uint,
    modular::runtime_mod::{DynResidue, DynResidueParams},
};
use domain::HashAlg;
use zeroize::Zeroizing;

use crate::hash;

/// The public exponent of every RSA key here.
pub(crate) const EXPONENT: u32 = 65_537;

/// A modulus of 2048 bits.
pub(crate) type Modulus2048 = Modulus<{ U2048::LIMBS }>;
/// A modulus of 3072 bits.
pub(crate) type Modulus3072 = Modulus<{ U3072::LIMBS }>;

/// A modulus with its top bit set, and odd, as every product of two odd primes is.
#[derive(Clone)]
pub(crate) struct Modulus<const LIMBS: usize>(Box<Uint<LIMBS>>);

impl<const LIMBS: usize> Modulus<LIMBS>
where
    Uint<LIMBS>: Encoding,
{
    /// Takes a big-endian modulus of exactly this size; `None` for another size, an even or a small one.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let full = bytes.len() == Uint::<LIMBS>::BYTES;
        let (first, last) = (bytes.first()?, bytes.last()?);
        (full && first & 0x80 != 0 && last & 1 == 1).then(|| Self(Box::new(Uint::from_be_slice(bytes))))
    }

    /// `base ^ 65537` modulo this, big-endian and as long as this. `None` where the base is not below it, or not as long.
    pub(crate) fn power(&self, base: &[u8]) -> Option<Vec<u8>> {
        if base.len() != Uint::<LIMBS>::BYTES {
            return None;
        }
        let base = Zeroizing::new(Uint::<LIMBS>::from_be_slice(base));
        if *base >= *self.0 {
            return None;
        }
        let residue = DynResidue::new(&base, DynResidueParams::new(&self.0));
        let result = residue.pow_bounded_exp(&Uint::<1>::from_u32(EXPONENT), 17);
        Some(result.retrieve().to_be_bytes().as_ref().to_vec())
    }
}

/// XORs `MGF1(seed)` over `data` (RFC 8017, B.2.1).
pub(crate) fn mask(alg: HashAlg, data: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0_u32..).zip(data.chunks_mut(alg.digest_len())) {
        let block = hash::digest(alg, &[seed, &counter.to_be_bytes()]);
        for (octet, mask) in chunk.iter_mut().zip(block.as_ref()) {
            *octet ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(first: u8) -> [u8; 256] {
        let mut bytes = [0x11; 256];
        bytes[0] = first;
        bytes
    }

    #[test]
    fn a_modulus_is_full_and_odd() {
        assert!(Modulus2048::new(&odd(0x80)).is_some());
        assert!(Modulus2048::new(&odd(0x7f)).is_none());
        assert!(Modulus2048::new(&[0x90; 256]).is_none());
        assert!(Modulus2048::new(&odd(0x80)[..255]).is_none());
        assert!(Modulus2048::new(&[]).is_none());
        assert!(Modulus3072::new(&[0x91; 384]).is_some());
    }

    #[test]
    fn bases_are_below_the_modulus_and_as_long() {
        let modulus = Modulus2048::new(&odd(0x80)).unwrap();
        assert!(modulus.power(&odd(0x80)).is_none());
        assert!(modulus.power(&odd(0x81)).is_none());
        assert!(modulus.power(&[1; 255]).is_none());
        let mut one = [0; 256];
        one[255] = 1;
        assert_eq!(modulus.power(&one).unwrap(), one);
        // 2^65537 mod (2^2048 - 1) is 2^(65537 mod 2048), and 65537 is 32 * 2048 + 1.
        let mersenne = Modulus2048::new(&[0xff; 256]).unwrap();
        let mut two = one;
        two[255] = 2;
        assert_eq!(mersenne.power(&two).unwrap(), two);
    }
}
