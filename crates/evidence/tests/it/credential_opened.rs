//! A credential opened again, by the specification and by openssl rather than by our code: the key derivation, the cipher and the HMAC of
//! part 1, 24, written here a second time. The elliptic EKs have the private key 1, so the shared secret is the x that was sent.

use std::{fs, process::Command};

use aes::{Aes128, Aes256};
use cfb_mode::{
    Decryptor,
    cipher::{AsyncStreamCipher as _, KeyIvInit as _},
};
use domain::{CredentialSecret, TpmName, TpmPublic};
use evidence::{EkAlg, EndorsementKey, ek, make_credential};
use ring::{digest, hmac};

use crate::credential::{endorsement_key, name};

const SECRET: [u8; 32] = [0x39; 32];

/// Cuts a TPM2B off the front.
fn cut<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let (size, rest) = bytes.split_at(2);
    let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([size[0], size[1]])));
    *bytes = rest;
    value
}

/// `KDFa` of part 1, 11.4.10.2, one block.
fn kdfa(alg: hmac::Algorithm, key: &[u8], label: &str, context: &[u8], bits: u32) -> Vec<u8> {
    let message = [
        &[0, 0, 0, 1],
        label.as_bytes(),
        &[0],
        context,
        &bits.to_be_bytes(),
    ]
    .concat();
    let tag = hmac::sign(&hmac::Key::new(alg, key), &message);
    tag.as_ref()[..usize::try_from(bits).unwrap() / 8].to_vec()
}

/// What TPM2_ActivateCredential does once it has the seed.
fn open(alg: hmac::Algorithm, aes_bits: u32, seed: &[u8], object: &TpmName, id_object: &[u8]) -> Vec<u8> {
    let mut whole = id_object;
    let mut body = cut(&mut whole);
    assert!(whole.is_empty());
    let integrity = cut(&mut body);
    let bits = u32::try_from(integrity.len()).unwrap() * 8;
    let mac = hmac::Key::new(alg, &kdfa(alg, seed, "INTEGRITY", &[], bits));
    hmac::verify(&mac, &[body, object.as_bytes()].concat(), integrity).expect("the HMAC is over both");
    let key = kdfa(alg, seed, "STORAGE", object.as_bytes(), aes_bits);
    let mut plain = body.to_vec();
    if aes_bits == 256 {
        let cipher = Decryptor::<Aes256>::new_from_slices(&key, &[0; 16]);
        cipher.unwrap().decrypt(&mut plain);
    } else {
        let cipher = Decryptor::<Aes128>::new_from_slices(&key, &[0; 16]);
        cipher.unwrap().decrypt(&mut plain);
    }
    plain
}

fn sized(secret: &[u8]) -> Vec<u8> {
    [&[0, 32], secret].concat()
}

#[test]
fn the_elliptic_keys_seed_comes_of_the_point() {
    let secret = CredentialSecret::copy_from(&SECRET).unwrap();
    let base = [
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
    ]
    .map(|x| data_encoding::HEXLOWER.decode(x.as_bytes()).unwrap());
    for (alg, hash, mac, aes, base) in [
        (EkAlg::EccP256, &digest::SHA256, hmac::HMAC_SHA256, 128, &base[0]),
        (EkAlg::EccP384, &digest::SHA384, hmac::HMAC_SHA384, 256, &base[1]),
    ] {
        let credential = make_credential(&endorsement_key(alg), &name(34), &secret, &[7; 64]).unwrap();
        let mut whole = credential.encrypted_secret.as_slice();
        let mut point = cut(&mut whole);
        let (x, y) = (cut(&mut point), cut(&mut point));
        assert!(whole.is_empty() && point.is_empty());
        assert_eq!((x.len(), y.len()), (base.len(), base.len()));
        let seed = digest::digest(hash, &[&[0, 0, 0, 1], x, b"IDENTITY\0", x, base].concat());
        let opened = open(mac, aes, seed.as_ref(), &name(34), &credential.id_object);
        assert_eq!(opened, sized(&SECRET), "{alg}");
    }
}

#[test]
fn openssl_finds_the_rsa_keys_seed() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .current_dir(dir.path())
            .args(arguments)
            .output();
        let output = output.expect("openssl cannot run: apt-get install openssl");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    openssl(&[
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        "key",
    ]);
    let modulus = String::from_utf8(openssl(&["rsa", "-in", "key", "-noout", "-modulus"])).unwrap();
    let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
    let mut public = ek::template(EkAlg::Rsa2048).as_bytes().to_vec();
    let start = public.len() - 256;
    public[start..].copy_from_slice(&data_encoding::HEXUPPER.decode(digits.as_bytes()).unwrap());
    let ek = EndorsementKey::new(&TpmPublic::try_from(public).unwrap()).unwrap();

    let secret = CredentialSecret::copy_from(&SECRET).unwrap();
    let credential = make_credential(&ek, &name(34), &secret, &[7; 64]).unwrap();
    let mut whole = credential.encrypted_secret.as_slice();
    fs::write(dir.path().join("secret"), cut(&mut whole)).unwrap();
    assert!(whole.is_empty());
    // IDENTITY with its zero, in hexadecimal.
    let label = "rsa_oaep_label:4944454e5449545900";
    let seed = openssl(&[
        "pkeyutl",
        "-decrypt",
        "-inkey",
        "key",
        "-in",
        "secret",
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        "rsa_oaep_md:sha256",
        "-pkeyopt",
        label,
    ]);
    let opened = open(hmac::HMAC_SHA256, 128, &seed, &name(34), &credential.id_object);
    assert_eq!(opened, sized(&SECRET));
}
