//! What a device shows beside its PSK, judged as far as a head can be judged.
//!
//! Owns: sessions (token, claims, signature over the head) and quotes that came in headers, which are appraised only
//! when the body is there, because they are bound to it.

use domain::UnixTime;
use protocol::{
    Refusal, Subject,
    credentials::QuoteHeaders,
    nonce::Nonce,
    signature::{self, RequestHead, SignatureHeaders, SignedHead},
    token::{self, Claims, CurrentClaims},
};

use super::World;
use crate::{
    head::Head,
    view::{Demand, Device, Evidence},
};

/// What stands behind a head that may go upstream.
#[derive(Debug)]
pub enum Proof {
    /// The policy says that the PSK is enough.
    NotDemanded,
    /// The policy says that the client certificate is enough.
    Certificate,
    /// A good session and a good signature over the head; the body must be the signed one.
    Signed(Signed),
    /// A quote that answers a good nonce; nothing else of it was looked at.
    Quoted(Quoted),
}

/// A session that was good when the head came, and a signature that fits the head.
#[derive(Debug)]
pub struct Signed {
    /// The signature; the body must be the signed one.
    pub head: SignedHead,
    claims: Claims,
}

impl Signed {
    /// Whether the session is still good: its time may have passed, and its TPM been reset, while the body came.
    ///
    /// # Errors
    /// Why it is no longer.
    pub fn still(
        &self,
        subject: Subject<'_>,
        device: &Device,
        now: UnixTime,
    ) -> Result<(), (Refusal, String)> {
        let Demand::Evidence(demanded) = device.demand() else {
            return Ok(());
        };
        if now >= self.claims.expires_at {
            let expired = token::OpenError::Expired(self.claims.expires_at);
            return Err((expired.into(), expired.to_string()));
        }
        stands(&self.claims, subject, device, demanded)
    }
}

/// Evidence out of a request's headers, yet to be appraised.
#[derive(Debug)]
pub struct Quoted {
    /// The evidence.
    pub quote: QuoteHeaders,
    /// The nonce that it says it answers: ours, for this device, and fresh.
    pub nonce: Nonce,
}

/// What a session is judged by.
pub(super) struct Session<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) subject: Subject<'a>,
    pub(super) device: &'a Device,
    pub(super) demanded: &'a Evidence,
}

pub(super) fn session(
    head: &Head<'_>,
    token: &str,
    headers: &SignatureHeaders<'_>,
    by: &Session<'_>,
    now: UnixTime,
) -> Result<Signed, (Refusal, String)> {
    let claims = token::open(by.world.keys, token, now).map_err(|e| (e.into(), e.to_string()))?;
    stands(&claims, by.subject, by.device, by.demanded)?;
    let request = RequestHead {
        method: head.method.as_str(),
        path: head.path,
        query: head.query,
        session: token,
    };
    let head = signature::verify_head(&claims.public_key, &request, headers, now)
        .map_err(|e| (e.into(), e.to_string()))?;
    Ok(Signed { head, claims })
}

/// Whether every claim is what is so now.
fn stands(
    claims: &Claims,
    subject: Subject<'_>,
    device: &Device,
    demanded: &Evidence,
) -> Result<(), (Refusal, String)> {
    let entry = device.entry();
    let current = CurrentClaims {
        subject,
        ak_name: demanded.ak.name(),
        generation: entry.record.generation,
        policy: &entry.record.policy,
        policy_revision: entry.policy.revision,
        seen: device.last_seen().counts(),
    };
    claims.matches(&current).map_err(|e| (e.into(), e.to_string()))
}
