//! What came of one request, gathered while it is answered and told once its answer is over: to the log, the metrics, the audit log,
//! traces and `/top`.
//!
//! Owns: which of them is told what and when. The decision is told when it falls, and an admission is in the audit log (or its queue)
//! before anything goes upstream; the end is told when the last byte was taken, or when the client left. Whatever way a request ends,
//! dropping its [`Account`] tells it.
//! Refuses: to hold a header, a query, or more of a body than the audit log was told to keep.

use std::{
    borrow::Cow,
    fmt,
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
use serde::Serialize;

use crate::{
    audit::{self, Audit, Place},
    clock::Clock,
    gate::{Admit, Grant, Proof, Refused, Who},
    log,
    meter::Tally,
    metrics::Metrics,
    routes::{Class, Forward},
    top::board::{Board, DeviceStats, Stream},
    trace::{self, Recording, Tracer},
    verdict::Verdict,
    view::Device,
};

/// What a request showed beside its PSK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// Nothing was judged.
    None,
    /// The policy wants nothing more.
    Psk,
    /// The policy wants nothing more than the client certificate, which came in the place of a PSK.
    Certificate,
    /// A quote.
    Quote,
    /// A session and a signature.
    Session,
}

/// What kind of path a request had: the few that metrics may tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// A model runs.
    Inference,
    /// A list or a description of models.
    Read,
    /// A fixed answer.
    Fixed,
    /// The proxy's own endpoints.
    Attest,
    /// None that was found.
    None,
}

impl RouteKind {
    /// All of them, as they are numbered.
    pub const ALL: [Self; 5] = [Self::Inference, Self::Read, Self::Fixed, Self::Attest, Self::None];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Read => "read",
            Self::Fixed => "fixed",
            Self::Attest => "attest",
            Self::None => "none",
        }
    }
}

impl ProofKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Psk => "psk",
            Self::Certificate => "certificate",
            Self::Quote => "quote",
            Self::Session => "session",
        }
    }
}

/// The number of a request: that of the process, which is random, and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestNumber {
    instance: u32,
    number: u64,
}

impl fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.instance, self.number)
    }
}

/// Who is told.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit log.
    pub audit: Option<Audit>,
    /// Traces.
    pub tracer: Option<Tracer>,
    /// What runs now.
    pub board: Board,
    clock: Clock,
    /// Of this process: what numbers of requests begin with, so that those of two processes differ.
    instance: u32,
    requests: AtomicU64,
}

impl Telemetry {
    /// Tells metrics, and what else there is. `instance` is random.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        audit: Option<Audit>,
        tracer: Option<Tracer>,
        clock: Clock,
        instance: u32,
    ) -> Self {
        Self {
            metrics,
            audit,
            tracer,
            board: Board::default(),
            clock,
            instance,
            requests: AtomicU64::new(0),
        }
    }

    /// A request came.
    #[must_use]
    pub fn begin(self: &Arc<Self>, parts: &Parts, peer: Option<IpAddr>) -> Box<Account> {
        let place = self.audit.as_ref().and_then(Audit::reserve);
        let recording = self
            .tracer
            .as_ref()
            .and_then(|tracer| tracer.begin(&parts.headers));
        Box::new(Account {
            recording,
            running: None,
            stream: None,
            told: Arc::clone(self),
            instance: self.instance,
            number: self.requests.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            spent: Duration::ZERO,
            method: log::method(&parts.method),
            path: None,
            route: RouteKind::None,
            proof: ProofKind::None,
            model: None,
            prompt: None,
            peer,
            who: Who::Nobody,
            refusal: None,
            status: 0,
            why: String::new(),
            verdict: None,
            decided: None,
            place,
            end_place: None,
            audited: false,
            first: None,
            bytes: 0,
            tokens: None,
            tally: None,
            complete: false,
            broken: None,
        })
    }

    /// Writes what is left to be written. Blocks.
    pub fn close(&self) {
        if let Some(audit) = &self.audit {
            audit.close();
        }
    }
}

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
    prompt: Option<(String, bool)>,
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

    const fn number(&self) -> RequestNumber {
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

    /// Time that went into deciding, since `begun`.
    pub fn spend(&mut self, begun: Instant) {
        self.spent = self.spent.saturating_add(begun.elapsed());
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
        let told = Arc::clone(&self.told);
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
            told.board.put(self.number, &stream);
            self.stream = Some(stream);
        }
        let Some(audit) = &told.audit else { return Ok(()) };
        self.end_place = audit.reserve();
        if self.end_place.is_none() && audit.refuses() {
            return Err(unwritable());
        }
        self.prompt = audit.prompt_bytes().map(|most| cut(body, most));
        let what = audit::What::Decision(Box::new(self.decision()));
        self.audited = true;
        let place = self.place.take();
        if !audit.waits() {
            audit.write(what, place);
        } else if !audit.write_through(what, place).await && audit.refuses() {
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
        self.first.get_or_insert_with(|| self.started.elapsed());
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(stream) = &self.stream {
            stream.bytes.store(self.bytes, Ordering::Relaxed);
        }
    }

    /// The answer's last byte went to the client.
    pub const fn completed(&mut self) {
        self.complete = true;
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

    fn decision(&self) -> audit::Decision {
        let abandoned = self.decided.is_none() && !self.audited && self.end_place.is_none();
        audit::Decision {
            request: self.request(),
            refusal: self.refusal,
            who: self.who.clone(),
            why: if abandoned {
                "the client left before the decision".to_owned()
            } else {
                self.why.clone()
            },
            failed: self.verdict.as_deref().map(Verdict::to_json),
            method: self.method.clone(),
            path: self.path.clone().unwrap_or_default(),
            model: self.model.clone(),
            proof: self.proof,
            peer: self.peer,
            prompt: self.prompt.clone(),
            abandoned,
        }
    }

    fn audit_decision(&mut self) {
        let told = Arc::clone(&self.told);
        if let Some(audit) = &told.audit
            && !self.audited
        {
            let what = audit::What::Decision(Box::new(self.decision()));
            self.audited = true;
            audit.write(what, self.place.take());
        }
    }

    fn finish(&mut self) {
        self.tokens = self.tally.as_ref().and_then(|tally| tally.get());
        let went_upstream = self.end_place.is_some();
        self.audit_decision();
        let took = self.started.elapsed();
        if let Some(audit) = self.told.audit.as_ref().filter(|_| went_upstream) {
            let end = audit::End {
                request: self.request(),
                status: self.status,
                code: self.end_code(),
                complete: self.complete,
                bytes: self.bytes,
                took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                tokens: self.tokens,
            };
            audit.write(audit::What::End(Box::new(end)), self.end_place.take());
        }
        let metrics = &self.told.metrics;
        if self.decided.is_none() {
            metrics.abandoned();
        }
        if self.decided.is_some() && self.refusal.is_none() {
            metrics.answer_ended(self.broken, self.complete);
        }
        metrics.finished(self.route, took, self.first, self.bytes, self.tokens);
        log::access(self, took);
        if let (Some(recording), Some(tracer)) = (&self.recording, &self.told.tracer) {
            tracer.end(recording, self, took);
        }
        if self.stream.is_some() {
            self.told.board.take(self.number);
        }
        self.note();
    }

    /// Adds to the device's figures.
    fn note(&self) {
        if let Some(device) = &self.running {
            device.stats().running.fetch_sub(1, Ordering::Relaxed);
        }
        let Who::Device(_, device) = &self.who else { return };
        let stats = device.stats();
        let counter = if self.refusal.is_some() {
            &stats.refused
        } else {
            &stats.admitted
        };
        DeviceStats::add(counter, 1);
        DeviceStats::add(&stats.bytes, self.bytes);
        if let Some((prompt, output)) = self.tokens {
            DeviceStats::add(&stats.prompt_tokens, prompt);
            DeviceStats::add(&stats.output_tokens, output);
        }
        stats
            .last
            .store(self.told.clock.now().as_secs(), Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.finish();
    }
}

fn unwritable() -> Refused {
    Refused::new(
        Refusal::Overloaded,
        Who::Nobody,
        "the audit log takes no lines, and `on-failure` is \"refuse\"",
    )
}

const fn kind(forward: Forward) -> RouteKind {
    match forward.class {
        Class::Inference => RouteKind::Inference,
        Class::List | Class::One | Class::Show => RouteKind::Read,
        Class::Plain => RouteKind::Fixed,
    }
}

const fn proof_kind(proof: &Proof) -> ProofKind {
    match proof {
        Proof::NotDemanded => ProofKind::Psk,
        Proof::Certificate => ProofKind::Certificate,
        Proof::Signed(_) => ProofKind::Session,
        Proof::Quoted(_) => ProofKind::Quote,
    }
}

/// The first bytes of a text, and whether that is all of it. What goes upstream is JSON of our own, so UTF-8.
fn cut(body: &[u8], most: usize) -> (String, bool) {
    let head = body.get(..most).unwrap_or(body);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut inside a character.
        Err(e) => std::str::from_utf8(head.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    (text.to_owned(), head.len() == body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cut_between_characters() {
        assert_eq!(cut("Gleis".as_bytes(), 64), ("Gleis".into(), true));
        assert_eq!(cut("Züge".as_bytes(), 2), ("Z".into(), false));
        assert_eq!(cut(b"", 0), (String::new(), true));
    }

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (nth, kind) in RouteKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, nth);
        }
    }
}
