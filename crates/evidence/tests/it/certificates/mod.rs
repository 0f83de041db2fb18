//! A certificate workshop for the tests: certificates byte by byte, signed with P-256 by ring, so that each can be
//! spoilt, or written as some maker writes it, before it is signed; and certificates by the openssl command line.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod openssl;

use domain::UnixTime;
use evidence::certificate::{ChainBreak, ChainError, EkCertificate, Roots, verify_ek_certificate};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

/// 2026-01-01T00:00:00Z, when every certificate of the workshop holds.
pub const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);
pub const ECDSA_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
pub const EC_P256: [u8; 21] = [
    0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
];
pub const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
pub const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
pub const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
pub const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
pub const NAME_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x1e];
pub const AUTHORITY_INFO_ACCESS: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 1, 1];
/// tcg-kp-EKCertificate.
pub const EK_PURPOSE: [u8; 7] = [6, 5, 0x67, 0x81, 5, 8, 1];
/// id-kp-serverAuth.
pub const SERVER_PURPOSE: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];

/// One DER element of these parts.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = content.len();
    let head = match len {
        0..0x80 => vec![tag, u8::try_from(len).unwrap()],
        0x80..0x100 => vec![tag, 0x81, u8::try_from(len).unwrap()],
        _ => {
            let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    [head, content].concat()
}

/// The same element with a length longer than it needs, as BER allows.
pub fn long_form(element: &[u8]) -> Vec<u8> {
    let (header, len) = match element[1] {
        0x82 => (4, usize::from(u16::from_be_bytes([element[2], element[3]]))),
        0x81 => (3, usize::from(element[2])),
        short => (2, usize::from(short)),
    };
    assert_eq!(element.len(), header + len, "one element");
    let len = u32::try_from(len).unwrap().to_be_bytes();
    [&[element[0], 0x84], &len[..], &element[header..]].concat()
}

pub fn attribute(oid: &[u8], tag: u8, value: &str) -> Vec<u8> {
    tlv(0x30, &[&tlv(6, &[oid]), &tlv(tag, &[value.as_bytes()])])
}

/// A name of one common name.
pub fn cn(text: &str) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x31, &[&attribute(&[0x55, 4, 3], 0x0c, text)])])
}

/// `critical` is the byte of the BOOLEAN, if there is one.
pub fn extension(oid: &[u8], critical: Option<u8>, value: &[u8]) -> Vec<u8> {
    let critical = critical.map(|byte| tlv(1, &[&[byte]])).unwrap_or_default();
    tlv(0x30, &[&tlv(6, &[oid]), &critical, &tlv(4, &[value])])
}

/// The directory name of an EK certificate, each attribute in a relative name of its own.
pub fn tpm_name(maker: &str, model: &str, version: &str) -> Vec<u8> {
    let rdn = |last: u8, value: &str| tlv(0x31, &[&attribute(&[0x67, 0x81, 5, 2, last], 0x0c, value)]);
    alt_name(&[rdn(1, maker), rdn(2, model), rdn(3, version)].concat())
}

/// A subjectAltName of one directory name with these relative names.
pub fn alt_name(rdns: &[u8]) -> Vec<u8> {
    let name = tlv(0xa4, &[&tlv(0x30, &[rdns])]);
    extension(&SUBJECT_ALT_NAME, Some(0xff), &tlv(0x30, &[&name]))
}

pub fn ca_constraints(path_len: Option<u8>) -> Vec<u8> {
    let path_len = path_len.map(|len| tlv(2, &[&[len]])).unwrap_or_default();
    extension(
        &BASIC_CONSTRAINTS,
        Some(0xff),
        &tlv(0x30, &[&[1, 1, 0xff], &path_len]),
    )
}

pub fn leaf_constraints() -> Vec<u8> {
    extension(&BASIC_CONSTRAINTS, Some(0xff), &[0x30, 0])
}

pub fn key_usage(bits: u8) -> Vec<u8> {
    extension(&KEY_USAGE, Some(0xff), &[3, 2, 0, bits])
}

pub const CERT_SIGN: u8 = 0x04;
pub const KEY_AGREEMENT: u8 = 0x08;

pub fn purpose(oid_element: &[u8]) -> Vec<u8> {
    extension(&EXTENDED_KEY_USAGE, None, &tlv(0x30, &[oid_element]))
}

pub struct Signer {
    pair: EcdsaKeyPair,
    pub spki: Vec<u8>,
}

impl Signer {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let spki = tlv(0x30, &[&EC_P256, &tlv(3, &[&[0], pair.public_key().as_ref()])]);
        Self { pair, spki }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    }
}

/// A certificate before it is signed: every part is the DER that it will have.
#[derive(Clone)]
pub struct Draft {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

impl Draft {
    pub fn new(issuer: &[u8], subject: &[u8], spki: &[u8], extensions: Vec<Vec<u8>>) -> Self {
        Self {
            version: tlv(0xa0, &[&[2, 1, 2]]),
            serial: vec![2, 1, 7],
            algorithm: ECDSA_SHA256.to_vec(),
            issuer: issuer.to_vec(),
            not_before: tlv(0x17, &[b"250101000000Z"]),
            not_after: tlv(0x17, &[b"350101000000Z"]),
            subject: subject.to_vec(),
            spki: spki.to_vec(),
            extensions,
        }
    }

    pub fn tbs(&self) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let extensions = tlv(0xa3, &[&tlv(0x30, &parts)]);
        let validity = tlv(0x30, &[&self.not_before, &self.not_after]);
        tlv(
            0x30,
            &[
                &self.version,
                &self.serial,
                &self.algorithm,
                &self.issuer,
                &validity,
                &self.subject,
                &self.spki,
                if self.extensions.is_empty() {
                    &[]
                } else {
                    &extensions
                },
            ],
        )
    }

    pub fn signed(&self, by: &Signer) -> Vec<u8> {
        let tbs = self.tbs();
        assemble(&tbs, &self.algorithm, &by.sign(&tbs))
    }
}

pub fn assemble(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tbs, algorithm, &tlv(3, &[&[0], signature])])
}

/// Root, intermediate and EK certificate, all good.
pub struct House {
    pub root: Signer,
    pub ca: Signer,
    pub ek: Signer,
}

impl House {
    pub fn new() -> Self {
        Self {
            root: Signer::new(),
            ca: Signer::new(),
            ek: Signer::new(),
        }
    }

    pub fn root_draft(&self) -> Draft {
        let extensions = vec![ca_constraints(None), key_usage(CERT_SIGN)];
        Draft::new(&cn("Root CA"), &cn("Root CA"), &self.root.spki, extensions)
    }

    pub fn ca_draft(&self) -> Draft {
        let extensions = vec![ca_constraints(Some(0)), key_usage(CERT_SIGN)];
        Draft::new(&cn("Root CA"), &cn("EK CA"), &self.ca.spki, extensions)
    }

    pub fn ek_draft(&self) -> Draft {
        let extensions = vec![
            tpm_name("id:49465800", "SLB 9672", "id:00100015"),
            leaf_constraints(),
            key_usage(KEY_AGREEMENT),
            purpose(&EK_PURPOSE),
        ];
        Draft::new(&cn("EK CA"), &tlv(0x30, &[]), &self.ek.spki, extensions)
    }

    pub fn root_der(&self) -> Vec<u8> {
        self.root_draft().signed(&self.root)
    }

    pub fn ca_der(&self) -> Vec<u8> {
        self.ca_draft().signed(&self.root)
    }

    pub fn ek_der(&self) -> Vec<u8> {
        self.ek_draft().signed(&self.ca)
    }

    pub fn roots(&self) -> Roots {
        read(&[&self.root_der(), &self.ca_der()])
    }

    /// Judges an EK certificate under the good root and intermediate.
    pub fn judge(&self, certificate: &[u8]) -> Result<EkCertificate, ChainError> {
        verify_ek_certificate(certificate, &[], &self.roots(), NOW)
    }

    /// Judges a draft of an EK certificate, signed by the good intermediate.
    pub fn judge_ek(&self, draft: &Draft) -> Result<EkCertificate, ChainError> {
        self.judge(&draft.signed(&self.ca))
    }

    /// Judges the good EK certificate under a draft of the intermediate, signed by the good root.
    pub fn judge_ca(&self, draft: &Draft) -> Result<EkCertificate, ChainError> {
        let roots = read(&[&self.root_der(), &draft.signed(&self.root)]);
        verify_ek_certificate(&self.ek_der(), &[], &roots, NOW)
    }
}

pub fn read(files: &[&[u8]]) -> Roots {
    let roots = Roots::read(files.iter().map(|bytes| ("maker.crt", *bytes)));
    assert_eq!(roots.unreadable(), &[]);
    roots
}

/// Where it breaks, and why.
pub fn broken(outcome: Result<EkCertificate, ChainError>) -> (usize, ChainBreak) {
    let error = outcome.unwrap_err();
    (error.depth(), error.reason().clone())
}
