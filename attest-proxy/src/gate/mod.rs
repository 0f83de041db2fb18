//! The gate: a pure decision about a request's head.
//!
//! Owns: the order in which a stranger becomes an admitted device, and what each step refuses:
//! PSK (or a verified client certificate, where the policy takes one) -> device -> path -> what the device's policy demands. `decide(head, world, now) -> Admit | Refused`.
//! Refuses: to take an identity from the request. The digest of the PSK finds the device; its record names its AK and
//! its policy. A device whose policy wants evidence leaves here admitted only with a session whose signature fits, or
//! with a quote that is yet to be appraised over the body: [`Proof::Quoted`] is a debt, not a pass.
//! Pure: no I/O, no clock, no randomness. An attacker controls the whole head and the time at which it comes.

mod certificate;
mod proof;
#[cfg(test)]
mod tests;

use std::{fmt::Display, sync::Arc};

use domain::{Audience, DeviceId, FleetName, PskDigest, UnixTime};
use protocol::{
    KeyRing, Refusal, Subject,
    credentials::{self, CredentialsError, Presented},
    nonce::{self, Nonce},
};

pub use certificate::Footing;
pub use proof::{Proof, Quoted, Signed};

use crate::{
    head::Head,
    meter::Over,
    routes::{self, Forward, Route},
    verdict::Verdict,
    view::{Demand, Device, Found, View},
};

/// What the proxy knows when a request comes.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The devices. `None`: the registry was never read, or not proven alive for too long.
    pub view: Option<&'a View>,
    /// The fleet's keys.
    pub keys: &'a KeyRing,
    /// Whose devices are admitted.
    pub site: &'a Site,
    /// From when on this process serves; nothing from before is believed.
    pub started_at: UnixTime,
}

/// Who this service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The fleet.
    pub fleet: FleetName,
    /// The service's name in quotes.
    pub audience: Audience,
}

impl Site {
    /// The subject of everything that a device's PSK asks for.
    #[must_use]
    pub fn subject<'a>(&'a self, device: &'a Device, psk: &'a PskDigest) -> Subject<'a> {
        Subject {
            fleet: &self.fleet,
            audience: &self.audience,
            device: device.id(),
            psk,
        }
    }
}

/// A head that is admitted.
#[derive(Debug)]
pub struct Admit {
    /// Whose request it is.
    pub device: Arc<Device>,
    /// SHA-256 of the PSK that came; if a client certificate came in its place, of the device's current one.
    pub psk: PskDigest,
    /// What it stands on while it is answered.
    pub footing: Footing,
    /// What it may have.
    pub to: Grant,
}

/// What an admitted head may have.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is the large one, and it is moved once: a box would cost each an allocation"
)]
pub enum Grant {
    /// A nonce.
    Challenge,
    /// To show evidence in the body, and get a session for it.
    OpenSession,
    /// The upstream, once its proof stands up to the body.
    Upstream(Forward, Proof),
}

/// A request that is refused, and all that the operator is told.
#[derive(Debug)]
pub struct Refused {
    /// What the client is told.
    pub refusal: Refusal,
    /// About whom the operator is told.
    pub who: Who,
    /// What the operator is told.
    pub why: String,
    /// What the operator is told of evidence that was judged.
    pub verdict: Option<Box<Verdict>>,
    /// Over which limit it is, if it is over one.
    pub over: Option<Box<Over>>,
}

/// Whom a refusal is about.
#[derive(Debug, Clone)]
pub enum Who {
    /// A stranger.
    Nobody,
    /// Someone whose key leads to no device.
    Key(PskDigest),
    /// A device that may not be used. To the client it is a stranger.
    Unusable(PskDigest, DeviceId),
    /// A device that may be used, and can be given a challenge.
    Device(PskDigest, Arc<Device>),
}

impl Refused {
    pub(crate) fn new(refusal: Refusal, who: Who, why: impl Display) -> Self {
        Self {
            refusal,
            who,
            why: why.to_string(),
            verdict: None,
            over: None,
        }
    }

    pub(crate) fn with(self, verdict: Verdict) -> Self {
        Self {
            verdict: Some(Box::new(verdict)),
            ..self
        }
    }

    /// A refusal of a device's request that is over a limit.
    pub(crate) fn over(over: Over, admitted: (&PskDigest, &Arc<Device>)) -> Self {
        Self {
            over: Some(Box::new(over)),
            ..Self::of(over.refusal, admitted, over)
        }
    }

    /// A refusal of a known device's request.
    pub(crate) fn of(
        refusal: impl Into<Refusal>,
        admitted: (&PskDigest, &Arc<Device>),
        why: impl Display,
    ) -> Self {
        let (psk, device) = admitted;
        Self::new(refusal.into(), Who::Device(*psk, Arc::clone(device)), why)
    }
}

/// Decides about a head.
///
/// # Errors
/// The first reason for which it goes no further.
pub fn decide(head: &Head<'_>, world: &World<'_>, now: UnixTime) -> Result<Admit, Refused> {
    let credentials = match (credentials::read(head.headers), certificate::alone(head)) {
        (Ok(credentials), _) => credentials,
        (Err(CredentialsError::PskMissing), Some(key)) => return certificate::admit(head, key, world, now),
        (Err(e), _) => {
            let why = e.to_string();
            return Err(Refused::new(e.into(), Who::Nobody, why));
        }
    };
    let psk = credentials.psk;
    // A registry that cannot be asked is our fault, not the client's: 503, never 401.
    let view = world.view.ok_or_else(|| {
        Refused::new(
            Refusal::RegistryStale,
            Who::Key(psk),
            "the registry is out of reach",
        )
    })?;
    let device = match view.find(&psk, now) {
        Found::Device(device) => Arc::clone(device),
        Found::Unknown => {
            return Err(Refused::new(
                Refusal::PskUnknown,
                Who::Key(psk),
                "no device has this pre-shared key",
            ));
        }
        Found::Unusable { device, why } => {
            return Err(Refused::new(
                Refusal::PskUnknown,
                Who::Unusable(psk, device.clone()),
                why,
            ));
        }
    };
    let footing = certificate::beside(head, view, psk, &device, now)?;
    let route = routes::find(head.method, head.path)
        .map_err(|refusal| Refused::of(refusal, (&psk, &device), "not on the list of paths"))?;
    if let Route::Forward(Forward {
        endpoint: Some(endpoint),
        ..
    }) = route
        && !device.entry().policy.allows_endpoint(endpoint)
    {
        let why = format_args!("the policy does not have the endpoint {endpoint}");
        return Err(Refused::of(Refusal::PathDenied, (&psk, &device), why));
    }
    let to = match route {
        Route::Challenge => Grant::Challenge,
        Route::Session => Grant::OpenSession,
        Route::Forward(forward) => Grant::Upstream(
            forward,
            prove(head, credentials.presented, world, (&psk, &device), now)?,
        ),
    };
    Ok(Admit {
        device,
        psk,
        footing,
        to,
    })
}

/// What the device shows, against what its policy demands.
fn prove(
    head: &Head<'_>,
    presented: Presented<'_>,
    world: &World<'_>,
    who: (&PskDigest, &Arc<Device>),
    now: UnixTime,
) -> Result<Proof, Refused> {
    let (psk, device) = who;
    let Demand::Evidence(demanded) = device.demand() else {
        // The policy says that the PSK is enough. A quote or session beside it is not judged: a client that was told
        // so only now still holds one.
        return Ok(Proof::NotDemanded);
    };
    let subject = world.site.subject(device, psk);
    match presented {
        Presented::PskOnly => {
            let why = "the policy wants evidence, the request has its pre-shared key alone";
            Err(Refused::of(Refusal::EvidenceMissing, who, why))
        }
        Presented::Quote(quote) => {
            if let Some(wanted) = demanded.attachments() {
                let why = format_args!(
                    "the policy wants {wanted} with the quote, which headers have no room for: it comes in a session request"
                );
                return Err(Refused::of(Refusal::EvidenceMissing, who, why));
            }
            let nonce = check_nonce(&subject, &quote.nonce, world, now)
                .map_err(|e| Refused::of(e, who, format_args!("nonce: {e}")))?;
            Ok(Proof::Quoted(Quoted { quote, nonce }))
        }
        Presented::Session {
            token,
            content_digest,
            signature_input,
            signature,
        } => {
            let headers = protocol::signature::SignatureHeaders {
                content_digest,
                signature_input,
                signature,
            };
            proof::session(
                head,
                token,
                &headers,
                &proof::Session {
                    world,
                    subject,
                    device,
                    demanded,
                },
                now,
            )
            .map(Proof::Signed)
            .map_err(|(refusal, why)| Refused::of(refusal, who, why))
        }
    }
}

/// Checks the nonce that evidence answers.
///
/// # Errors
/// Why it is none of ours, or no longer good.
pub fn check_nonce(
    subject: &Subject<'_>,
    nonce: &[u8],
    world: &World<'_>,
    now: UnixTime,
) -> Result<Nonce, nonce::Invalid> {
    nonce::check(world.keys, subject, nonce, now, world.started_at)
}
