//! TPM 2.0 structures as the TPM marshals them: parsed from borrowed bytes, encoded back to the same bytes.
//!
//! Owns: lengths, bounds, and which identifiers are known at all. What parses encodes to the very bytes it came
//! from; trailing bytes, unknown algorithms and lengths past the specification's bounds are refused.
//! Refuses to judge: a parsed structure is still only what somebody sent. Anybody may call it.
//! An attacker controls every byte. Nothing here allocates while parsing.
//! Limits: quotes, certifications and creation statements; RSA and ECC objects with the schemes that a signing or a
//! storage key of ours has. Section numbers are those of TPM 2.0 Library part 2, revision 1.59.

mod attest;
mod pcrs;
mod public;
mod reader;
mod signature;

pub use attest::{Attest, Attested, ClockInfo, MAGIC};
pub use pcrs::{PcrSelectionEntry, PcrSelections, UnusableSelection};
pub use public::{Attributes, Curve, Parameters, Public, Symmetric};
pub use reader::ParseError;
pub use signature::{Scheme, Signature, SignatureAlg};

pub(crate) use reader::put_2b;
