//! Eight bytes of a text at once, in one machine word.
//!
//! Owns: the marks that say which of the eight a reader stops at. Without vector instructions, which need unsafe code or a call; for what
//! is mostly short that is no slower. Pure.

/// A word whose bytes are all 1.
pub(crate) const ONES: u64 = u64::MAX / 255;
/// The highest bit of every byte.
pub(crate) const TOPS: u64 = ONES << 7;

/// Eight bytes as a word, the first of them lowest.
pub(crate) const fn word(eight: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*eight)
}

/// Marks each byte that is less than `bound`, which is at most 128. A borrow can mark bytes above a byte that is marked rightly, never
/// the first one.
pub(crate) const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES.wrapping_mul(bound as u64)) & !word & TOPS
}

/// Marks each byte that is `byte`; more above the first one, as [`below`].
pub(crate) const fn is(word: u64, byte: u8) -> u64 {
    below(word ^ ONES.wrapping_mul(byte as u64), 1)
}

/// Marks each byte that is a capital letter or no ASCII, and no other.
pub(crate) const fn foldable(word: u64) -> u64 {
    // Of seven bits each, so that no sum reaches the next byte.
    let low = word & !TOPS;
    let from_a = low.wrapping_add(ONES.wrapping_mul(128 - b'A' as u64));
    let beyond_z = low.wrapping_add(ONES.wrapping_mul(127 - b'Z' as u64));
    ((from_a & !beyond_z) | word) & TOPS
}

/// How many bytes are before the first mark; 8 without one.
pub(crate) fn first(marks: u64) -> usize {
    usize::try_from(marks.trailing_zeros() / 8).unwrap_or_default()
}

/// The marks below the first one of `others`.
pub(crate) const fn before(marks: u64, others: u64) -> u64 {
    marks & (others & others.wrapping_neg()).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place, among bytes that are next to what is looked for.
    fn each(mut see: impl FnMut(&[u8; 8])) {
        for byte in 0..=255 {
            for other in [
                0, 31, 32, b'!', b'"', b'#', b'@', b'A', b'Z', b'[', b'a', 127, 128, 255,
            ] {
                for place in 0..8 {
                    let mut eight = [other; 8];
                    eight[place] = byte;
                    see(&eight);
                }
            }
        }
    }

    #[test]
    fn the_first_mark_is_right() {
        let expected =
            |eight: &[u8; 8], is: &dyn Fn(u8) -> bool| eight.iter().position(|b| is(*b)).unwrap_or(8);
        each(|eight| {
            let seen = word(eight);
            for bound in [1, 32, 128] {
                assert_eq!(
                    first(below(seen, bound)),
                    expected(eight, &|b| b < bound),
                    "{eight:?}"
                );
            }
            for byte in [0, b'"', 127, 128, 255] {
                assert_eq!(
                    first(is(seen, byte)),
                    expected(eight, &|b| b == byte),
                    "{eight:?}"
                );
            }
            let both = below(seen, 32) | is(seen, b'"');
            assert_eq!(
                first(both),
                expected(eight, &|b| b < 32 || b == b'"'),
                "{eight:?}"
            );
        });
    }

    #[test]
    fn every_foldable_byte_is_marked_and_no_other() {
        each(|eight| {
            let marks = foldable(word(eight)).to_le_bytes();
            for (byte, mark) in eight.iter().zip(marks) {
                assert_eq!(
                    mark != 0,
                    byte.is_ascii_uppercase() || !byte.is_ascii(),
                    "{eight:?}"
                );
            }
        });
        let (marks, others) = (foldable(word(b"a_B\"CCCC")), is(word(b"a_B\"CCCC"), b'"'));
        assert_eq!(first(before(marks, others)), 2);
        assert_eq!(before(marks, is(word(b"aB______"), b'a')), 0);
        assert_eq!(before(marks, 0), marks);
    }
}
