//! What came of one request, gathered while it is answered and told once its answer is over: to the log, the metrics, the audit log,
//! traces and `/top`.
//!
//! Owns: which of them is told what and when. The decision is told when it falls, and an admission is in the audit log (or its queue)
//! before anything goes upstream; the end is told when the last byte was taken, or when the client left. Whatever way a request ends,
//! dropping its [`Account`] tells it.
//! Refuses: to hold a header, a query, or more of a body than the audit log was told to keep.

mod kind;
mod telemetry;
mod tell;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::DeviceId;
use http::{HeaderMap, Method, request::Parts};
use protocol::Refusal;

use crate::{
    audit::{self, Place},
    gate::{Admit, Grant, Refused, Who},
    log,
    meter::Tally,
    top::board::{DeviceStats, Stream},
    trace::{self, Recording},
    verdict::Verdict,
    view::Device,
};
pub use kind::{ProofKind, RequestNumber, RouteKind};
use kind::{kind, proof_kind};
pub use telemetry::Telemetry;
use tell::{cut, unwritable};

/// One request.
#[derive(Debug)]
pub struct Account {
    told: Arc<Telemetry>,
    instance: u32,
    recording: Option<Box<Recording>>,
    /// Whose figures say that a request of it runs.
    running: Option<Arc<Device>>,
    stream: Option<Arc<Stream>>,
    number: u64,
    pub(crate) started: Instant,
    spent: Duration,
    pub(crate) method: Method,
    pub(crate) path: Option<Cow<'static, str>>,
    pub(crate) route: RouteKind,
    pub(crate) proof: ProofKind,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) who: Who,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) status: u16,
    pub(crate) why: String,
    pub(crate) verdict: Option<Box<Verdict>>,
    /// When the head of the answer was known; `None`: the client left before.
    pub(crate) decided: Option<Duration>,
    place: Option<Place>,
    end_place: Option<Place>,
    /// Whether the decision is in the audit log.
    audited: bool,
    pub(crate) first: Option<Duration>,
    /// When the last byte was sent, where no more was sent than what the clock was read for: most answers.
    ended: Option<Duration>,
    pub(crate) bytes: u64,
    pub(crate) tokens: Option<(u64, u64)>,
    tally: Option<Arc<Tally>>,
    pub(crate) complete: bool,
    pub(crate) broken: Option<Refusal>,
}

impl Account {
    /// Its number, for the operator to find it in every log.
    #[must_use]
    pub fn request(&self) -> String {
        self.number().to_string()
    }

    pub(crate) const fn number(&self) -> RequestNumber {
        RequestNumber {
            instance: self.instance,
            number: self.number,
        }
    }

    /// Whether what comes of this request can be written down.
    ///
    /// # Errors
    /// It cannot, and the operator wants nothing to happen then.
    pub fn writable(&self) -> Result<(), Refused> {
        match &self.told.audit {
            Some(audit) if self.place.is_none() && audit.refuses() => Err(unwritable()),
            _ => Ok(()),
        }
    }

    /// Time that went into deciding, since `begun` and until now, which is given.
    pub fn spend(&mut self, begun: Instant) -> Instant {
        let now = Instant::now();
        self.spent = self.spent.saturating_add(now.saturating_duration_since(begun));
        now
    }

    /// The head was admitted; the body may still be refused.
    pub fn head_admitted(&mut self, admit: &Admit) {
        self.who = Who::Device(admit.psk, Arc::clone(&admit.device));
        DeviceStats::add(&admit.device.stats().running, 1);
        self.running = Some(Arc::clone(&admit.device));
        (self.route, self.proof) = match &admit.to {
            Grant::Challenge => (RouteKind::Attest, ProofKind::Psk),
            Grant::OpenSession => (RouteKind::Attest, ProofKind::Quote),
            Grant::Upstream(forward, proof) => {
                self.path = Some(Cow::Borrowed(forward.path));
                (kind(*forward), proof_kind(proof))
            }
        };
    }

    /// The body asks for this model.
    pub fn asks(&mut self, model: Option<Arc<str>>) {
        self.model = model;
    }

    /// Everything is admitted: writes that down before the request goes upstream. `body` is what goes there.
    ///
    /// # Errors
    /// It cannot be written, and the operator wants nothing to happen then.
    pub async fn goes_upstream(&mut self, body: &[u8]) -> Result<(), Refused> {
        if let Some(recording) = &mut self.recording {
            recording.goes_upstream(self.started.elapsed());
        }
        if let (RouteKind::Inference, Some(device)) = (self.route, &self.running) {
            let stream = Arc::new(Stream {
                request: self.number(),
                device: Arc::clone(device),
                model: self.model.clone(),
                path: self.path.clone().unwrap_or_default(),
                since: self.started,
                bytes: AtomicU64::new(0),
            });
            self.told.board.put(self.number, &stream);
            self.stream = Some(stream);
        }
        let Some(audit) = &self.told.audit else {
            return Ok(());
        };
        let (place, end_place) = (self.place.take(), audit.reserve());
        if end_place.is_none() && audit.refuses() {
            self.place = place;
            return Err(unwritable());
        }
        let prompt = audit.prompt_bytes().map(|most| cut(body, most));
        let what = audit::What::Decision(self.decision(false, prompt));
        let at = self.told.clock.moment();
        let refuses = audit.refuses();
        let written = if audit.waits() {
            Some(audit.write_through(at, &what, place))
        } else {
            audit.write(at, &what, place);
            None
        };
        self.end_place = end_place;
        self.audited = true;
        if let Some(written) = written
            && written.await.is_err()
            && refuses
        {
            return Err(unwritable());
        }
        Ok(())
    }

    /// The headers with which it goes there: the trace's context is ours, or the client's if it is one.
    #[must_use]
    pub fn upstream_headers<'a>(&self, headers: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        trace::upstream(headers, self.recording.as_deref())
    }

    /// The request is answered with this status.
    pub fn admitted(&mut self, who: Who, status: u16) {
        self.who = who;
        self.status = status;
    }

    /// The request is refused.
    pub fn refused(&mut self, refused: Refused) {
        self.status = refused.refusal.status();
        self.refusal = Some(refused.refusal);
        self.who = refused.who;
        self.why = refused.why;
        self.verdict = refused.verdict;
    }

    /// The head of the answer is known.
    pub fn decided(&mut self, parts: &Parts) {
        self.decided = Some(self.started.elapsed());
        if self.path.is_none() {
            self.path = Some(Cow::Owned(log::path(parts.uri.path())));
        }
        let metrics = &self.told.metrics;
        match self.refusal {
            None => metrics.admitted(),
            Some(refusal) => metrics.refused(refusal),
        }
        metrics.decided(self.spent);
        if self
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.stale.is_some())
        {
            metrics.stale_quote();
        }
        log::alert(self);
        self.audit_decision();
    }

    /// Bytes of the answer go to the client.
    pub fn sent(&mut self, bytes: &Bytes) {
        self.ended = None;
        if self.first.is_none() {
            self.first = Some(self.started.elapsed());
            self.ended = self.first;
        }
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(stream) = &self.stream {
            stream.bytes.store(self.bytes, Ordering::Relaxed);
        }
    }

    /// The answer's last byte went to the client; `just`: with what was sent just now.
    pub const fn completed(&mut self, just: bool) {
        self.complete = true;
        if !just {
            self.ended = None;
        }
    }

    /// The answer broke off for this reason.
    pub const fn broke(&mut self, refusal: Refusal) {
        self.broken = Some(refusal);
    }

    /// Where it will stand what the model took and gave.
    pub fn counts(&mut self, tally: Arc<Tally>) {
        self.tally = Some(tally);
    }

    /// The device, as far as it is known.
    pub(crate) fn device(&self) -> Option<&DeviceId> {
        match &self.who {
            Who::Nobody | Who::Key(_) => None,
            Who::Unusable(_, device) => Some(device),
            Who::Device(_, device) => Some(device.id()),
        }
    }

    /// The trace that it is recorded in.
    pub(crate) fn trace(&self) -> Option<String> {
        self.recording.as_ref().map(|recording| recording.trace())
    }

    /// Why an admitted request got no answer, or half of one.
    pub(crate) fn end_code(&self) -> Option<&'static str> {
        match (self.refusal, self.broken) {
            (Some(refusal), _) | (None, Some(refusal)) => Some(refusal.code()),
            (None, None) if !self.complete => Some("client-left"),
            (None, None) => None,
        }
    }
}
