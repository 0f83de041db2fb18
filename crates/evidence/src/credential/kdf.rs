//! The TPM's key derivation functions (part 1, 11.4.10): KDFa (SP 800-108 in counter mode) and KDFe (SP 800-56A,
//! concatenation).
//!
//! Owns: one block of at most a digest, which is all that a credential needs; so the counter is always 1.

use domain::HashAlg;
use ring::hmac;
use zeroize::Zeroizing;

use crate::hash;

const COUNTER: [u8; 4] = 1_u32.to_be_bytes();

/// HMAC with the hash of an EK's Name.
pub(super) fn hmac_key(alg: HashAlg, key: &[u8]) -> hmac::Key {
    let algorithm = match alg {
        HashAlg::Sha384 => hmac::HMAC_SHA384,
        // No template of ours has SHA-1.
        HashAlg::Sha1 | HashAlg::Sha256 => hmac::HMAC_SHA256,
    };
    hmac::Key::new(algorithm, key)
}

/// Fills `out`, at most a digest long, with `KDFa(alg, key, label, context, empty, bits of out)`. The label ends with a zero.
pub(super) fn kdfa(alg: HashAlg, key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    let bits = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_mul(8);
    let mut mac = hmac::Context::with_key(&hmac_key(alg, key));
    mac.update(&COUNTER);
    mac.update(label);
    mac.update(context);
    mac.update(&bits.to_be_bytes());
    let tag = mac.sign();
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
}

/// `KDFe(alg, z, label, party U, party V, bits of alg)`. The label ends with a zero.
pub(super) fn kdfe(
    alg: HashAlg,
    z: &[u8],
    label: &[u8],
    party_u: &[u8],
    party_v: &[u8],
) -> Zeroizing<Vec<u8>> {
    let digest = hash::digest(alg, &[&COUNTER, z, label, party_u, party_v]);
    Zeroizing::new(digest.as_ref().to_vec())
}
