//! `TPMT_SIGNATURE` (11.3.4): a scheme and what it made.
//!
//! Owns: which signature schemes exist here (RSASSA, RSAPSS, ECDSA, each with a hash). Whether a signature is good is
//! `ak`'s business.

use std::fmt;

use domain::HashAlg;

use super::reader::{ParseError, Reader, put_2b, unsupported};

/// `MAX_RSA_KEY_BYTES` for RSA-4096.
pub(super) const MAX_RSA: usize = 512;
/// `MAX_ECC_KEY_BYTES` for P-521.
pub(super) const MAX_ECC: usize = 66;

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlg {
    /// RSASSA-PKCS1-v1_5.
    Rsassa,
    /// RSASSA-PSS.
    Rsapss,
    /// ECDSA.
    Ecdsa,
}

impl SignatureAlg {
    /// `TPM_ALG_ID`.
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Rsassa => 0x0014,
            Self::Rsapss => 0x0016,
            Self::Ecdsa => 0x0018,
        }
    }

    pub(super) const fn from_tpm_id(id: u16) -> Option<Self> {
        match id {
            0x0014 => Some(Self::Rsassa),
            0x0016 => Some(Self::Rsapss),
            0x0018 => Some(Self::Ecdsa),
            _ => None,
        }
    }
}

/// A signature algorithm with its hash: `TPMT_SIG_SCHEME` without the null scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// The algorithm.
    pub alg: SignatureAlg,
    /// The hash that is signed; `pcrDigest` of a quote uses it too.
    pub hash: HashAlg,
}

/// `ECDSA with sha256`.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alg = match self.alg {
            SignatureAlg::Rsassa => "RSASSA",
            SignatureAlg::Rsapss => "RSAPSS",
            SignatureAlg::Ecdsa => "ECDSA",
        };
        write!(f, "{alg} with {}", self.hash)
    }
}

/// A signature as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature<'a> {
    /// RSASSA or RSAPSS.
    Rsa {
        /// Which of the two, and its hash. Never ECDSA.
        scheme: Scheme,
        /// The signature, as long as the modulus.
        bytes: &'a [u8],
    },
    /// ECDSA.
    Ecdsa {
        /// The hash.
        hash: HashAlg,
        /// `signatureR`; a TPM may drop leading zero octets.
        r: &'a [u8],
        /// `signatureS`.
        s: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads a signature that ends with the bytes.
    ///
    /// # Errors
    /// An unknown scheme or hash, an empty or oversize number, bytes missing or left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let id = r.u16("sigAlg")?;
        let alg = SignatureAlg::from_tpm_id(id).ok_or(unsupported("sigAlg", id))?;
        let hash = r.hash("signature.hash")?;
        let signature = match alg {
            SignatureAlg::Rsassa | SignatureAlg::Rsapss => Self::Rsa {
                scheme: Scheme { alg, hash },
                bytes: r.sized("signature.sig", 1, MAX_RSA)?,
            },
            SignatureAlg::Ecdsa => Self::Ecdsa {
                hash,
                r: r.sized("signatureR", 1, MAX_ECC)?,
                s: r.sized("signatureS", 1, MAX_ECC)?,
            },
        };
        r.finish()?;
        Ok(signature)
    }

    /// The scheme that the signature claims.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match *self {
            Self::Rsa { scheme, .. } => scheme,
            Self::Ecdsa { hash, .. } => Scheme {
                alg: SignatureAlg::Ecdsa,
                hash,
            },
        }
    }

    /// Marshals the signature: for what parsed, the bytes that it was parsed from.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Scheme { alg, hash } = self.scheme();
        let mut out = alg.tpm_id().to_be_bytes().to_vec();
        out.extend_from_slice(&hash.tpm_id().to_be_bytes());
        match *self {
            Self::Rsa { bytes, .. } => put_2b(&mut out, bytes),
            Self::Ecdsa { r, s, .. } => {
                put_2b(&mut out, r);
                put_2b(&mut out, s);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECDSA: [u8; 10] = [0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6];

    #[test]
    fn both_shapes_round_trip() {
        let rsa = [0, 0x16, 0, 0x0c, 0, 3, 1, 2, 3];
        for bytes in [&rsa[..], &ECDSA] {
            assert_eq!(Signature::parse(bytes).unwrap().encode(), bytes);
        }
        assert_eq!(
            Signature::parse(&rsa).unwrap().scheme().to_string(),
            "RSAPSS with sha384"
        );
    }

    #[test]
    fn unknown_schemes_and_hashes_are_refused() {
        // HMAC, ECDAA, SM2, null.
        for id in [0x05_u8, 0x1a, 0x1b, 0x10] {
            let mut bytes = ECDSA;
            bytes[1] = id;
            assert_eq!(Signature::parse(&bytes), Err(unsupported("sigAlg", id)));
        }
        let mut bytes = ECDSA;
        bytes[3] = 0x10;
        assert_eq!(
            Signature::parse(&bytes),
            Err(unsupported("signature.hash", 0x10_u8))
        );
    }

    #[test]
    fn empty_and_oversize_numbers_are_refused() {
        let empty = [0, 0x18, 0, 0x0b, 0, 0, 0, 1, 6];
        assert!(matches!(
            Signature::parse(&empty),
            Err(ParseError::Length { len: 0, .. })
        ));
        let mut long = vec![0, 0x14, 0, 0x0b, 2, 1];
        long.extend([1; 513]);
        assert!(matches!(
            Signature::parse(&long),
            Err(ParseError::Length { len: 513, .. })
        ));
    }

    #[test]
    fn every_truncation_and_any_tail_is_refused() {
        for len in 0..ECDSA.len() {
            assert!(Signature::parse(&ECDSA[..len]).is_err(), "{len} bytes");
        }
        let mut longer = ECDSA.to_vec();
        longer.push(0);
        assert_eq!(Signature::parse(&longer), Err(ParseError::Trailing { count: 1 }));
    }
}
