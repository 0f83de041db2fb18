//! TLS client certificates as a proof of who asks.
//!
//! Owns: what a certificate counts for under each policy, and what an admitted request stands on while it is answered.
//! Refuses: a certificate alone where evidence is wanted (evidence is bound to the pre-shared key), another device's
//! certificate beside a key, and none where one is required. The client is told no more than a stranger is.
//! Pure. The certificate is the one that TLS verified on this connection; no field of a request is one. An attacker
//! may hold a certificate of the same CA: only the key that the device's record names counts.
//! Limits: a certificate's dates are judged at the handshake, so that a connection may outlive them, no longer than
//! `connection-age`. Suspend the device to end it at once.

use std::{fmt::Display, sync::Arc};

use domain::{CertificateKeyDigest, PskDigest, UnixTime};
use protocol::{Refusal, credentials::STRIPPED};
use registry::CertificateRule;

use super::{Admit, Grant, Proof, Refused, Who, World};
use crate::{
    head::Head,
    routes::{self, Route},
    view::{Demand, Device, Found, View},
};

/// What an admitted request stands on, for as long as it is answered.
#[derive(Debug, Clone)]
pub struct Footing {
    /// The view and the second for which it was found to be so: for these it need not be found again.
    proven: (u64, UnixTime),
    device: Arc<Device>,
    psk: Option<PskDigest>,
    certificate: Option<CertificateKeyDigest>,
}

impl Footing {
    /// Whether it is what this view said in this second: then it holds, and the device is what it was.
    #[must_use]
    pub fn is_of(&self, view: &View, now: UnixTime) -> bool {
        self.proven == (view.number(), now)
    }

    /// Whether it is still so. Of a certificate alone, any edit of the device's record ends it.
    #[must_use]
    pub fn holds(&self, view: &View, now: UnixTime) -> bool {
        if self.is_of(view, now) {
            return true;
        }
        let same = |found| matches!(found, Found::Device(now) if now.id() == self.device.id());
        let certified = |key| match view.find_certificate(key) {
            Found::Device(now) if self.psk.is_none() => {
                now.id() == self.device.id()
                    && now.entry().record.generation == self.device.entry().record.generation
                    && suffices(now).is_ok()
            }
            found => same(found),
        };
        self.psk.as_ref().is_none_or(|psk| same(view.find(psk, now)))
            && self.certificate.as_ref().is_none_or(certified)
    }
}

/// Whether a device may do without a pre-shared key.
fn suffices(device: &Device) -> Result<(), &'static str> {
    match (device.entry().policy.client_certificate, device.demand()) {
        (None, _) => Err("its policy does not look at client certificates"),
        (Some(CertificateRule::Required), _) => {
            Err("its policy wants the pre-shared key beside the client certificate")
        }
        (Some(CertificateRule::Accepted), Demand::Nothing) => Ok(()),
        (Some(CertificateRule::Accepted), Demand::Evidence(_) | Demand::Impossible(_)) => {
            Err("its policy wants evidence, which is bound to the pre-shared key")
        }
    }
}

/// The certificate of a request that has no field of a pre-shared key, quote or session, not even an empty one.
pub(super) fn alone(head: &Head<'_>) -> Option<CertificateKeyDigest> {
    head.certificate
        .filter(|_| STRIPPED.iter().all(|name| !head.headers.contains_key(name)))
}

/// Decides about a request that has a certificate and no pre-shared key.
pub(super) fn admit(
    head: &Head<'_>,
    key: CertificateKeyDigest,
    world: &World<'_>,
    now: UnixTime,
) -> Result<Admit, Refused> {
    let view = world.view.ok_or_else(|| {
        Refused::new(
            Refusal::RegistryStale,
            Who::Nobody,
            "the registry is out of reach",
        )
    })?;
    // To the client, a certificate that helps nothing is as none.
    let missing = |why: &dyn Display| {
        let short = key.short();
        let why = format!(
            "no pre-shared key, and the client certificate of key {short} does not stand in for it: {why}"
        );
        Refused::new(Refusal::PskMissing, Who::Nobody, why)
    };
    let device = match view.find_certificate(&key) {
        Found::Device(device) => Arc::clone(device),
        Found::Unknown => return Err(missing(&"no device has it")),
        Found::Unusable { device, why } => return Err(missing(&format_args!("device '{device}': {why}"))),
    };
    suffices(&device).map_err(|why| missing(&format_args!("device '{}': {why}", device.id())))?;
    // What is kept by a key's digest (log, meters) is kept by that of the device's current one.
    let psk = device.entry().record.psk.current;
    let who = (&psk, &device);
    let route = routes::find(head.method, head.path)
        .map_err(|refusal| Refused::of(refusal, who, "not on the list of paths"))?;
    let Route::Forward(forward) = route else {
        return Err(missing(&format_args!(
            "device '{}': nonces and sessions are bound to the pre-shared key",
            device.id()
        )));
    };
    Ok(Admit {
        footing: Footing {
            proven: (view.number(), now),
            device: Arc::clone(&device),
            psk: None,
            certificate: Some(key),
        },
        device,
        psk,
        to: Grant::Upstream(forward, Proof::Certificate),
    })
}

/// Judges the certificate beside a pre-shared key, which has found `device`.
pub(super) fn beside(
    head: &Head<'_>,
    view: &View,
    psk: PskDigest,
    device: &Arc<Device>,
    now: UnixTime,
) -> Result<Footing, Refused> {
    let refused = |why: &dyn Display| {
        let who = Who::Unusable(psk, device.id().clone());
        Refused::new(Refusal::PskUnknown, who, why)
    };
    let rule = device.entry().policy.client_certificate;
    // Where the policy does not look at it, no answer hangs on it.
    if let (Some(_), Some(key)) = (rule, &head.certificate) {
        match view.find_certificate(key) {
            Found::Device(other) if other.id() != device.id() => {
                return Err(refused(&format_args!(
                    "the client certificate is device '{}'s",
                    other.id()
                )));
            }
            Found::Unusable { device: other, .. } if other != device.id() => {
                return Err(refused(&format_args!(
                    "the client certificate is device '{other}'s"
                )));
            }
            Found::Device(_) | Found::Unusable { .. } | Found::Unknown => {}
        }
    }
    let mut footing = Footing {
        proven: (view.number(), now),
        device: Arc::clone(device),
        psk: Some(psk),
        certificate: None,
    };
    if rule != Some(CertificateRule::Required) {
        return Ok(footing);
    }
    let Some(known) = device.entry().record.client_certificate else {
        return Err(refused(
            &"its policy requires a client certificate, and it has none on record",
        ));
    };
    match head.certificate {
        None => {
            return Err(refused(
                &"its policy requires a client certificate, and none came",
            ));
        }
        Some(key) if key != known => {
            return Err(refused(&format_args!(
                "its policy requires a client certificate, and the one of key {} is not the one on record",
                key.short()
            )));
        }
        Some(key) => footing.certificate = Some(key),
    }
    Ok(footing)
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
