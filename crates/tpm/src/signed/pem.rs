//! An RSA public key out of PEM: `SubjectPublicKeyInfo` (RFC 5280, 4.1; RFC 8017, A.1) and nothing around it.
//!
//! Owns: the strict reading of the one shape that `openssl rsa -pubout` writes, DER with minimal lengths. It comes from a
//! token on an attacker's disk.

use data_encoding::BASE64;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// `rsaEncryption` with NULL parameters.
const RSA: [u8; 13] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// The `RSAPublicKey` in the PEM, and its two numbers, big-endian without leading zeros.
pub(super) struct Rsa {
    pub(super) pkcs1: Vec<u8>,
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: Vec<u8>,
}

pub(super) fn read(pem: &[u8]) -> Option<Rsa> {
    let text = std::str::from_utf8(pem).ok()?.trim();
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let packed: Vec<u8> = body
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let der = BASE64.decode(&packed).ok()?;

    let info = only(SEQUENCE, &der)?;
    let (algorithm, rest) = element(SEQUENCE, info)?;
    if algorithm != RSA {
        return None;
    }
    let (0, pkcs1) = only(BIT_STRING, rest)?.split_first()? else {
        return None;
    };
    let numbers = only(SEQUENCE, pkcs1)?;
    let (modulus, rest) = element(INTEGER, numbers)?;
    let exponent = only(INTEGER, rest)?;
    Some(Rsa {
        pkcs1: pkcs1.to_vec(),
        modulus: unsigned(modulus)?.to_vec(),
        exponent: unsigned(exponent)?.to_vec(),
    })
}

/// The content of the element that fills `der`.
fn only(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let (content, rest) = element(tag, der)?;
    rest.is_empty().then_some(content)
}

/// The content of the first element, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match rest {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, long @ 0x80..=0xff, rest @ ..] => (usize::from(*long), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A positive INTEGER in its minimal form, without the sign's zero.
fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => Some(rest),
        [0x01..=0x7f, ..] => Some(integer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use openssl::{pkey::PKey, rsa::Rsa as Key};

    use super::*;

    #[test]
    fn what_openssl_writes_is_read_and_every_change_of_shape_is_not() {
        let key = Key::generate(2048).unwrap();
        let pem = PKey::from_rsa(key.clone()).unwrap().public_key_to_pem().unwrap();
        let rsa = read(&pem).unwrap();
        assert_eq!(rsa.modulus, key.n().to_vec());
        assert_eq!(rsa.exponent, [1, 0, 1]);
        let unix = String::from_utf8(pem.clone()).unwrap();
        assert!(read(unix.replace('\n', "\r\n").as_bytes()).is_some());
        assert!(read(&pem[1..]).is_none());
        assert!(read(&pem[..pem.len() - 2]).is_none());
        assert!(read(format!("{unix}{unix}").as_bytes()).is_none());
        let pkcs1 = key.public_key_to_pem_pkcs1().unwrap();
        assert!(read(&pkcs1).is_none());
        let der = key.public_key_to_der().unwrap();
        let armour = |der: &[u8]| format!("{BEGIN}\n{}\n{END}", BASE64.encode(der));
        assert!(read(armour(&der).as_bytes()).is_some());
        // Everything but the two numbers has one value: flip each octet around them (octet 32 is the modulus's sign).
        for place in (0..32).chain(der.len() - 5..der.len() - 3) {
            let mut bad = der.clone();
            bad[place] ^= 1;
            assert!(read(armour(&bad).as_bytes()).is_none(), "{place}");
        }
        for cut in 0..der.len() {
            assert!(read(armour(&der[..cut]).as_bytes()).is_none(), "{cut}");
        }
    }
}
