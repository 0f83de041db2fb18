//! One-shot digests by TPM algorithm, without a heap.

use domain::HashAlg;
use ring::digest::{self, Context, Digest};

/// The digest of the concatenation of `parts`.
pub(crate) fn digest(alg: HashAlg, parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(match alg {
        HashAlg::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlg::Sha256 => &digest::SHA256,
        HashAlg::Sha384 => &digest::SHA384,
    });
    for part in parts {
        context.update(part);
    }
    context.finish()
}
