//! TPM2_MakeCredential in software: a secret that only the TPM with this EK and an object of this Name can read.
//!
//! Owns: the construction of part 1, 24 "Credential Protection", with an RSA-2048 EK (annex B.10.4) or one on P-256 or P-384
//! (annex C.6.3), and the marshalling of both results. Released by TPM2_ActivateCredential it proves that AK and EK are in one
//! TPM; so the EK's area is the one rebuilt from the template, never the one sent.
//! Refuses randomness of its own: entropy is an argument and must be fresh for each credential. Seeds and keys are
//! wiped.

mod kdf;
mod oaep;

use aes::{Aes128, Aes256};
use cfb_mode::{
    Encryptor,
    cipher::{AsyncStreamCipher as _, KeyIvInit as _},
};
use domain::{CredentialSecret, HashAlg, TpmName};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use ring::hmac;
use zeroize::Zeroizing;

use self::kdf::{hmac_key, kdfa, kdfe};
use crate::{
    ek::{EkKey, EndorsementKey},
    rsa::Modulus2048,
    wire::put_2b,
};

/// The label of the seed's protection, with its terminating zero (part 1, 24.4).
const IDENTITY: &[u8] = b"IDENTITY\0";
const STORAGE: &[u8] = b"STORAGE\0";
const INTEGRITY: &[u8] = b"INTEGRITY\0";
/// Bytes of a seed under RSA and of a P-256 scalar.
const SHORT_LEN: usize = 32;
/// Bytes of a P-384 scalar.
const LONG_LEN: usize = 48;
/// The size field of the `TPM2B_DIGEST` that holds a [`CredentialSecret`].
const SECRET_SIZE: u16 = 32;
/// What derives all keys of a credential; as long as the digest of the EK's `nameAlg`.
pub(crate) type Seed = Zeroizing<Vec<u8>>;

/// What TPM2_ActivateCredential takes, marshalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `TPM2B_ID_OBJECT`: the integrity HMAC and the encrypted secret.
    pub id_object: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`: the seed, for the EK alone.
    pub encrypted_secret: Vec<u8>,
}

/// Why no credential could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The entropy holds no private key for the curve: random bytes fail so once in 2^64 times.
    #[error("the entropy given is not usable as a private key, it cannot be random")]
    Entropy,
    /// The Name is no Name of an object: not a digest with its algorithm.
    #[error("the object's name is not a digest with its algorithm")]
    Name,
}

/// Protects `secret` for the object named `object`, inside the TPM of `ek`.
///
/// `entropy` is 64 random bytes, used for nothing else: for RSA the seed and the padding's seed, for P-256 two
/// candidates for the ephemeral key, for P-384 one in the first 48 bytes.
///
/// # Errors
/// Entropy that cannot be random, or a Name that is the handle of an object without one.
pub fn make_credential(
    ek: &EndorsementKey,
    object: &TpmName,
    secret: &CredentialSecret,
    entropy: &[u8; 64],
) -> Result<Credential, CredentialError> {
    // A bare handle is a Name too (part 1, 16), of things that cannot attest.
    if !is_digest_name(object.as_bytes()) {
        return Err(CredentialError::Name);
    }
    let (seed, encrypted_secret) = seed_for(ek.key(), IDENTITY, entropy)?;
    Ok(Credential {
        id_object: id_object(ek.name_alg(), &seed, object, secret),
        encrypted_secret,
    })
}

/// A seed that only the holder of `key` can read, and it as a `TPM2B_ENCRYPTED_SECRET`. The label, which says what the
/// seed is for, ends with a zero.
pub(crate) fn seed_for(
    key: &EkKey,
    label: &[u8],
    entropy: &[u8; 64],
) -> Result<(Seed, Vec<u8>), CredentialError> {
    let (seed, encrypted) = match key {
        EkKey::Rsa(modulus) => rsa_seed(modulus, label, entropy),
        EkKey::P256(key) => p256_seed(key, label, entropy)?,
        EkKey::P384(key) => p384_seed(key, label, entropy)?,
    };
    let mut sized = Vec::new();
    put_2b(&mut sized, &encrypted);
    Ok((seed, sized))
}

fn is_digest_name(name: &[u8]) -> bool {
    let split = name.split_first_chunk::<2>();
    split.is_some_and(|(id, digest)| {
        HashAlg::from_tpm_id(u16::from_be_bytes(*id)).is_some_and(|alg| alg.digest_len() == digest.len())
    })
}

/// Part 1, 24.4 and B.10.4: a random seed under OAEP.
fn rsa_seed(modulus: &Modulus2048, label: &[u8], entropy: &[u8; 64]) -> (Seed, Vec<u8>) {
    let mut seed = Zeroizing::new([0; SHORT_LEN]);
    let mut padding = Zeroizing::new([0; SHORT_LEN]);
    let (first, second) = entropy.split_at(SHORT_LEN);
    seed.copy_from_slice(first);
    padding.copy_from_slice(second);
    let encrypted = oaep::encrypt(modulus, label, &seed, &padding);
    (Zeroizing::new(seed.to_vec()), encrypted)
}

/// Part 1, C.6.3 and C.6.4: one-pass Diffie-Hellman with an ephemeral key; the seed is derived, its cipher text is the
/// ephemeral point.
fn p256_seed(
    ek: &p256::PublicKey,
    label: &[u8],
    entropy: &[u8; 64],
) -> Result<(Seed, Vec<u8>), CredentialError> {
    // FIPS 186-5, A.2.2: candidates out of range are thrown away, so that the key is not biased.
    let ephemeral = entropy
        .chunks_exact(SHORT_LEN)
        .find_map(|candidate| p256::SecretKey::from_slice(candidate).ok())
        .ok_or(CredentialError::Entropy)?;
    let scalar = Zeroizing::new(ephemeral.to_nonzero_scalar());
    let shared = p256::ecdh::diffie_hellman(*scalar, ek.as_affine());
    let ours = ephemeral.public_key().to_encoded_point(false);
    let theirs = ek.to_encoded_point(false);
    Ok(ecc_seed(
        HashAlg::Sha256,
        label,
        shared.raw_secret_bytes(),
        ours,
        theirs,
    ))
}

/// The same on P-384.
fn p384_seed(
    ek: &p384::PublicKey,
    label: &[u8],
    entropy: &[u8; 64],
) -> Result<(Seed, Vec<u8>), CredentialError> {
    let (candidate, _) = entropy.split_at(LONG_LEN);
    let ephemeral = p384::SecretKey::from_slice(candidate).map_err(|_| CredentialError::Entropy)?;
    let scalar = Zeroizing::new(ephemeral.to_nonzero_scalar());
    let shared = p384::ecdh::diffie_hellman(*scalar, ek.as_affine());
    let ours = ephemeral.public_key().to_encoded_point(false);
    let theirs = ek.to_encoded_point(false);
    Ok(ecc_seed(
        HashAlg::Sha384,
        label,
        shared.raw_secret_bytes(),
        ours,
        theirs,
    ))
}

/// The seed out of the shared x, and the marshalled ephemeral point. Points are uncompressed: 4, x, y.
fn ecc_seed(
    alg: HashAlg,
    label: &[u8],
    shared: &[u8],
    ours: impl AsRef<[u8]>,
    theirs: impl AsRef<[u8]>,
) -> (Seed, Vec<u8>) {
    let coordinates = |point: &[u8]| {
        let (_, both) = point.split_at_checked(1).unwrap_or_default();
        let (x, y) = both.split_at(both.len() / 2);
        (x.to_vec(), y.to_vec())
    };
    let ((our_x, our_y), (their_x, _)) = (coordinates(ours.as_ref()), coordinates(theirs.as_ref()));
    let mut point = Vec::new();
    put_2b(&mut point, &our_x);
    put_2b(&mut point, &our_y);
    (kdfe(alg, shared, label, &our_x, &their_x), point)
}

/// Part 1, 24.5 and 24.6: the secret as a `TPM2B_DIGEST`, wrapped.
fn id_object(alg: HashAlg, seed: &Seed, object: &TpmName, secret: &CredentialSecret) -> Vec<u8> {
    let mut identity = Zeroizing::new([0; 2 + CredentialSecret::LEN]);
    let (size, room) = identity.split_at_mut(2);
    size.copy_from_slice(&SECRET_SIZE.to_be_bytes());
    secret.expose(|bytes| room.copy_from_slice(bytes));
    wrapped(alg, seed, object, identity.as_mut_slice())
}

/// The outer wrapper, sized: what is in `plain` encrypted to the Name, behind an HMAC over both. A credential (24.5) and a
/// duplicate (23.3.2.3) have the same.
pub(crate) fn wrapped(alg: HashAlg, seed: &Seed, object: &TpmName, plain: &mut [u8]) -> Vec<u8> {
    encrypt(alg, seed, object, plain);
    let mut integrity = Zeroizing::new(vec![0; alg.digest_len()]);
    kdfa(alg, seed, INTEGRITY, &[], &mut integrity);
    let mut outer = hmac::Context::with_key(&hmac_key(alg, &integrity));
    outer.update(plain);
    outer.update(object.as_bytes());

    let mut body = Vec::new();
    put_2b(&mut body, outer.sign().as_ref());
    body.extend_from_slice(plain);
    let mut sized = Vec::new();
    put_2b(&mut sized, &body);
    sized
}

/// AES in CFB mode, with the key length of the template.
fn encrypt(alg: HashAlg, seed: &Seed, object: &TpmName, data: &mut [u8]) {
    let iv = [0; 16];
    if alg == HashAlg::Sha384 {
        let mut key = Zeroizing::new([0; 32]);
        kdfa(alg, seed, STORAGE, object.as_bytes(), key.as_mut_slice());
        Encryptor::<Aes256>::new((&*key).into(), &iv.into()).encrypt(data);
    } else {
        let mut key = Zeroizing::new([0; 16]);
        kdfa(alg, seed, STORAGE, object.as_bytes(), key.as_mut_slice());
        Encryptor::<Aes128>::new((&*key).into(), &iv.into()).encrypt(data);
    }
}
