//! Evidence, from its bytes to an accepted quote that every replica knows of.
//!
//! Owns: the appraisal against what was seen last, the memory of used nonces, and the write of `/seen/<device>`: by
//! compare-and-swap; when another replica was faster, what it wrote is read and the evidence is judged again.
//! Refuses: evidence whose acceptance could not be written. A quote counts only once the others can know of it.
//! An attacker controls every byte of the evidence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{PskDigest, UnixTime};
use evidence::{Attachments, Attested, Expected, FailureClass, Rejected};
use protocol::{
    Refusal,
    binding::{self, Binding},
    nonce::Nonce,
    replay::{ReplayError, Seen},
    signature::VerifiedSignature,
};
use registry::{Registry, SeenRecord, Version1, Versioned, WriteError};
use serde_json::json;

use crate::{
    clock::Start,
    gate::{Refused, Site},
    verdict::{Verdict, lacks_attachment},
    view::{Demand, Device, counters},
};

/// How many failed checks of one refusal are told. A device's root can have thousands fail, one for each word that it had
/// measured.
const MAX_TOLD: usize = 64;
/// How often another replica may be faster before we give up.
const ATTEMPTS: usize = 4;

/// Evidence as it came.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The quote.
    pub evidence: evidence::Evidence<'a>,
    /// What came beside it; nothing does in a request's headers.
    pub attachments: Attachments<'a>,
}

/// Who sent evidence, for what, and when.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// Who this service is.
    pub site: &'a Site,
    /// The device that the PSK found.
    pub device: &'a Arc<Device>,
    /// SHA-256 of the PSK.
    pub psk: &'a PskDigest,
    /// The nonce, checked.
    pub nonce: &'a Nonce,
    /// What the evidence must vouch for.
    pub binding: Binding<'a>,
    /// Our clock.
    pub now: UnixTime,
}

/// What was accepted lately, behind its lock. Held for one look-up, never across an await.
#[derive(Debug)]
pub struct Replays {
    start: Start,
    seen: Mutex<Seen>,
}

impl Replays {
    /// An empty memory.
    #[must_use]
    pub fn new(start: Start, capacity: usize) -> Self {
        Self {
            start,
            seen: Mutex::new(Seen::new(start.shown(), capacity)),
        }
    }

    /// Accepts a request's signature once.
    ///
    /// # Errors
    /// It was accepted before, is from before our start, or the memory is full.
    pub fn signature(&self, signature: &VerifiedSignature, now: UnixTime) -> Result<(), ReplayError> {
        let mut seen = self.lock();
        seen.started(self.start.by(now));
        seen.accept_signature(signature, now)
    }

    fn nonce(&self, nonce: &Nonce, now: UnixTime) -> Result<(), ReplayError> {
        self.lock().accept_nonce(nonce, now)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere cannot leave the set half-changed in a way that accepts twice.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the runtime's other tasks have their turn before a signature is checked. On one core, heads that are read one after
/// another, and signatures that are checked one after another, find their code and tables in the processor's caches;
/// taken by turns, each sends the other's away. And who shows no signature need not wait for those who do.
pub async fn after_others() {
    tokio::task::yield_now().await;
}

/// Judges evidence, and makes its acceptance known.
///
/// # Errors
/// Refused with every failed check, or the registry could not be written.
pub async fn accept(
    shown: Shown<'_>,
    claim: &Claim<'_>,
    replays: &Replays,
    registry: &dyn Registry,
) -> Result<Attested, Refused> {
    after_others().await;
    let who = (claim.psk, claim.device);
    let last_seen = claim.device.last_seen();
    let mut gone = false;
    for attempt in 0..ATTEMPTS {
        let last = last_seen.get();
        let attested = appraise(shown, claim, last.as_deref())?;
        if attempt == 0 {
            replays
                .nonce(claim.nonce, claim.now)
                .map_err(|e| Refused::of(e, who, e))?;
        }
        let record = record(&attested, claim.now);
        let expected = last.filter(|_| !gone).map(|seen| seen.revision);
        match registry
            .put_seen(claim.device.id(), record.clone(), expected)
            .await
        {
            Ok(revision) => {
                last_seen.advance(Versioned {
                    value: record,
                    revision,
                });
                return Ok(attested);
            }
            Err(WriteError::Stale { .. }) => match registry.seen(claim.device.id()).await {
                Ok(newer) => {
                    // Somebody removed it: written anew, and still judged by what was seen here.
                    gone = newer.is_none();
                    if let Some(newer) = newer {
                        last_seen.advance(newer);
                    }
                }
                Err(e) => return Err(unwritten(who, e)),
            },
            Err(e) => return Err(unwritten(who, e)),
        }
    }
    Err(Refused::of(
        Refusal::Overloaded,
        who,
        "other quotes of this device were faster, again and again",
    ))
}

/// The pure part: one appraisal against one record.
fn appraise(
    shown: Shown<'_>,
    claim: &Claim<'_>,
    last: Option<&Versioned<SeenRecord>>,
) -> Result<Attested, Refused> {
    let who = (claim.psk, claim.device);
    let Demand::Evidence(demanded) = claim.device.demand() else {
        return Err(Refused::of(
            Refusal::EvidenceInvalid,
            who,
            "the policy wants no evidence: there is no key to judge it by",
        ));
    };
    let subject = claim.site.subject(claim.device, claim.psk);
    let qualifying_data = binding::qualifying_data(&subject, claim.nonce.as_bytes(), &claim.binding);
    let last = last.map(|seen| counters(&seen.value));
    let expected = Expected {
        ak: &demanded.ak,
        qualifying_data: &qualifying_data,
        last: last.as_ref(),
        policy: &demanded.policy.at(claim.now),
    };
    evidence::appraise_with(shown.evidence, &expected, shown.attachments).map_err(|rejected| {
        let refusal = match rejected.class() {
            FailureClass::Stale => Refusal::EvidenceStale,
            // What is missing is the request's own doing, and tells nothing of the other checks.
            _ if lacks_attachment(&rejected) => Refusal::EvidenceMissing,
            FailureClass::Invalid => Refusal::EvidenceInvalid,
            FailureClass::Mismatch => Refusal::EvidenceMismatch,
        };
        let mut verdict = Verdict::new(&rejected, shown.evidence.quote, last);
        let (sentences, more) = told(&rejected);
        if let Some(more) = more {
            verdict.failed.truncate(MAX_TOLD);
            verdict.failed.push(json!({ "check": "more", "says": more }));
        }
        Refused::of(refusal, who, sentences).with(verdict)
    })
}

/// The sentences of the first [`MAX_TOLD`] failed checks, and how many more there are, where there are more.
fn told(rejected: &Rejected) -> (String, Option<String>) {
    let all = rejected.failures();
    let more = all.len().checked_sub(MAX_TOLD).filter(|more| *more > 0);
    let more = more.map(|more| format!("{more} more checks failed"));
    let sentences = all.iter().take(MAX_TOLD).map(ToString::to_string);
    let sentences: Vec<_> = sentences.chain(more.clone()).collect();
    (sentences.join("; "), more)
}

fn record(attested: &Attested, at: UnixTime) -> SeenRecord {
    let counters = attested.counters();
    SeenRecord {
        version: Version1,
        reset_count: counters.reset_count,
        restart_count: counters.restart_count,
        clock: counters.clock,
        safe: counters.safe,
        firmware_version: attested.firmware_version(),
        at,
    }
}

fn unwritten(who: (&PskDigest, &Arc<Device>), why: impl std::fmt::Display) -> Refused {
    Refused::of(
        Refusal::RegistryStale,
        who,
        format_args!("the accepted quote could not be recorded: {why}"),
    )
}
