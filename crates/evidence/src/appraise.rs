//! The appraisal: a chain of types, each made only from the one before it.
//!
//! Owns: the order [`Quote`] -> [`SignedBy`] -> [`Fresh`] -> [`PcrsMatch`] -> [`Attested`] and every check on the way.
//! [`appraise`] walks it; where a step fails, the steps after it still run as mere checks, so that the verdict lists
//! all that is wrong. Only the chain makes an [`Attested`].
//! Refuses to know the request, the registry or the time. An attacker controls all of [`Evidence`]; [`Expected`] is
//! ours. The accepting path allocates nothing where nothing is attached.

use std::sync::Arc;

use domain::TpmName;

pub use crate::inputs::{Attachments, Evidence, Expected};
use crate::{
    ak::AttestationKey,
    failure::{Failure, Rejected},
    freshness::{Continuity, Counters},
    hash,
    policy::{PcrPolicy, SetName},
    quoted::Quoted,
    recognise::Recognised,
    statement::Release,
    wire::{self, Attest, PcrSelections, Signature},
};

/// Judges evidence: every check, and all that fail.
///
/// # Errors
/// Every failed check, in order.
pub fn appraise(evidence: Evidence<'_>, expected: &Expected<'_>) -> Result<Attested, Rejected> {
    appraise_with(evidence, expected, Attachments::default())
}

/// Judges evidence with what was attached to it. A log also explains why PCRs differ.
///
/// # Errors
/// Every failed check, in order.
pub fn appraise_with(
    evidence: Evidence<'_>,
    expected: &Expected<'_>,
    attachments: Attachments<'_>,
) -> Result<Attested, Rejected> {
    let quote = match Quote::parse(evidence.quote) {
        Ok(quote) => quote,
        Err(rejected) => {
            let more = Signature::parse(evidence.signature).err().map(Failure::Signature);
            return Err(rejected.and(more));
        }
    };
    let later = |quote: Quote<'_>| {
        let judged = quote.pcrs(expected.policy, evidence.pcrs, expected.ak, attachments);
        let differs = judged.err();
        differs.unwrap_or_default()
    };
    let signed = quote
        .signed_by(expected.ak, evidence.signature)
        .map_err(|rejected| {
            let stale = quote.freshness(expected.qualifying_data, expected.last).err();
            rejected.and(stale.unwrap_or_default()).and(later(quote))
        })?;
    let fresh = signed
        .fresh(expected.qualifying_data, expected.last)
        .map_err(|rejected| rejected.and(later(quote)))?;
    let matched = fresh.pcrs_match_with(expected.policy, evidence.pcrs, attachments)?;
    Ok(matched.attested())
}

/// A well-formed quote that somebody sent. Proves nothing yet.
#[derive(Debug, Clone, Copy)]
pub struct Quote<'a> {
    bytes: &'a [u8],
    attest: Attest<'a>,
    selection: PcrSelections<'a>,
    digest: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads `TPMS_ATTEST` bytes: the magic, the type, every length.
    ///
    /// # Errors
    /// Unreadable, or a statement of another type.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Rejected> {
        let attest = Attest::parse(bytes).map_err(Failure::Quote)?;
        let found = match attest.attested {
            wire::Attested::Quote { selection, digest } => {
                return Ok(Self {
                    bytes,
                    attest,
                    selection,
                    digest,
                });
            }
            wire::Attested::Certify { .. } => "a certification",
            wire::Attested::Creation { .. } => "a creation statement",
        };
        Err(Failure::NotAQuote { found }.into())
    }

    /// Checks that `ak` made `signature` over this quote, and that the quote names `ak` as its signer.
    ///
    /// # Errors
    /// An unreadable signature, another scheme than the AK's, another signer, another key.
    pub fn signed_by(self, ak: &'a AttestationKey, signature: &[u8]) -> Result<SignedBy<'a>, Rejected> {
        let mut failures = Vec::new();
        match Signature::parse(signature) {
            Err(error) => failures.push(Failure::Signature(error)),
            Ok(signature) if signature.scheme() != ak.scheme() => failures.push(Failure::Scheme {
                expected: ak.scheme(),
                found: signature.scheme(),
            }),
            Ok(signature) if !ak.made(&signature, self.bytes) => failures.push(Failure::Forged {
                ak_name: ak.name().clone(),
            }),
            Ok(_) => {}
        }
        if self.attest.qualified_signer != ak.qualified_name().as_bytes() {
            failures.push(Failure::Signer {
                expected: ak.qualified_name().clone(),
                found: self.attest.qualified_signer.to_vec(),
            });
        }
        Rejected::unless_empty(failures)?;
        Ok(SignedBy { quote: self, ak })
    }

    fn counters(&self) -> Counters {
        self.attest.clock.into()
    }

    fn freshness(
        &self,
        qualifying_data: &[u8; 32],
        last: Option<&Counters>,
    ) -> Result<Continuity, Vec<Failure>> {
        let bound = self.attest.extra_data == qualifying_data;
        match self.counters().follow(last) {
            Ok(continuity) if bound => Ok(continuity),
            followed => {
                let unbound = (!bound).then(|| Failure::QualifyingData {
                    expected: *qualifying_data,
                    found: self.attest.extra_data.to_vec(),
                });
                let stale = followed.err().map(Failure::Stale);
                Err(unbound.into_iter().chain(stale).collect())
            }
        }
    }

    /// Compares the quoted PCRs with the policy, and says what they are. Values count only if they hash to the quoted
    /// digest; PCRs outside the quoted selection do not exist.
    fn pcrs(
        &self,
        policy: &PcrPolicy,
        values: &[u8],
        ak: &AttestationKey,
        attachments: Attachments<'_>,
    ) -> Result<Recognised, Vec<Failure>> {
        let mut failures = Vec::new();
        let selection = self.selection.single();
        if selection != Ok(policy.selection()) {
            failures.push(Failure::Selection {
                expected: policy.selection(),
                found: self.selection.to_string(),
            });
        }
        // Part 3, 18.4: pcrDigest uses the hash of the signing scheme, which need not be the bank's.
        let is_quoted = hash::digest(ak.scheme().hash, &[values]).as_ref() == self.digest;
        if !is_quoted {
            failures.push(Failure::PcrDigest);
        }
        let mut quoted = None;
        if let Ok(selection) = selection {
            let expected = selection.bank().digest_len().saturating_mul(selection.count());
            if values.len() != expected {
                failures.push(Failure::ValuesLength {
                    selection,
                    expected,
                    found: values.len(),
                });
            } else if is_quoted {
                quoted = Some(Quoted { selection, values });
            }
        }
        let recognised = policy.recognise(quoted, attachments, &mut failures);
        if failures.is_empty() {
            recognised.ok_or(failures)
        } else {
            Err(failures)
        }
    }
}

/// A quote that the AK signed: the TPM said it, at some time, to somebody.
#[derive(Debug)]
pub struct SignedBy<'a> {
    quote: Quote<'a>,
    ak: &'a AttestationKey,
}

impl<'a> SignedBy<'a> {
    /// Checks that the quote is bound to `qualifying_data` and follows the last accepted quote.
    ///
    /// # Errors
    /// Bound to anything else, or stale.
    pub fn fresh(self, qualifying_data: &[u8; 32], last: Option<&Counters>) -> Result<Fresh<'a>, Rejected> {
        match self.quote.freshness(qualifying_data, last) {
            Ok(continuity) => Ok(Fresh {
                quote: self.quote,
                ak: self.ak,
                continuity,
            }),
            Err(failures) => Err(Rejected::new(failures)),
        }
    }
}

/// A signed quote that answers this challenge and follows the last one.
#[derive(Debug)]
pub struct Fresh<'a> {
    quote: Quote<'a>,
    ak: &'a AttestationKey,
    continuity: Continuity,
}

impl<'a> Fresh<'a> {
    /// Checks that exactly the policy's PCRs are quoted, that `values` are what was quoted, and that they are the
    /// policy's.
    ///
    /// # Errors
    /// Other PCRs, other values than quoted, other values than the policy's.
    pub fn pcrs_match(self, policy: &PcrPolicy, values: &[u8]) -> Result<PcrsMatch<'a>, Rejected> {
        self.pcrs_match_with(policy, values, Attachments::default())
    }

    /// The same for a policy that wants something attached.
    ///
    /// # Errors
    /// As above; and what the policy wants attached is missing, or no good.
    pub fn pcrs_match_with(
        self,
        policy: &PcrPolicy,
        values: &[u8],
        attachments: Attachments<'_>,
    ) -> Result<PcrsMatch<'a>, Rejected> {
        match self.quote.pcrs(policy, values, self.ak, attachments) {
            Ok(Recognised { golden_set, release }) => Ok(PcrsMatch {
                fresh: self,
                golden_set,
                release,
            }),
            Err(failures) => Err(Rejected::new(failures)),
        }
    }
}

/// A fresh quote whose PCRs are the policy's.
#[derive(Debug)]
pub struct PcrsMatch<'a> {
    fresh: Fresh<'a>,
    golden_set: Option<SetName>,
    release: Option<Release>,
}

impl PcrsMatch<'_> {
    /// The end of the chain.
    #[must_use]
    pub fn attested(self) -> Attested {
        let Fresh {
            quote,
            ak,
            continuity,
        } = self.fresh;
        Attested {
            ak_name: ak.shared_name(),
            counters: quote.counters(),
            continuity,
            firmware_version: quote.attest.firmware_version,
            golden_set: self.golden_set,
            release: self.release,
        }
    }
}

/// The verdict that evidence is good: this AK's TPM is, now, in the state that the policy wants.
#[derive(Debug, Clone)]
pub struct Attested {
    ak_name: Arc<TpmName>,
    counters: Counters,
    continuity: Continuity,
    firmware_version: u64,
    golden_set: Option<SetName>,
    release: Option<Release>,
}

impl Attested {
    /// The TPM's counters: the next quote's `last`.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How the quote follows the last accepted one.
    #[must_use]
    pub const fn continuity(&self) -> Continuity {
        self.continuity
    }

    /// The maker's firmware version, true for an AK under the endorsement hierarchy (part 1, 36.7).
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.firmware_version
    }

    /// The golden set whose values the PCRs have; `None` for a policy without such.
    #[must_use]
    pub const fn golden_set(&self) -> Option<&SetName> {
        self.golden_set.as_ref()
    }

    /// The image's release, where the policy wants an image statement.
    #[must_use]
    pub const fn release(&self) -> Option<Release> {
        self.release
    }

    /// The Name of the AK that attested.
    #[must_use]
    pub fn ak_name(&self) -> &TpmName {
        &self.ak_name
    }
}
