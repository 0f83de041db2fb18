//! The proxy's own endpoints: a nonce to quote, and a session for a good quote.
//!
//! Owns: `GET /attest/v1/challenge` and `POST /attest/v1/session` (wire contract, "Endpoints of the proxy"), and the nonces
//! in refusals. Who asks was found by the gate; an attacker controls the whole body of a session request, which is
//! bounded before it is read.

use std::time::Duration;

use bytes::Bytes;
use domain::{HashAlg, UnixTime};
use evidence::{Attachments, Attested, Evidence};
use http::Response;
use protocol::{
    Refusal,
    binding::Binding,
    messages::{Challenge, MAX_EVENT_LOG, MAX_IMAGE_STATEMENT, SessionGranted, SessionRequest},
    nonce::{self, Nonce},
    signature,
    token::{self, Claims},
};
use registry::PolicyRecord;
use ring::rand::SecureRandom as _;

use crate::{
    attest::Shown,
    gate::{Refused, Who},
    respond::{self, Body},
    service::{Known, Proxy},
    view::Demand,
};

/// The longest body of a session request, in bytes: a quote of up to 6 kB, and the longest attachments that the contract
/// takes, in base64.
pub(crate) const SESSION_BODY: usize = 256 << 10;

const _: () = assert!(
    (MAX_EVENT_LOG + MAX_IMAGE_STATEMENT) / 3 * 4 + (8 << 10) < SESSION_BODY,
    "a session request has room for its longest attachments"
);

impl Proxy {
    /// Opens a session for the key that a good quote covers.
    pub(crate) async fn open_session(&self, body: &Bytes, who: Known<'_>) -> Result<Response<Body>, Refused> {
        let (psk, device) = who;
        let now = self.clock.now();
        let request: SessionRequest = serde_json::from_slice(body).map_err(|e| {
            // The reader's own words could repeat what was sent.
            let why = format_args!(
                "not a session request: {:?} at {}:{}",
                e.classify(),
                e.line(),
                e.column()
            );
            Refused::of(Refusal::RequestMalformed, who, why)
        })?;
        let public_key =
            signature::check_public_key(&request.public_key).map_err(|e| Refused::of(e, who, e))?;
        let subject = self.site.subject(device, psk);
        let nonce = nonce::check(
            &self.keys.load().0,
            &subject,
            &request.nonce,
            now,
            self.start.by(now),
        )
        .map_err(|e| Refused::of(e, who, format_args!("nonce: {e}")))?;
        let shown = Shown {
            evidence: Evidence {
                quote: &request.quote,
                signature: &request.signature,
                pcrs: &request.pcrs,
            },
            attachments: Attachments {
                event_log: request.event_log.as_deref(),
                image_statement: request.image_statement.as_deref(),
            },
        };
        let binding = Binding::Session {
            public_key: &public_key,
        };
        let attested = self.accept(shown, &nonce, binding, who, now).await?;
        let entry = device.entry();
        let mut ttl = Duration::from_secs(entry.policy.session_ttl);
        // A session does not outlive the golden set by which it was opened.
        if let Some(end) = end_of(&attested, &entry.policy) {
            ttl = ttl.min(Duration::from_secs(end.as_secs().saturating_sub(now.as_secs())));
        }
        let claims = Claims {
            fleet: self.site.fleet.clone(),
            audience: self.site.audience.clone(),
            device: device.id().clone(),
            psk: *psk,
            ak_name: attested.ak_name().clone(),
            public_key,
            generation: entry.record.generation,
            policy: entry.record.policy.clone(),
            policy_revision: entry.policy.revision,
            reset_count: attested.counters().reset_count,
            restart_count: attested.counters().restart_count,
            expires_at: now.plus(ttl),
        };
        let session = token::mint(&self.keys.load().0, &claims);
        self.metrics.session();
        let granted = SessionGranted {
            session,
            expires_in: ttl.as_secs(),
            device: device.id().clone(),
        };
        Ok(respond::json(serde_json::to_vec(&granted).unwrap_or_default()))
    }

    /// A nonce, and what to do with it. `None`: the system has no randomness.
    pub(crate) fn challenge(&self, who: Known<'_>) -> Option<Response<Body>> {
        let now = self.clock.now();
        let nonce = self.nonce(who, now)?;
        let (bank, select) = match who.1.demand() {
            Demand::Evidence(demanded) => {
                let selection = demanded.policy.selection();
                (selection.bank(), selection.iter().collect())
            }
            Demand::Nothing | Demand::Impossible(_) => (HashAlg::Sha256, Vec::new()),
        };
        let challenge = Challenge {
            nonce: nonce.into(),
            audience: self.site.audience.clone(),
            bank,
            select,
            expires_in: nonce::LIFETIME.as_secs(),
            now,
        };
        Some(respond::json(serde_json::to_vec(&challenge).ok()?))
    }

    /// A nonce for a refusal, if it is about a device that could answer it.
    pub(crate) fn challenge_for(&self, who: &Who) -> Option<Nonce> {
        match who {
            Who::Device(psk, device) => self.nonce((psk, device), self.clock.now()),
            Who::Nobody | Who::Key(_) | Who::Unusable(..) => None,
        }
    }

    fn nonce(&self, (psk, device): Known<'_>, now: UnixTime) -> Option<Nonce> {
        let mut random = [0; 8];
        self.random.fill(&mut random).ok()?;
        let subject = self.site.subject(device, psk);
        Some(nonce::issue(&self.keys.load().0, &subject, now, random))
    }
}

/// When the golden set ends whose values the PCRs have.
fn end_of(attested: &Attested, policy: &PolicyRecord) -> Option<UnixTime> {
    let name = attested.golden_set()?;
    let sets = &policy.evidence.as_ref()?.parts().golden;
    sets.iter().find(|set| set.name == *name)?.until
}
