//! One request, from its head to its answer.
//!
//! Owns: the order of the work around the pure decision: framing, head, gate, body, proof over the body, body policy,
//! upstream; and that every way out ends in one answer and one line of the log.
//! Refuses: nothing on its own account; every refusal comes from the module that found the reason.
//! No lock is held across an await; the view and the keys are let go before the body is waited for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domain::{Sha256Digest, UnixTime};
use evidence::{Attachments, Evidence};
use http::{Request, Response, request::Parts};
use hyper::body::{Body as _, Incoming};
use protocol::{KeyRing, Refusal, binding::Binding, headers, nonce::Nonce};
use ring::rand::SystemRandom;

use crate::{
    account::{Account, Telemetry},
    attest::{self, Claim, Replays, Shown},
    body,
    clock::{Clock, Start},
    config::{Limits, Tunable},
    endpoints::SESSION_BODY,
    follow::Follow,
    forward, forwarded,
    gate::{self, Admit, Footing, Grant, Proof, Refused, Site, Who, World},
    head::{Head, HeadError, check_ended},
    memory::Budget,
    meter::{Framing, Meters, Ticket},
    metrics::Metrics,
    receive::receive,
    respond::{self, Body},
    routes::{Class, Forward},
    upstream::Upstream,
    wire::Conn,
};

/// Everything that requests share.
#[derive(Debug)]
pub struct Proxy {
    /// Who this service is.
    pub site: Site,
    /// The fleet's keys; replaced on reload.
    pub keys: ArcSwap<Keys>,
    /// The registry.
    pub follow: Arc<Follow>,
    /// What was accepted lately.
    pub replays: Replays,
    /// The model server.
    pub upstream: Upstream,
    /// Bounds, and who speaks for others; replaced on reload.
    pub tuned: ArcSwap<Tunable>,
    /// Memory for bodies.
    pub bodies: Budget,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What devices have used.
    pub meters: Arc<Meters>,
    /// Who is told what came of requests.
    pub told: Arc<Telemetry>,
    /// The wall clock.
    pub clock: Clock,
    /// From when on this process serves.
    pub start: Start,
    /// Randomness for nonces.
    pub random: SystemRandom,
}

/// A key ring that shows nothing of itself.
pub struct Keys(pub KeyRing);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.current().id())
    }
}

/// What came of a request, beside its answer.
struct Admitted {
    response: Response<Body>,
    who: Who,
}

impl Proxy {
    /// Waits until requests can be admitted: the start's second is over and the registry was read.
    pub async fn settled(&self) {
        while !self.start.is_over(&self.clock) || self.follow.view().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>, conn: &Arc<Conn>) -> Response<Body> {
        let busy = conn.busy();
        let (parts, body) = request.into_parts();
        let client = forwarded::client(conn.peer(), &parts.headers, &self.tuned.load().peers);
        let mut account = self.told.begin(&parts, Some(client));
        let response = match self.work(&parts, body, conn, &mut account).await {
            Ok(Admitted { response, who }) => {
                account.admitted(who, response.status().as_u16());
                response
            }
            Err(mut refused) => {
                let refusal = refused.refusal;
                let challenge = refusal
                    .wants_challenge()
                    .then(|| self.challenge_for(&refused.who))
                    .flatten();
                let over = refused.over.take();
                account.refused(refused);
                respond::refuse(refusal, parts.uri.path(), challenge.as_ref(), over.as_deref())
            }
        };
        account.decided(&parts);
        response.map(|body| body.busy(busy).accounted(account))
    }

    async fn work(
        &self,
        parts: &Parts,
        body: Incoming,
        conn: &Conn,
        account: &mut Account,
    ) -> Result<Admitted, Refused> {
        account.writable()?;
        let tuned = self.tuned.load_full();
        let limits = &tuned.limits;
        let head = check(parts, conn, limits)?;
        check_ended(parts, body.is_end_stream()).map_err(|e| malformed(&e))?;
        if head.headers.contains_key(headers::SESSION) {
            attest::after_others().await;
        }
        let decided = self.decide(&head);
        let then = account.spend(account.started);
        let mut admit = decided?;
        account.head_admitted(&admit);
        if matches!(admit.to, Grant::Challenge) {
            let Some(response) = self.challenge((&admit.psk, &admit.device)) else {
                return Err(Refused::of(
                    Refusal::Overloaded,
                    (&admit.psk, &admit.device),
                    "no randomness",
                ));
            };
            return Ok(Admitted {
                response,
                who: Who::Device(admit.psk, admit.device),
            });
        }
        let limit = match admit.to {
            Grant::OpenSession => SESSION_BODY.min(limits.body_bytes),
            _ => limits.body_bytes,
        };
        let received = receive(&parts.headers, body, limit, limits, &self.bodies)
            .await
            .map_err(|e| Refused::of(e.refusal(), (&admit.psk, &admit.device), e))?;
        let body = &received.bytes;
        // A body that broke the framing is known by now. And while it came, the registry may have changed.
        let begun = if received.waited { Instant::now() } else { then };
        framed(conn)?;
        if received.waited && !self.is_current(&admit) {
            admit = self.decide(&head)?;
        }
        let Admit {
            device,
            psk,
            footing,
            to,
        } = admit;
        let who = (&psk, &device);
        let response = match to {
            Grant::Upstream(route, proof) => {
                let proven = self.prove(&head, body, proof, who).await;
                account.spend(begun);
                proven?;
                self.forward(&head, route, body, (who, footing), account).await?
            }
            Grant::OpenSession | Grant::Challenge => {
                let opened = Box::pin(self.open_session(body, who)).await;
                account.spend(begun);
                opened?
            }
        };
        Ok(Admitted {
            response,
            who: Who::Device(psk, device),
        })
    }

    fn decide(&self, head: &Head<'_>) -> Result<Admit, Refused> {
        let view = self.follow.view();
        let keys = self.keys.load();
        let now = self.clock.now();
        let world = self.world(view.as_ref().map(|v| &***v), &keys, now);
        gate::decide(head, &world, now)
    }

    fn world<'a>(&'a self, view: Option<&'a crate::view::View>, keys: &'a Keys, now: UnixTime) -> World<'a> {
        World {
            view,
            keys: &keys.0,
            site: &self.site,
            started_at: self.start.by(now),
        }
    }

    /// Whether the device is what it was when its head was admitted.
    fn is_current(&self, admit: &Admit) -> bool {
        let now = self.clock.now();
        self.follow.view().is_some_and(|view| {
            admit.footing.is_of(&view, now)
                || view
                    .device(admit.device.id())
                    .is_some_and(|now| Arc::ptr_eq(now, &admit.device))
                    && admit.footing.holds(&view, now)
        })
    }

    /// What is owed over the body: the signed one, or the one that the quote is bound to.
    async fn prove(
        &self,
        head: &Head<'_>,
        body: &Bytes,
        proof: Proof,
        who: Known<'_>,
    ) -> Result<(), Refused> {
        match proof {
            Proof::NotDemanded | Proof::Certificate => Ok(()),
            Proof::Signed(signed) => {
                let now = self.clock.now();
                let (psk, device) = who;
                signed
                    .still(self.site.subject(device, psk), device, now)
                    .map_err(|(refusal, why)| Refused::of(refusal, who, why))?;
                let verified = signed
                    .head
                    .with_body(&Sha256Digest::of(body))
                    .map_err(|e| Refused::of(e, who, e))?;
                self.replays
                    .signature(&verified, now)
                    .map_err(|e| Refused::of(e, who, e))
            }
            Proof::Quoted(quoted) => {
                let quote = &quoted.quote;
                let digest = Sha256Digest::of(body);
                let shown = Shown {
                    evidence: Evidence {
                        quote: &quote.quote,
                        signature: &quote.signature,
                        pcrs: &quote.pcrs,
                    },
                    attachments: Attachments::default(),
                };
                let binding = Binding::Request {
                    method: head.method.as_str(),
                    target: head.target,
                    body: &digest,
                };
                // Boxed, like all that few requests do: every request has room for the largest of its parts.
                Box::pin(self.accept(shown, &quoted.nonce, binding, who, self.clock.now()))
                    .await
                    .map(drop)
            }
        }
    }

    /// Judges evidence and makes its acceptance known.
    pub(crate) async fn accept(
        &self,
        shown: Shown<'_>,
        nonce: &Nonce,
        binding: Binding<'_>,
        who: Known<'_>,
        now: UnixTime,
    ) -> Result<evidence::Attested, Refused> {
        let (psk, device) = who;
        let registry = self
            .follow
            .registry()
            .ok_or_else(|| Refused::of(Refusal::RegistryStale, who, "the registry was never reached"))?;
        let claim = Claim {
            site: &self.site,
            device,
            psk,
            nonce,
            binding,
            now,
        };
        let attested = attest::accept(shown, &claim, &self.replays, registry).await?;
        self.metrics.quote(attested.continuity());
        Ok(attested)
    }

    async fn forward(
        &self,
        head: &Head<'_>,
        route: Forward,
        body: &Bytes,
        (who, footing): (Known<'_>, Footing),
        account: &mut Account,
    ) -> Result<Response<Body>, Refused> {
        let policy = &who.1.entry().policy;
        let mut ticket = self
            .meters
            .admit(who.1.id(), &policy.limits, body.len())
            .map_err(|over| Refused::over(over, who))?;
        let judged =
            body::judge(route, head.path, body, policy).map_err(|e| Refused::of(e.refusal(), who, e))?;
        let asked = body::asked_for(route, &judged);
        let models = asked.as_ref().map_or(&*policy.models, std::slice::from_ref);
        account.asks(judged.model.clone());
        account.goes_upstream(&judged.bytes).await?;
        ticket.sent();
        account.counts(ticket.tally());
        let headers = account.upstream_headers(head.headers);
        // Those who ask together are sent together: the server is woken by the first, and still awake for the others.
        if self.upstream.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
        let mut lease = self.follow.lease(footing.clone(), self.clock.clone());
        let request = forward::Outgoing {
            device: who.1.id(),
            method: head.method,
            headers: &headers,
            to: route,
            body: judged,
        };
        let response = tokio::select! {
            response = forward::forward(&self.upstream, request, models) => {
                response.map_err(|e| {
                    // Not the device's doing.
                    ticket.answered(false, Framing::Whole);
                    Refused::of(e.refusal(), who, e)
                })?
            }
            // Whoever may be used no longer waits no longer, and nobody works for it.
            () = lease.over() => return Err(unusable(who)),
        };
        // The upstream took its time. Who was suspended meanwhile is refused while a refusal can still be said; later the lease
        // can only cut the answer off.
        if !self.follow.holds(&footing, self.clock.now()) {
            return Err(unusable(who));
        }
        Ok(metered(response.map(|body| body.leased(lease)), route, ticket))
    }
}

/// Lets the ticket watch the answer, and tells the client where it stands.
fn metered(mut response: Response<Body>, route: Forward, mut ticket: Ticket) -> Response<Body> {
    let ours = route.class == Class::Inference && response.status().is_success();
    ticket.answered(ours, Framing::of(response.headers()));
    if let Some(quota) = ticket.quota() {
        respond::tell_quota(response.headers_mut(), quota);
    }
    response.map(|body| body.observed(Box::new(ticket)))
}

/// A device that was found by its PSK.
pub(crate) type Known<'a> = (&'a domain::PskDigest, &'a Arc<crate::view::Device>);

/// Of a device that was admitted, and may be used no longer.
fn unusable((psk, device): Known<'_>) -> Refused {
    let why = "the device may not be used since it asked";
    Refused::new(Refusal::PskUnknown, Who::Unusable(*psk, device.id().clone()), why)
}

/// Framing and head.
fn check<'a>(parts: &'a Parts, conn: &Conn, limits: &Limits) -> Result<Head<'a>, Refused> {
    framed(conn)?;
    // Of HTTP/1, hyper has counted them.
    if parts.headers.len() > limits.header_count {
        return Err(malformed(&HeadError::Count(limits.header_count)));
    }
    let mut head = Head::check(parts).map_err(|e| malformed(&e))?;
    head.certificate = conn.peer().certificate();
    Ok(head)
}

/// The bytes that came so far.
fn framed(conn: &Conn) -> Result<(), Refused> {
    conn.violation().map_or(Ok(()), |v| Err(malformed(&v)))
}

fn malformed(why: &dyn std::fmt::Display) -> Refused {
    Refused::new(Refusal::RequestMalformed, Who::Nobody, why)
}
