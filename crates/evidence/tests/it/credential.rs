//! What a credential is made of, and what it is not made of. That a TPM activates it is shown in `stock_tools`.

use domain::{CredentialSecret, TpmName, TpmPublic};
use evidence::{Credential, CredentialError, EkAlg, EndorsementKey, ek, make_credential};

/// P-256 and P-384 with the base point as their key, RSA-2048 with an odd number of 2048 bits.
pub(crate) fn endorsement_key(alg: EkAlg) -> EndorsementKey {
    let mut bytes = ek::template(alg).as_bytes().to_vec();
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    match alg {
        EkAlg::Rsa2048 => {
            let start = bytes.len() - 256;
            bytes[start..].fill(0xc1);
        }
        EkAlg::EccP256 => {
            let x = bytes.len() - 66;
            bytes[x..x + 32].copy_from_slice(&hex(
                "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            ));
            bytes[x + 34..].copy_from_slice(&hex(
                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            ));
        }
        EkAlg::EccP384 => {
            bytes.truncate(bytes.len() - 4);
            for coordinate in [
                "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
                "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
            ] {
                bytes.extend([0, 48]);
                bytes.extend(hex(coordinate));
            }
        }
    }
    EndorsementKey::new(&TpmPublic::try_from(bytes).unwrap()).unwrap()
}

pub(crate) fn name(len: usize) -> TpmName {
    let mut bytes = vec![0x11; len];
    bytes[0] = 0;
    bytes[1] = 0x0b;
    TpmName::try_from(bytes).unwrap()
}

fn make(alg: EkAlg, entropy: &[u8; 64]) -> Result<Credential, CredentialError> {
    let secret = CredentialSecret::copy_from(&[9; 32]).unwrap();
    make_credential(&endorsement_key(alg), &name(34), &secret, entropy)
}

fn halves(first: u8, second: u8) -> [u8; 64] {
    let mut entropy = [first; 64];
    entropy[32..].fill(second);
    entropy
}

#[test]
fn the_structures_have_their_sizes() {
    // TPM2B_ID_OBJECT: an HMAC with its size, and the encrypted TPM2B_DIGEST of 34.
    for (alg, secret_len, mac) in [
        (EkAlg::Rsa2048, 256, 32),
        (EkAlg::EccP256, 68, 32),
        (EkAlg::EccP384, 100, 48),
    ] {
        let credential = make(alg, &[7; 64]).unwrap();
        assert_eq!(credential.id_object[..4], [0, 36 + mac, 0, mac]);
        assert_eq!(credential.id_object.len(), 38 + usize::from(mac));
        let size: u16 = secret_len;
        assert_eq!(credential.encrypted_secret[..2], size.to_be_bytes());
        assert_eq!(credential.encrypted_secret.len(), 2 + usize::from(size));
    }
}

#[test]
fn same_inputs_same_bytes_and_other_entropy_other_bytes() {
    for alg in [EkAlg::Rsa2048, EkAlg::EccP256, EkAlg::EccP384] {
        let one = make(alg, &halves(1, 2)).unwrap();
        assert_eq!(make(alg, &halves(1, 2)).unwrap(), one);
        let two = make(alg, &halves(3, 2)).unwrap();
        assert_ne!(two.id_object, one.id_object);
        assert_ne!(two.encrypted_secret, one.encrypted_secret);
    }
    // The padding's seed changes the cipher text of the RSA seed, not the seed.
    let one = make(EkAlg::Rsa2048, &halves(1, 2)).unwrap();
    let two = make(EkAlg::Rsa2048, &halves(1, 3)).unwrap();
    assert_eq!(one.id_object, two.id_object);
    assert_ne!(one.encrypted_secret, two.encrypted_secret);
}

#[test]
fn entropy_that_is_no_private_key_is_passed_over_and_then_refused() {
    let good = make(EkAlg::EccP256, &halves(5, 6)).unwrap();
    for unusable in [0, 0xff] {
        assert_eq!(make(EkAlg::EccP256, &halves(unusable, 5)).unwrap(), good);
        assert_eq!(
            make(EkAlg::EccP256, &[unusable; 64]),
            Err(CredentialError::Entropy)
        );
        let mut entropy = [5; 64];
        entropy[..48].fill(unusable);
        assert_eq!(make(EkAlg::EccP384, &entropy), Err(CredentialError::Entropy));
    }
}

#[test]
fn a_name_without_a_digest_is_refused() {
    let secret = CredentialSecret::copy_from(&[9; 32]).unwrap();
    let ek = endorsement_key(EkAlg::EccP256);
    for len in [2, 4, 22, 33, 35, 50] {
        assert_eq!(
            make_credential(&ek, &name(len), &secret, &[7; 64]),
            Err(CredentialError::Name),
            "{len}"
        );
    }
}

#[test]
fn the_secret_is_in_neither_structure() {
    for alg in [EkAlg::Rsa2048, EkAlg::EccP256, EkAlg::EccP384] {
        let credential = make(alg, &[7; 64]).unwrap();
        for bytes in [&credential.id_object, &credential.encrypted_secret] {
            assert!(!bytes.windows(4).any(|w| w == [9; 4]));
        }
    }
}
