//! Whether 32 bytes are a private key of P-256: 0 < d < n (SEC 1, 3.2.1).
//!
//! Owns: the check, without a branch that depends on the key.

/// The order of the curve (SEC 2, 2.4.2), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// Usable.
    Valid,
    /// Zero: a key that was never programmed reads so.
    Zero,
    /// The order of the curve, or more.
    TooLarge,
}

/// Judges a big-endian number.
pub(crate) fn judge(key: &[u8; 32]) -> Scalar {
    let any = key.iter().fold(0, |any, byte| any | byte);
    // Schoolbook subtraction key - ORDER: it borrows at the end exactly where the key is smaller.
    let borrow = key.iter().zip(&ORDER).rev().fold(0, |borrow, (a, b)| {
        let difference = i16::from(*a) - i16::from(*b) - borrow;
        difference >> 8 & 1
    });
    match (any, borrow) {
        (0, _) => Scalar::Zero,
        (_, 1) => Scalar::Valid,
        _ => Scalar::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_are_where_they_should_be() {
        let mut one = [0; 32];
        one[31] = 1;
        let mut below = ORDER;
        below[31] -= 1;
        let mut above = ORDER;
        above[31] += 1;
        assert_eq!(judge(&[0; 32]), Scalar::Zero);
        assert_eq!(judge(&one), Scalar::Valid);
        assert_eq!(judge(&below), Scalar::Valid);
        assert_eq!(judge(&ORDER), Scalar::TooLarge);
        assert_eq!(judge(&above), Scalar::TooLarge);
        assert_eq!(judge(&[0xff; 32]), Scalar::TooLarge);
    }

    proptest! {
        #[test]
        fn it_is_comparison(mut key: [u8; 32], shared in 0_usize..=32) {
            key[..shared].copy_from_slice(&ORDER[..shared]);
            prop_assert_eq!(judge(&key) == Scalar::Valid, key < ORDER && key != [0; 32]);
        }
    }
}
