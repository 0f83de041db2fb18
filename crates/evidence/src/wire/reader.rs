//! The cursor that every parser of `wire` reads with, and the one error that they share.
//!
//! Owns: bounds. A read past the end, a `TPM2B` longer than its type allows and bytes after the end are errors that
//! name the field, as the specification spells it.

use domain::HashAlg;

/// `sizeof(TPMU_HA)`: the longest digest that a TPM knows, SHA-512.
pub(crate) const MAX_DIGEST: usize = 64;
/// A Name or `TPM2B_DATA`: a hash identifier and the longest digest.
pub(crate) const MAX_NAME: usize = 2 + MAX_DIGEST;

/// Why bytes are not the structure that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes end inside a field.
    #[error("the bytes end inside {field}")]
    Truncated {
        /// The field, as the specification spells it.
        field: &'static str,
    },
    /// Bytes follow the end of the structure.
    #[error("{count} bytes follow the end of the structure")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A length that the specification does not allow.
    #[error("{field} has {len} bytes, {min} to {max} are allowed")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The least length in bytes.
        min: usize,
        /// The greatest length in bytes.
        max: usize,
    },
    /// A value that is not known here, or that the specification does not allow.
    #[error("{field} is {value:#06x}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The structure was not made by a TPM: `magic` is not `TPM_GENERATED_VALUE`.
    #[error("magic is {0:#010x}, so this was not made inside a TPM")]
    Magic(u32),
}

/// Reads big-endian fields from the front of borrowed bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(ParseError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ParseError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, ParseError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A `TPM2B`: a 16-bit size, then that many bytes.
    pub(super) fn sized(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<&'a [u8], ParseError> {
        let len = usize::from(self.u16(field)?);
        if len < min || len > max {
            return Err(ParseError::Length { field, len, min, max });
        }
        self.take(field, len)
    }

    /// A `TPMI_ALG_HASH` that is one of ours.
    pub(super) fn hash(&mut self, field: &'static str) -> Result<HashAlg, ParseError> {
        let id = self.u16(field)?;
        HashAlg::from_tpm_id(id).ok_or(unsupported(field, id))
    }

    /// Ends the structure.
    pub(super) const fn finish(self) -> Result<(), ParseError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(ParseError::Trailing { count }),
        }
    }
}

pub(super) fn unsupported(field: &'static str, value: impl Into<u32>) -> ParseError {
    ParseError::Unsupported {
        field,
        value: value.into(),
    }
}

/// Appends a `TPM2B`. Every caller bounds its bytes far below 64 KiB; a longer one would be written empty and so never
/// be taken for what it is not.
pub(crate) fn put_2b(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(len) = u16::try_from(bytes.len()) {
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes);
    } else {
        out.extend_from_slice(&[0, 0]);
    }
}
