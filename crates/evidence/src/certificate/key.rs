//! The public key in a certificate.
//!
//! Owns: reading it out of a SubjectPublicKeyInfo, and writing it back in the one form by which this project knows an
//! EK: rsaEncryption with NULL parameters (RFC 8017, A.1), or a named curve with an uncompressed point (RFC 5480). So
//! the digest of an EK does not depend on how a maker wrote it: some leave the NULL out, write `id-RSAES-OAEP` with its
//! parameters, or compress the point. What counts as the same key are its numbers.

use p256::{PublicKey, elliptic_curve::sec1::ToEncodedPoint as _};
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Oid, oid},
    x509::SubjectPublicKeyInfo,
};

use super::name::shown;

const RSA_ENCRYPTION: Oid<'static> = oid!(1.2.840.113549.1.1.1);
/// RFC 4055, 4.1: TPM 1.2 made them so, and some makers kept to it.
const RSAES_OAEP: Oid<'static> = oid!(1.2.840.113549.1.1.7);
/// RFC 4055, 3.1: a CA's key that signs with PSS only.
const RSASSA_PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
const EC_PUBLIC_KEY: Oid<'static> = oid!(1.2.840.10045.2.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const P521: Oid<'static> = oid!(1.3.132.0.35);

/// A curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Both big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// The point uncompressed.
    Ec { curve: Curve, point: Vec<u8> },
    /// One that no signature is checked with here and that no EK has here.
    Unsupported(String),
}

impl Key {
    /// `None`: the key is of a kind that is known, and broken.
    pub(super) fn read(spki: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let algorithm = &spki.algorithm.algorithm;
        if spki.subject_public_key.unused_bits != 0 {
            return None;
        }
        let bits = spki.subject_public_key.data.as_ref();
        if [RSA_ENCRYPTION, RSAES_OAEP, RSASSA_PSS].contains(algorithm) {
            return rsa(bits);
        }
        if *algorithm != EC_PUBLIC_KEY {
            return Some(Self::Unsupported(shown(&algorithm.to_id_string())));
        }
        let curve = spki
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        match curve {
            Some(oid) if oid == P256 => {
                let point = PublicKey::from_sec1_bytes(bits).ok()?.to_encoded_point(false);
                Some(Self::Ec {
                    curve: Curve::P256,
                    point: point.as_bytes().to_vec(),
                })
            }
            Some(oid) if oid == P384 => uncompressed(Curve::P384, 48, bits),
            Some(oid) if oid == P521 => uncompressed(Curve::P521, 66, bits),
            Some(oid) => Some(Self::Unsupported(format!(
                "the curve {}",
                shown(&oid.to_id_string())
            ))),
            None => Some(Self::Unsupported("a curve without a name".to_owned())),
        }
    }

    /// The modulus' length; 0 for what is not RSA.
    pub(super) fn rsa_bits(&self) -> usize {
        let Self::Rsa { modulus, .. } = self else { return 0 };
        let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
        modulus
            .len()
            .saturating_mul(8)
            .saturating_sub(usize::try_from(unused).unwrap_or_default())
    }

    /// The SubjectPublicKeyInfo in the one form; `None` for an unsupported key.
    pub(super) fn spki_der(&self) -> Option<Vec<u8>> {
        let (algorithm, bits) = match self {
            Self::Rsa { modulus, exponent } => {
                let key = [unsigned(modulus), unsigned(exponent)].concat();
                let null: &[u8] = &[5, 0];
                (
                    [tlv(6, RSA_ENCRYPTION.as_bytes()), null.to_vec()],
                    tlv(0x30, &key),
                )
            }
            Self::Ec { curve, point } => {
                let curve = match curve {
                    Curve::P256 => P256,
                    Curve::P384 => P384,
                    Curve::P521 => P521,
                };
                let algorithm = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, curve.as_bytes())];
                (algorithm, point.clone())
            }
            Self::Unsupported(_) => return None,
        };
        let bits = [&[0], bits.as_slice()].concat();
        Some(tlv(
            0x30,
            &[tlv(0x30, &algorithm.concat()), tlv(3, &bits)].concat(),
        ))
    }
}

/// A point of two coordinates of so many bytes. Whether it is on the curve is for the signature check to find out.
fn uncompressed(curve: Curve, coordinate: usize, bits: &[u8]) -> Option<Key> {
    let whole = bits.len() == coordinate.saturating_mul(2).saturating_add(1);
    match bits.first()? {
        4 if whole => Some(Key::Ec {
            curve,
            point: bits.to_vec(),
        }),
        2 | 3 => Some(Key::Unsupported("a compressed point".to_owned())),
        _ => None,
    }
}

/// `RSAPublicKey` (RFC 8017, A.1.1), its integers minimal or not, with or without the zero that keeps them positive.
fn rsa(bits: &[u8]) -> Option<Key> {
    let (modulus, exponent) = two_integers(bits)?;
    if modulus.is_empty() || exponent.is_empty() {
        return None;
    }
    Some(Key::Rsa { modulus, exponent })
}

/// A sequence of two integers, each without leading zeros.
pub(super) fn two_integers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (rest, content) = element(0x30, der)?;
    let (second, first) = element(2, content)?;
    let (more, second) = element(2, second)?;
    (rest.is_empty() && more.is_empty()).then(|| (trimmed(first).to_vec(), trimmed(second).to_vec()))
}

/// What follows an element with this tag, and its content.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, value) = Any::from_der(der).ok()?;
    (der.first() == Some(&tag)).then_some((rest, value.data))
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// An INTEGER from a number without leading zeros.
pub(super) fn unsigned(number: &[u8]) -> Vec<u8> {
    let zero: &[u8] = match number.first() {
        Some(first) if first & 0x80 == 0 => &[],
        _ => &[0],
    };
    tlv(2, &[zero, number].concat())
}

/// One DER element.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![tag];
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = len.to_be_bytes();
            let significant = trimmed(&bytes);
            // At most eight.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spki(algorithm: &[u8], bits: &[u8]) -> Option<Key> {
        let bits = [&[0], bits].concat();
        let der = tlv(0x30, &[tlv(0x30, algorithm), tlv(3, &bits)].concat());
        Key::read(&SubjectPublicKeyInfo::from_der(&der).unwrap().1)
    }

    fn rsa_key(modulus: &[u8]) -> Vec<u8> {
        tlv(0x30, &[tlv(2, modulus), tlv(2, &[1, 0, 1])].concat())
    }

    #[test]
    fn lengths_are_as_short_as_der_wants_them() {
        assert_eq!(tlv(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(tlv(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn an_rsa_key_is_its_numbers_however_it_is_written() {
        let modulus = [0xc5; 256];
        let padded = [&[0], &modulus[..]].concat();
        let plain = [tlv(6, RSA_ENCRYPTION.as_bytes()), vec![5, 0]].concat();
        let wanted = spki(&plain, &rsa_key(&padded)).unwrap();
        assert_eq!(wanted.rsa_bits(), 2048);
        let oaep = [tlv(6, RSAES_OAEP.as_bytes()), tlv(0x30, &[])].concat();
        let bare = tlv(6, RSA_ENCRYPTION.as_bytes());
        let more = [&[0, 0], &modulus[..]].concat();
        for (algorithm, modulus) in [
            (&oaep, &padded),
            (&bare, &padded),
            (&plain, &more),
            (&plain, &modulus.to_vec()),
        ] {
            let key = spki(algorithm, &rsa_key(modulus)).unwrap();
            assert_eq!(key, wanted);
            assert_eq!(key.spki_der(), wanted.spki_der());
        }
        let rewritten = wanted.spki_der().unwrap();
        assert_eq!(
            rewritten,
            tlv(
                0x30,
                &[tlv(0x30, &plain), tlv(3, &[&[0], &rsa_key(&padded)[..]].concat())].concat()
            )
        );
    }

    #[test]
    fn broken_keys_are_none_and_strange_ones_say_what_they_are() {
        let plain = [tlv(6, RSA_ENCRYPTION.as_bytes()), vec![5, 0]].concat();
        assert_eq!(spki(&plain, b"no key"), None);
        assert_eq!(
            spki(&plain, &tlv(0x30, &[tlv(2, &[0]), tlv(2, &[3])].concat())),
            None
        );
        let p256 = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, P256.as_bytes())].concat();
        assert_eq!(spki(&p256, &[4; 65]), None, "not on the curve");
        let p384 = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, P384.as_bytes())].concat();
        assert_eq!(spki(&p384, &[4; 65]), None, "too short");
        assert!(matches!(spki(&p384, &[2; 49]), Some(Key::Unsupported(why)) if why.contains("compressed")));
        let p521 = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, P521.as_bytes())].concat();
        let whole = spki(&p521, &[4; 133]);
        assert!(matches!(
            whole,
            Some(Key::Ec {
                curve: Curve::P521,
                ..
            })
        ));
        assert_eq!(spki(&p521, &[4; 131]), None, "too short");
        let brainpool = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, &[0x2b, 0x24, 3])].concat();
        assert_eq!(
            spki(&brainpool, &[4; 65]),
            Some(Key::Unsupported("the curve 1.3.36.3".to_owned()))
        );
        let explicit = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(0x30, &[])].concat();
        assert!(matches!(spki(&explicit, &[4; 65]), Some(Key::Unsupported(_))));
        let ed25519 = spki(&tlv(6, &[0x2b, 0x65, 0x70]), &[1; 32]).unwrap();
        assert_eq!(ed25519, Key::Unsupported("1.3.101.112".to_owned()));
        assert_eq!((ed25519.rsa_bits(), ed25519.spki_der()), (0, None));
    }

    #[test]
    fn a_compressed_point_is_the_same_key() {
        let algorithm = [tlv(6, EC_PUBLIC_KEY.as_bytes()), tlv(6, P256.as_bytes())].concat();
        // The generator of P-256 (FIPS 186-4, D.1.2.3).
        let x = data_encoding::HEXLOWER
            .decode(b"6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
            .unwrap();
        let y = data_encoding::HEXLOWER
            .decode(b"4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
            .unwrap();
        let whole = spki(&algorithm, &[&[4], &x[..], &y[..]].concat()).unwrap();
        assert_eq!(spki(&algorithm, &[&[3], &x[..]].concat()), Some(whole.clone()));
        assert_ne!(spki(&algorithm, &[&[2], &x[..]].concat()), Some(whole));
    }
}
