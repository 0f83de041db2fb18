//! Length-prefixed fields: how everything that is hashed, signed or sealed is put together.
//!
//! Owns: `lp(x)`, a 4-byte big-endian length and then x, so that no two lists of fields give the same bytes.
//! Callers are the other modules of this crate; an attacker controls some fields, and their lengths with them.

/// A field is longer than its 4-byte length can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field is longer than 4 GiB")]
pub struct TooLong;

/// Appends `lp(field)` to `out`.
///
/// # Errors
/// A field of 4 GiB or more.
pub fn lp(out: &mut Vec<u8>, field: &[u8]) -> Result<(), TooLong> {
    let len = u32::try_from(field.len()).map_err(|_| TooLong)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

/// Where fields are written to: a buffer, a hash or a MAC.
pub(crate) trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Takes `lp(field)`. No caller reaches a field of 4 GiB, whose length would not fit: each is bounded long before.
    fn put_lp(&mut self, field: &[u8]) {
        let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.put(&len.to_be_bytes());
        self.put(field);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for ring::digest::Context {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for ring::hmac::Context {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Reads what a [`Sink`] was given, field by field; every read is checked against what is left.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes; `None` when fewer are left.
    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next `lp` field; `None` when its length says more than is left.
    pub fn field(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(u32::from_be_bytes(self.fixed()?)).ok()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_its_length_and_itself() {
        let mut out = Vec::new();
        lp(&mut out, b"abc").unwrap();
        lp(&mut out, b"").unwrap();
        assert_eq!(out, b"\0\0\0\x03abc\0\0\0\0");
    }

    #[test]
    fn reading_stops_where_the_bytes_stop() {
        assert_eq!(Fields::new(b"\0\0\0\x04abc").field(), None);
        assert_eq!(Fields::new(b"\xff\xff\xff\xffabc").field(), None);
        assert_eq!(Fields::new(b"\0\0").field(), None);
        assert_eq!(Fields::new(b"\0").fixed::<2>(), None);
    }

    proptest! {
        #[test]
        fn fields_round_trip(list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut out = Vec::new();
            for field in &list {
                out.put_lp(field);
            }
            let mut fields = Fields::new(&out);
            for field in &list {
                prop_assert_eq!(fields.field(), Some(field.as_slice()));
            }
            prop_assert!(fields.is_done());
        }

        #[test]
        fn two_lists_never_give_the_same_bytes(
            a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..4),
            b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..4),
        ) {
            let bytes = |list: &[Vec<u8>]| {
                let mut out = Vec::new();
                for field in list {
                    out.put_lp(field);
                }
                out
            };
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }
    }
}
