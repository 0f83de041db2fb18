//! `TPMS_ATTEST` (10.12.12): what a TPM states and signs.
//!
//! Owns: the common head and the three bodies that are of use here. Whether the statement is the right one, is signed
//! and is fresh, is judged by `appraise`.

use super::{
    PcrSelections,
    reader::{MAX_DIGEST, MAX_NAME, ParseError, Reader, put_2b, unsupported},
};

/// `TPM_GENERATED_VALUE` (6.2): a restricted key signs nothing from outside that begins with it.
pub const MAGIC: u32 = 0xff54_4347;

const ST_CERTIFY: u16 = 0x8017;
const ST_QUOTE: u16 = 0x8018;
const ST_CREATION: u16 = 0x801a;

/// `TPMS_CLOCK_INFO` (10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds for which the TPM has been powered; may be set forward, goes back only with TPM2_Clear.
    pub clock: u64,
    /// TPM Resets since the last TPM2_Clear.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last TPM Reset.
    pub restart_count: u32,
    /// Whether no greater `clock` can have been reported before.
    pub safe: bool,
}

/// The body of a statement, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attested<'a> {
    /// `TPMS_QUOTE_INFO`: PCR values.
    Quote {
        /// The PCRs quoted.
        selection: PcrSelections<'a>,
        /// The digest of their values, by the hash of the signing scheme.
        digest: &'a [u8],
    },
    /// `TPMS_CERTIFY_INFO`: an object is loaded in this TPM.
    Certify {
        /// Its Name.
        name: &'a [u8],
        /// Its qualified name.
        qualified_name: &'a [u8],
    },
    /// `TPMS_CREATION_INFO`: an object was made by this TPM.
    Creation {
        /// Its Name.
        name: &'a [u8],
        /// `creationHash`.
        creation_hash: &'a [u8],
    },
}

/// A whole statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attest<'a> {
    /// `qualifiedSigner`: the qualified name of the key that signs.
    pub qualified_signer: &'a [u8],
    /// `extraData`: the qualifying data that the caller of the TPM gave.
    pub extra_data: &'a [u8],
    /// The TPM's clock and counters.
    pub clock: ClockInfo,
    /// The TPM maker's firmware version.
    pub firmware_version: u64,
    /// What is stated.
    pub attested: Attested<'a>,
}

impl<'a> Attest<'a> {
    /// Reads a statement that ends with the bytes.
    ///
    /// # Errors
    /// Another magic, an unknown type or bank, a field of a length that the specification does not allow, bytes missing
    /// or left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let magic = r.u32("magic")?;
        if magic != MAGIC {
            return Err(ParseError::Magic(magic));
        }
        let kind = r.u16("type")?;
        let attest = Self {
            qualified_signer: r.sized("qualifiedSigner", 0, MAX_NAME)?,
            extra_data: r.sized("extraData", 0, MAX_NAME)?,
            clock: ClockInfo {
                clock: r.u64("clock")?,
                reset_count: r.u32("resetCount")?,
                restart_count: r.u32("restartCount")?,
                safe: yes_no(r.u8("safe")?)?,
            },
            firmware_version: r.u64("firmwareVersion")?,
            attested: match kind {
                ST_QUOTE => Attested::Quote {
                    selection: PcrSelections::read(&mut r)?,
                    digest: r.sized("pcrDigest", 0, MAX_DIGEST)?,
                },
                ST_CERTIFY => Attested::Certify {
                    name: r.sized("name", 0, MAX_NAME)?,
                    qualified_name: r.sized("qualifiedName", 0, MAX_NAME)?,
                },
                ST_CREATION => Attested::Creation {
                    name: r.sized("objectName", 0, MAX_NAME)?,
                    creation_hash: r.sized("creationHash", 0, MAX_DIGEST)?,
                },
                other => return Err(unsupported("type", other)),
            },
        };
        r.finish()?;
        Ok(attest)
    }

    /// Marshals the statement: for what parsed, the bytes that it was parsed from.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.attested {
            Attested::Quote { .. } => ST_QUOTE,
            Attested::Certify { .. } => ST_CERTIFY,
            Attested::Creation { .. } => ST_CREATION,
        };
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&kind.to_be_bytes());
        put_2b(&mut out, self.qualified_signer);
        put_2b(&mut out, self.extra_data);
        out.extend_from_slice(&self.clock.clock.to_be_bytes());
        out.extend_from_slice(&self.clock.reset_count.to_be_bytes());
        out.extend_from_slice(&self.clock.restart_count.to_be_bytes());
        out.push(self.clock.safe.into());
        out.extend_from_slice(&self.firmware_version.to_be_bytes());
        match self.attested {
            Attested::Quote { selection, digest } => {
                selection.encode(&mut out);
                put_2b(&mut out, digest);
            }
            Attested::Certify {
                name: first,
                qualified_name: second,
            }
            | Attested::Creation {
                name: first,
                creation_hash: second,
            } => {
                put_2b(&mut out, first);
                put_2b(&mut out, second);
            }
        }
        out
    }
}

/// `TPMI_YES_NO` (9.2): no other value exists.
fn yes_no(value: u8) -> Result<bool, ParseError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unsupported("safe", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(attested: Attested<'_>) -> Vec<u8> {
        Attest {
            qualified_signer: &[1; 34],
            extra_data: &[2; 32],
            clock: ClockInfo {
                clock: 3,
                reset_count: 4,
                restart_count: 5,
                safe: true,
            },
            firmware_version: 6,
            attested,
        }
        .encode()
    }

    fn quote() -> Vec<u8> {
        let list = [0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0, 0];
        statement(Attested::Quote {
            selection: PcrSelections::parse(&list).unwrap(),
            digest: &[7; 32],
        })
    }

    /// Offset of `safe`: magic, type, two TPM2Bs, clock and two counters before it.
    const SAFE: usize = 4 + 2 + 36 + 34 + 8 + 4 + 4;

    #[test]
    fn every_kind_round_trips() {
        let certify = statement(Attested::Certify {
            name: &[8; 34],
            qualified_name: &[9; 34],
        });
        let creation = statement(Attested::Creation {
            name: &[8; 34],
            creation_hash: &[9; 32],
        });
        for bytes in [quote(), certify, creation] {
            assert_eq!(Attest::parse(&bytes).unwrap().encode(), bytes);
        }
    }

    #[test]
    fn only_what_a_tpm_made_is_read() {
        let mut bytes = quote();
        bytes[0] = 0xfe;
        assert_eq!(Attest::parse(&bytes), Err(ParseError::Magic(0xfe54_4347)));
    }

    #[test]
    fn other_types_are_unsupported() {
        for kind in [0x8014_u16, 0x8016, 0x8019, 0x801c, 0] {
            let mut bytes = quote();
            bytes[4..6].copy_from_slice(&kind.to_be_bytes());
            let found = Attest::parse(&bytes);
            assert_eq!(found, Err(unsupported("type", kind)));
        }
    }

    #[test]
    fn safe_is_yes_or_no() {
        let mut bytes = quote();
        assert_eq!(bytes[SAFE], 1);
        bytes[SAFE] = 2;
        assert_eq!(Attest::parse(&bytes), Err(unsupported("safe", 2_u8)));
    }

    #[test]
    fn lengths_are_bounded() {
        let mut bytes = quote();
        bytes[6..8].copy_from_slice(&67_u16.to_be_bytes());
        let found = Attest::parse(&bytes);
        assert!(matches!(
            found,
            Err(ParseError::Length {
                field: "qualifiedSigner",
                len: 67,
                ..
            })
        ));
    }

    #[test]
    fn every_truncation_and_any_tail_is_refused() {
        let bytes = quote();
        for len in 0..bytes.len() {
            assert!(Attest::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Attest::parse(&longer), Err(ParseError::Trailing { count: 1 }));
    }
}
