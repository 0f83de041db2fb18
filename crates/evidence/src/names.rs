//! Names and qualified names of TPM objects (TPM 2.0 Library part 1, 16 "Names").
//!
//! Owns: `Name = nameAlg || H(public area)` and `qualified name = nameAlg || H(qualified name of the parent || Name)`,
//! where the parent of a primary key is its hierarchy's handle. Names are computed here from public areas; one that was
//! sent is never believed.

use domain::{HashAlg, TpmName, TpmPublic};

use crate::{
    ek::EndorsementKey,
    hash,
    wire::{ParseError, Public},
};

/// `TPM_RH_ENDORSEMENT` (part 2, 7.4).
const RH_ENDORSEMENT: [u8; 4] = 0x4000_000b_u32.to_be_bytes();

/// The Name and the qualified name of an AK that is a child of `ek`, in this order.
///
/// The registry keeps the qualified name: a quote's `qualifiedSigner` must equal it, so an AK under any other parent
/// never attests.
///
/// # Errors
/// `ak` is not a public area.
pub fn ak_names(ek: &EndorsementKey, ak: &TpmPublic) -> Result<(TpmName, TpmName), ParseError> {
    let name_alg = Public::parse(ak.as_bytes())?.name_alg;
    let name = name_of(name_alg, ak.as_bytes());
    let parent = name_from(ek.name_alg(), &[&RH_ENDORSEMENT, ek.name().as_bytes()]);
    let qualified = name_from(name_alg, &[parent.as_bytes(), name.as_bytes()]);
    Ok((name, qualified))
}

/// The Name of the object with this public area.
pub(crate) fn name_of(name_alg: HashAlg, public: &[u8]) -> TpmName {
    name_from(name_alg, &[public])
}

#[expect(
    clippy::expect_used,
    reason = "a Name is 22 to 50 bytes, which every TpmName can hold"
)]
fn name_from(name_alg: HashAlg, parts: &[&[u8]]) -> TpmName {
    let mut bytes = name_alg.tpm_id().to_be_bytes().to_vec();
    bytes.extend_from_slice(hash::digest(name_alg, parts).as_ref());
    TpmName::try_from(bytes).expect("a name fits")
}
