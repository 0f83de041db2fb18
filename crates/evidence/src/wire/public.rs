//! `TPMT_PUBLIC` (12.2.4): the public area of a key.
//!
//! Owns: the shape of RSA and ECC keys with the schemes that an attestation key or an endorsement key has. Whether
//! the attributes suit a purpose is judged by `ak` and `ek`.

use std::fmt;

use domain::HashAlg;

use super::{
    reader::{MAX_DIGEST, ParseError, Reader, put_2b, unsupported},
    signature::{MAX_ECC, MAX_RSA, Scheme, SignatureAlg},
};

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;

/// `TPMA_OBJECT` (8.3): the attributes of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The object can never leave its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// The object is gone with the next TPM Reset.
    pub const ST_CLEAR: Self = Self(1 << 2);
    /// The object can never have another parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the private part itself.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// The user role may be authorised with the object's password.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// The admin role wants the object's policy.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// Wrong passwords do not count for the dictionary attack lockout.
    pub const NO_DA: Self = Self(1 << 10);
    /// The object may be duplicated only with an inner wrapper.
    pub const ENCRYPTED_DUPLICATION: Self = Self(1 << 11);
    /// The key signs or decrypts only what the TPM formed.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// The key may decrypt.
    pub const DECRYPT: Self = Self(1 << 17);
    /// The key may sign.
    pub const SIGN: Self = Self(1 << 18);

    /// Whether all bits of `wanted` are set.
    #[must_use]
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// The bits that have no name here: reserved ones, and `x509sign`, which no key of ours needs.
    #[must_use]
    pub const fn unnamed(self) -> u32 {
        let mut named = 0;
        let mut rest: &[(Self, &str)] = NAMES;
        while let [(bit, _), tail @ ..] = rest {
            named |= bit.0;
            rest = tail;
        }
        self.0 & !named
    }
}

const NAMES: &[(Attributes, &str)] = &[
    (Attributes::FIXED_TPM, "fixedTPM"),
    (Attributes::ST_CLEAR, "stClear"),
    (Attributes::FIXED_PARENT, "fixedParent"),
    (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (Attributes::USER_WITH_AUTH, "userWithAuth"),
    (Attributes::ADMIN_WITH_POLICY, "adminWithPolicy"),
    (Attributes::NO_DA, "noDA"),
    (Attributes::ENCRYPTED_DUPLICATION, "encryptedDuplication"),
    (Attributes::RESTRICTED, "restricted"),
    (Attributes::DECRYPT, "decrypt"),
    (Attributes::SIGN, "sign"),
];

/// `fixedTPM|sign|0x80000`: names, then what has no name.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bar = "";
        for (_, name) in NAMES.iter().filter(|(bit, _)| self.has(*bit)) {
            write!(f, "{bar}{name}")?;
            bar = "|";
        }
        match self.unnamed() {
            0 if bar.is_empty() => f.write_str("none"),
            0 => Ok(()),
            bits => write!(f, "{bar}{bits:#x}"),
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({self})")
    }
}

/// `TPMT_SYM_DEF_OBJECT` (11.1.7): how a storage key protects its children. Signing keys have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symmetric {
    /// None: not a storage key.
    Null,
    /// AES in CFB mode.
    AesCfb {
        /// Key length in bits.
        key_bits: u16,
    },
}

/// `TPMI_ECC_CURVE` (11.2.5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    /// `TPM_ECC_CURVE`.
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::P256 => 0x0003,
            Self::P384 => 0x0004,
        }
    }

    /// Length of a coordinate in bytes.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// `TPMU_PUBLIC_PARMS` and `TPMU_PUBLIC_ID`: what depends on the key's type. A scheme of `None` is `TPM_ALG_NULL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameters<'a> {
    /// An RSA key.
    Rsa {
        /// For storage keys.
        symmetric: Symmetric,
        /// Never ECDSA.
        scheme: Option<Scheme>,
        /// Length of the modulus in bits.
        key_bits: u16,
        /// Public exponent; 0 stands for 65537.
        exponent: u32,
        /// Big-endian.
        modulus: &'a [u8],
    },
    /// A key on a curve; its KDF is `TPM_ALG_NULL`.
    Ecc {
        /// For storage keys.
        symmetric: Symmetric,
        /// Never an RSA scheme.
        scheme: Option<Scheme>,
        /// The curve.
        curve: Curve,
        /// Big-endian.
        x: &'a [u8],
        /// Big-endian.
        y: &'a [u8],
    },
}

/// A whole public area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Public<'a> {
    /// `nameAlg`: the hash of the Name and of what the key protects.
    pub name_alg: HashAlg,
    /// `objectAttributes`.
    pub attributes: Attributes,
    /// `authPolicy`; empty where there is no policy.
    pub auth_policy: &'a [u8],
    /// The rest.
    pub parameters: Parameters<'a>,
}

impl<'a> Public<'a> {
    /// Reads a public area that ends with the bytes.
    ///
    /// # Errors
    /// Neither RSA nor ECC, an unknown scheme, hash, curve or cipher, a policy digest of another length than `nameAlg`'s,
    /// an oversize number, bytes missing or left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let kind = r.u16("type")?;
        let name_alg = r.hash("nameAlg")?;
        let attributes = Attributes(r.u32("objectAttributes")?);
        let auth_policy = r.sized("authPolicy", 0, MAX_DIGEST)?;
        if !auth_policy.is_empty() && auth_policy.len() != name_alg.digest_len() {
            return Err(ParseError::Length {
                field: "authPolicy",
                len: auth_policy.len(),
                min: name_alg.digest_len(),
                max: name_alg.digest_len(),
            });
        }
        let parameters = match kind {
            ALG_RSA => Parameters::Rsa {
                symmetric: symmetric(&mut r)?,
                scheme: scheme(&mut r, &[SignatureAlg::Rsassa, SignatureAlg::Rsapss])?,
                key_bits: r.u16("keyBits")?,
                exponent: r.u32("exponent")?,
                modulus: r.sized("unique.rsa", 0, MAX_RSA)?,
            },
            ALG_ECC => Parameters::Ecc {
                symmetric: symmetric(&mut r)?,
                scheme: scheme(&mut r, &[SignatureAlg::Ecdsa])?,
                curve: curve(&mut r)?,
                x: r.sized("unique.ecc.x", 0, MAX_ECC)?,
                y: r.sized("unique.ecc.y", 0, MAX_ECC)?,
            },
            other => return Err(unsupported("type", other)),
        };
        r.finish()?;
        Ok(Self {
            name_alg,
            attributes,
            auth_policy,
            parameters,
        })
    }

    /// Marshals the public area: for what parsed, the bytes that it was parsed from.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, symmetric, scheme) = match self.parameters {
            Parameters::Rsa {
                symmetric, scheme, ..
            } => (ALG_RSA, symmetric, scheme),
            Parameters::Ecc {
                symmetric, scheme, ..
            } => (ALG_ECC, symmetric, scheme),
        };
        let mut out = kind.to_be_bytes().to_vec();
        out.extend_from_slice(&self.name_alg.tpm_id().to_be_bytes());
        out.extend_from_slice(&self.attributes.0.to_be_bytes());
        put_2b(&mut out, self.auth_policy);
        match symmetric {
            Symmetric::Null => put_all(&mut out, &[ALG_NULL]),
            Symmetric::AesCfb { key_bits } => put_all(&mut out, &[ALG_AES, key_bits, ALG_CFB]),
        }
        match scheme {
            None => put_all(&mut out, &[ALG_NULL]),
            Some(scheme) => put_all(&mut out, &[scheme.alg.tpm_id(), scheme.hash.tpm_id()]),
        }
        match self.parameters {
            Parameters::Rsa {
                key_bits,
                exponent,
                modulus,
                ..
            } => {
                put_all(&mut out, &[key_bits]);
                out.extend_from_slice(&exponent.to_be_bytes());
                put_2b(&mut out, modulus);
            }
            Parameters::Ecc { curve, x, y, .. } => {
                put_all(&mut out, &[curve.tpm_id(), ALG_NULL]);
                put_2b(&mut out, x);
                put_2b(&mut out, y);
            }
        }
        out
    }
}

fn put_all(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn symmetric(r: &mut Reader<'_>) -> Result<Symmetric, ParseError> {
    match r.u16("symmetric")? {
        ALG_NULL => Ok(Symmetric::Null),
        ALG_AES => {
            let key_bits = r.u16("symmetric.keyBits")?;
            match r.u16("symmetric.mode")? {
                ALG_CFB => Ok(Symmetric::AesCfb { key_bits }),
                mode => Err(unsupported("symmetric.mode", mode)),
            }
        }
        other => Err(unsupported("symmetric", other)),
    }
}

fn scheme(r: &mut Reader<'_>, allowed: &[SignatureAlg]) -> Result<Option<Scheme>, ParseError> {
    let id = r.u16("scheme")?;
    if id == ALG_NULL {
        return Ok(None);
    }
    let alg = SignatureAlg::from_tpm_id(id)
        .filter(|alg| allowed.contains(alg))
        .ok_or(unsupported("scheme", id))?;
    let hash = r.hash("scheme.hashAlg")?;
    Ok(Some(Scheme { alg, hash }))
}

/// The curve, and the KDF after it, which only key exchange keys of other makers have.
fn curve(r: &mut Reader<'_>) -> Result<Curve, ParseError> {
    let curve = match r.u16("curveID")? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => return Err(unsupported("curveID", other)),
    };
    match r.u16("kdf")? {
        ALG_NULL => Ok(curve),
        other => Err(unsupported("kdf", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(scheme: Option<Scheme>) -> Public<'static> {
        Public {
            name_alg: HashAlg::Sha256,
            attributes: Attributes(0x0005_0072),
            auth_policy: &[],
            parameters: Parameters::Rsa {
                symmetric: Symmetric::Null,
                scheme,
                key_bits: 2048,
                exponent: 0,
                modulus: &[0xaa; 256],
            },
        }
    }

    fn ecc() -> Public<'static> {
        Public {
            name_alg: HashAlg::Sha256,
            attributes: Attributes(0x0003_00b2),
            auth_policy: &[7; 32],
            parameters: Parameters::Ecc {
                symmetric: Symmetric::AesCfb { key_bits: 128 },
                scheme: None,
                curve: Curve::P256,
                x: &[1; 32],
                y: &[2; 32],
            },
        }
    }

    #[test]
    fn keys_of_both_types_round_trip() {
        let pss = Scheme {
            alg: SignatureAlg::Rsapss,
            hash: HashAlg::Sha384,
        };
        for public in [rsa(None), rsa(Some(pss)), ecc()] {
            let bytes = public.encode();
            assert_eq!(Public::parse(&bytes), Ok(public));
            assert_eq!(Public::parse(&bytes).unwrap().encode(), bytes);
        }
    }

    #[test]
    fn a_scheme_of_the_other_type_is_refused() {
        let ecdsa = Scheme {
            alg: SignatureAlg::Ecdsa,
            hash: HashAlg::Sha256,
        };
        let bytes = rsa(Some(ecdsa)).encode();
        assert_eq!(Public::parse(&bytes), Err(unsupported("scheme", 0x18_u16)));
    }

    /// Offsets within the ECC area above: type 0, nameAlg 2, attributes 4, policy 8, symmetric 42, its bits 44, mode 46,
    /// scheme 48, curve 50, kdf 52, x 54.
    #[test]
    fn unknown_identifiers_are_refused() {
        for (at, field, value) in [
            (0, "type", 0x0008_u16),
            (2, "nameAlg", 0x000d),
            (42, "symmetric", 0x0013),
            (46, "symmetric.mode", 0x0042),
            (48, "scheme", 0x001a),
            (50, "curveID", 0x0005),
            (52, "kdf", 0x0020),
        ] {
            let mut bytes = ecc().encode();
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            assert_eq!(Public::parse(&bytes), Err(unsupported(field, value)));
        }
    }

    #[test]
    fn a_policy_has_the_length_of_its_hash() {
        let mut public = ecc();
        public.auth_policy = &[7; 20];
        assert!(matches!(
            Public::parse(&public.encode()),
            Err(ParseError::Length {
                field: "authPolicy",
                len: 20,
                ..
            })
        ));
    }

    #[test]
    fn every_truncation_and_any_tail_is_refused() {
        for bytes in [ecc().encode(), rsa(None).encode()] {
            for len in 0..bytes.len() {
                assert!(Public::parse(&bytes[..len]).is_err(), "{len} bytes");
            }
            let mut longer = bytes;
            longer.push(0);
            assert_eq!(Public::parse(&longer), Err(ParseError::Trailing { count: 1 }));
        }
    }

    #[test]
    fn attributes_print_by_name() {
        assert_eq!(
            Attributes(0x0005_0072).to_string(),
            "fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|restricted|sign"
        );
        assert_eq!(Attributes(1 << 19 | 2).to_string(), "fixedTPM|0x80000");
        assert_eq!(Attributes(0).to_string(), "none");
    }
}
