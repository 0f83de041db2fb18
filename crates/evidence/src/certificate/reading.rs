//! Finding the certificates in a file or an NV index, before any of them is understood.
//!
//! Owns: PEM (several in a file, text around them), DER (one after the other, or as base64 without PEM's lines, as
//! other verifiers keep it), the header that the TCG PC Client profile puts before a stored certificate, and the padding
//! that fills an NV index behind it. Refuses anything else
//! behind a certificate: what is neither a certificate nor padding was put there by somebody.
//! An attacker controls the bytes of what a device sends.

use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    pem::Pem,
};

/// The longest certificate that is read, in bytes; those of makers have 0.5 to 2.5 kB.
pub const MAX_CERTIFICATE_LEN: usize = 16 * 1024;
/// `TCG_PCCLIENT_STORED_CERT` with `TCG_FULL_CERT` (PC Client Specific Implementation Specification): tag
/// 0x1001, type 0, then the length of all that follows in two bytes.
const STORED_CERT: [u8; 3] = [0x10, 0x01, 0x00];
const STORED_CERT_LEN: usize = 5;
/// `TCG_PCCLIENT_FULL_CERT`, which begins with a tag of its own; some makers leave it out.
const FULL_CERT: [u8; 2] = [0x10, 0x02];
/// The tag of a constructed SEQUENCE, with which every certificate begins.
const SEQUENCE: u8 = 0x30;
/// The labels of a certificate in PEM: RFC 7468, section 5, with the old one that it wants to be read.
const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

/// Why no certificate could be cut out of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No bytes, padding only, or PEM without a certificate.
    #[error("no certificate in it")]
    Nothing,
    /// Not a DER sequence, or one that ends before its length says.
    #[error("neither PEM nor a whole DER certificate")]
    NotDer,
    /// PEM that cannot be decoded.
    #[error("broken PEM")]
    Pem,
    /// Longer than any certificate should be.
    #[error("a certificate of {len} bytes, {MAX_CERTIFICATE_LEN} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// More than padding behind a certificate.
    #[error("{len} bytes behind the certificate that are neither padding nor a certificate")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// Several where one is wanted.
    #[error("{count} certificates where one is wanted")]
    Several {
        /// How many.
        count: usize,
    },
}

/// The certificates in a file or an NV index, each as its own bytes without what was around it. They are not read
/// any further.
///
/// # Errors
/// There is none, PEM that cannot be decoded, a certificate that is too long, or other bytes behind it.
pub fn certificates_in(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
    // What some editors put before a text: a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let found = if is_pem(bytes) {
        in_pem(bytes)?
    } else if let Some(der) = base64(bytes) {
        in_der(&der)?
    } else {
        in_der(bytes)?
    };
    if found.is_empty() {
        return Err(ReadError::Nothing);
    }
    Ok(found)
}

/// The only certificate in the bytes.
pub(super) fn certificate_in(bytes: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut found = certificates_in(bytes)?;
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (_, more) => Err(ReadError::Several {
            count: more.saturating_add(1),
        }),
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    // A DER certificate begins with a sequence, which as text is `0`; it may well hold this text, PEM's prose may not.
    bytes.first() != Some(&SEQUENCE) && bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

fn in_pem(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(bytes) {
        let block = block.map_err(|_| ReadError::Pem)?;
        if LABELS.contains(&block.label.as_str()) {
            found.append(&mut in_der(&block.contents)?);
        }
    }
    Ok(found)
}

fn in_der(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut found = Vec::new();
    loop {
        if bytes.starts_with(&STORED_CERT) {
            bytes = bytes.get(STORED_CERT_LEN..).unwrap_or_default();
            bytes = bytes.strip_prefix(&FULL_CERT).unwrap_or(bytes);
        }
        if is_padding(bytes) {
            return Ok(found);
        }
        let trailing = ReadError::Trailing { len: bytes.len() };
        let broken = if found.is_empty() {
            ReadError::NotDer
        } else {
            trailing
        };
        let (rest, _) = Any::from_der(bytes).map_err(|_| broken)?;
        if bytes.first() != Some(&SEQUENCE) {
            return Err(broken);
        }
        let len = bytes.len().saturating_sub(rest.len());
        if len > MAX_CERTIFICATE_LEN {
            return Err(ReadError::TooLong { len });
        }
        found.push(bytes.get(..len).unwrap_or_default().to_vec());
        bytes = rest;
    }
}

/// What an NV index holds behind what was written to it: zeros, ones where the memory is erased flash, or both.
fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0 | 0xff))
}

/// Base64 without PEM's lines, of something that begins as a certificate does: `0x30 0x82` is `MI` in it.
fn base64(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"MI") || bytes.len() > 2 * MAX_CERTIFICATE_LEN {
        return None;
    }
    let text: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    data_encoding::BASE64.decode(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence, which is all that is asked for here.
    const ONE: [u8; 5] = [0x30, 3, 2, 1, 7];

    #[test]
    fn padding_headers_and_neighbours_are_taken_off() {
        assert_eq!(certificates_in(&ONE), Ok(vec![ONE.to_vec()]));
        for byte in [0, 0xff] {
            let padded = [&ONE[..], &[byte; 40]].concat();
            assert_eq!(certificate_in(&padded), Ok(ONE.to_vec()));
        }
        let stored = [&[0x10, 0x01, 0x00, 0x00, 0x05][..], &ONE, &[0; 9]].concat();
        assert_eq!(certificate_in(&stored), Ok(ONE.to_vec()));
        let stored = [&[0x10, 0x01, 0x00, 0x00, 0x07, 0x10, 0x02][..], &ONE, &[0xff; 9]].concat();
        assert_eq!(
            certificate_in(&stored),
            Ok(ONE.to_vec()),
            "with the tag of the full certificate"
        );
        let both = [&ONE[..], &[0; 3], &[0xff; 9]].concat();
        assert_eq!(certificate_in(&both), Ok(ONE.to_vec()));
        let two = [ONE, ONE].concat();
        assert_eq!(certificates_in(&two).unwrap().len(), 2);
        assert_eq!(certificate_in(&two), Err(ReadError::Several { count: 2 }));
    }

    #[test]
    fn pem_is_read_with_what_is_around_it() {
        let text = "A root\n-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\nand\n\
            -----BEGIN PUBLIC KEY-----\nMAMCAQc=\n-----END PUBLIC KEY-----\n\
            -----BEGIN X509 CERTIFICATE-----\nMAMCAQc=\n-----END X509 CERTIFICATE-----\n";
        assert_eq!(
            certificates_in(text.as_bytes()),
            Ok(vec![ONE.to_vec(), ONE.to_vec()])
        );
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(certificates_in(windows.as_bytes()).unwrap().len(), 2);
        let key = "-----BEGIN PUBLIC KEY-----\nMAMCAQc=\n-----END PUBLIC KEY-----\n";
        assert_eq!(certificates_in(key.as_bytes()), Err(ReadError::Nothing));
        let broken = "-----BEGIN CERTIFICATE-----\nMAM*\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates_in(broken.as_bytes()), Err(ReadError::Pem));
        let open = "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n";
        assert_eq!(certificates_in(open.as_bytes()), Err(ReadError::Pem));
    }

    #[test]
    fn base64_alone_is_read() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        let text = data_encoding::BASE64.encode(&long);
        assert_eq!(certificates_in(text.as_bytes()), Ok(vec![long.clone()]));
        let (first, rest) = text.split_at(64);
        let lines = format!("{first}\r\n{rest}\n");
        assert_eq!(certificates_in(lines.as_bytes()), Ok(vec![long]));
        let longest = format!("{text:width$}", width = 2 * MAX_CERTIFICATE_LEN);
        assert!(certificates_in(longest.as_bytes()).is_ok());
        let longer = format!("{longest}\n");
        assert_eq!(certificates_in(longer.as_bytes()), Err(ReadError::NotDer));
        for broken in [
            text.split_at(text.len() - 1).0,
            "MIT License",
            "MIIC*",
            "MAMCAQc=",
        ] {
            assert_eq!(
                certificates_in(broken.as_bytes()),
                Err(ReadError::NotDer),
                "{broken}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(certificates_in(&[]), Err(ReadError::Nothing));
        assert_eq!(certificates_in(&[0xff; 8]), Err(ReadError::Nothing));
        assert_eq!(certificates_in(b"README: maker roots"), Err(ReadError::NotDer));
        assert_eq!(certificates_in(&[0x02, 1, 7]), Err(ReadError::NotDer));
        assert_eq!(certificates_in(&ONE[..4]), Err(ReadError::NotDer));
        let tail = [&ONE[..], b"evil"].concat();
        assert_eq!(certificates_in(&tail), Err(ReadError::Trailing { len: 4 }));
        let mut longest = vec![0x30, 0x82, 0x3f, 0xfc];
        longest.resize(MAX_CERTIFICATE_LEN, 7);
        assert!(certificates_in(&longest).is_ok());
        let mut long = vec![0x30, 0x82, 0x40, 0x00];
        long.resize(4 + 0x4000, 0);
        assert_eq!(certificates_in(&long), Err(ReadError::TooLong { len: 0x4004 }));
    }
}
