//! The TPM's key derivation functions with SHA-256 (part 1, 11.4.10): KDFa (SP 800-108 in counter mode) and KDFe
//! (SP 800-56A, concatenation).
//!
//! Owns: one block of at most 32 bytes, which is all that a credential needs; so the counter is always 1.

use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::SEED_LEN;

const COUNTER: [u8; 4] = 1_u32.to_be_bytes();

/// Fills `out`, at most 32 bytes, with `KDFa(SHA-256, key, label, context, empty, bits of out)`. The label ends with a zero.
pub(super) fn kdfa(key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    let bits = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_mul(8);
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    mac.update(&COUNTER);
    mac.update(label);
    mac.update(context);
    mac.update(&bits.to_be_bytes());
    let tag = mac.sign();
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
}

/// `KDFe(SHA-256, z, label, party U, party V, 256)`. The label ends with a zero.
pub(super) fn kdfe(z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Zeroizing<[u8; SEED_LEN]> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [&COUNTER[..], z, label, party_u, party_v] {
        hash.update(part);
    }
    let mut out = Zeroizing::new([0; SEED_LEN]);
    for (to, from) in out.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    out
}
