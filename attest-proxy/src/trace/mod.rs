//! Traces: W3C context in and out, spans to a collector of OpenTelemetry.
//!
//! Owns: which requests are sampled, the ids, and what is in a span. Off, all that is left of it is one look at a header.
//! Refuses: to let a stranger choose what is recorded. A client's `traceparent` is continued, so that its trace stays one, but whether it is
//! recorded is ours to say, unless the operator believes clients (`follow-parent`). An invalid header goes no further.

pub mod context;
mod export;
pub mod otlp;

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{account::Account, config::TraceSettings};
use context::{Context, TRACEPARENT, TRACESTATE};
pub use export::Sent;
use otlp::{Attribute, Kind, Span};

/// Spans that may wait for the collector.
const QUEUE: usize = 4096;

/// Decides what is traced, and takes what was.
#[derive(Debug)]
pub struct Tracer {
    settings: TraceSettings,
    fleet: String,
    queue: Sender<Span>,
    waiting: std::sync::Mutex<Option<Receiver<Span>>>,
    sent: Arc<Sent>,
    random: SystemRandom,
}

/// A request that is recorded.
#[derive(Debug)]
pub struct Recording {
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
    id: [u8; 8],
    upstream: [u8; 8],
    start: SystemTime,
    /// When it went upstream.
    went: Option<Duration>,
}

impl Tracer {
    /// Nothing is sent before [`Tracer::start`].
    #[must_use]
    pub fn new(settings: &TraceSettings, fleet: &str) -> Self {
        let (queue, waiting) = channel(QUEUE);
        Self {
            settings: settings.clone(),
            fleet: fleet.to_owned(),
            queue,
            waiting: std::sync::Mutex::new(Some(waiting)),
            sent: Arc::default(),
            random: SystemRandom::new(),
        }
    }

    /// Starts the task that sends; a second call does nothing.
    pub fn start(&self) {
        let waiting = self.waiting.lock().ok().and_then(|mut waiting| waiting.take());
        if let Some(waiting) = waiting {
            let (collector, sent) = (self.settings.endpoint.clone(), Arc::clone(&self.sent));
            tokio::spawn(export::run(collector, self.fleet.clone(), waiting, sent));
        }
    }

    /// How many spans the collector took, and how many are lost.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        (
            self.sent.taken.load(Ordering::Relaxed),
            self.sent.dropped.load(Ordering::Relaxed),
        )
    }

    /// Begins to record a request, if it is one of the sampled.
    #[must_use]
    pub fn begin(&self, headers: &HeaderMap) -> Option<Box<Recording>> {
        let parent = Context::read(headers);
        let mut random = [0_u8; 32];
        self.random.fill(&mut random).ok()?;
        let (ids, trace) = random.split_at(16);
        let (id, upstream) = ids.split_at(8);
        let trace = match parent {
            Some(parent) => parent.trace,
            None => trace.try_into().ok()?,
        };
        let believed = self.settings.follow_parent && parent.is_some();
        let sampled = match parent {
            Some(parent) if believed => parent.sampled,
            // Drawn anew: a client that chooses its trace's id chooses nothing else.
            _ => is_sampled(id, self.settings.sample),
        };
        sampled.then_some(Box::new(Recording {
            trace,
            parent: parent.map(|parent| parent.span),
            id: id.try_into().ok()?,
            upstream: upstream.try_into().ok()?,
            start: SystemTime::now(),
            went: None,
        }))
    }

    /// A recorded request is over.
    pub(crate) fn end(&self, recording: &Recording, account: &Account, took: Duration) {
        let start = nanos(recording.start);
        let method = account.method.as_str();
        let path = account.path.as_deref().unwrap_or_default();
        let route = account.route.name();
        let failed = account.status >= 500 || account.broken.is_some();
        let mut attributes: Vec<(&'static str, Attribute)> = vec![
            ("http.request.method", method.into()),
            ("url.path", path.into()),
            ("url.scheme", "http".into()),
            ("http.response.status_code", u64::from(account.status).into()),
            ("http.response.body.size", account.bytes.into()),
            ("signalbox.request", account.request().into()),
            ("signalbox.route", route.into()),
            ("signalbox.proof", account.proof.name().into()),
        ];
        if let Some(code) = account.end_code() {
            attributes.push(("error.type", code.into()));
        }
        if let Some(device) = account.device() {
            attributes.push(("signalbox.device", device.as_str().into()));
        }
        if let Some(model) = &account.model {
            attributes.push(("gen_ai.request.model", model.to_string().into()));
        }
        if let Some((prompt, output)) = account.tokens {
            attributes.push(("gen_ai.usage.input_tokens", prompt.into()));
            attributes.push(("gen_ai.usage.output_tokens", output.into()));
        }
        let name = match account.route {
            crate::account::RouteKind::None => method.to_owned(),
            _ => format!("{method} {path}"),
        };
        let end = start.saturating_add(nanos_of(took));
        if let Some(went) = recording.went {
            self.send(Span {
                trace: recording.trace,
                id: recording.upstream,
                parent: Some(recording.id),
                name: name.clone(),
                kind: Kind::Client,
                start: start.saturating_add(nanos_of(went)),
                end,
                failed,
                attributes: vec![
                    ("http.request.method", method.into()),
                    ("url.path", path.into()),
                    ("http.response.status_code", u64::from(account.status).into()),
                ],
            });
        }
        self.send(Span {
            trace: recording.trace,
            id: recording.id,
            parent: recording.parent,
            name,
            kind: Kind::Server,
            start,
            end,
            failed,
            attributes,
        });
    }

    fn send(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.sent.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Recording {
    /// The request goes upstream now.
    pub fn goes_upstream(&mut self, after: Duration) {
        self.went = Some(after);
    }

    /// The trace, in hex.
    #[must_use]
    pub fn trace(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.trace)
    }
}

/// The headers with which a request goes upstream: with our span in them where it is recorded, and without a context that is none.
#[must_use]
pub fn upstream<'a>(headers: &'a HeaderMap, recording: Option<&Recording>) -> Cow<'a, HeaderMap> {
    let value = recording.and_then(|recording| {
        let context = Context {
            trace: recording.trace,
            span: recording.upstream,
            sampled: true,
        };
        HeaderValue::try_from(context.write()).ok()
    });
    let has = headers.contains_key(&TRACEPARENT) || headers.contains_key(&TRACESTATE);
    if value.is_none() && !has {
        return Cow::Borrowed(headers);
    }
    let valid = Context::read(headers).is_some();
    if value.is_none() && valid {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.clone();
    if !valid {
        headers.remove(&TRACESTATE);
    }
    match value {
        Some(value) => headers.insert(TRACEPARENT, value),
        None => headers.remove(&TRACEPARENT),
    };
    Cow::Owned(headers)
}

/// Whether random bytes fall into a share.
fn is_sampled(random: &[u8], share: f64) -> bool {
    let number = random
        .iter()
        .take(4)
        .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) < share * 4_294_967_296.0
}

fn nanos(time: SystemTime) -> u64 {
    nanos_of(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_and_of_everything() {
        assert!(!is_sampled(&[0; 8], 0.0));
        assert!(is_sampled(&[255; 8], 1.0));
        assert!(is_sampled(&[0x7f, 255, 255, 255], 0.5) && !is_sampled(&[0x80, 0, 0, 0], 0.5));
    }

    #[test]
    fn a_context_that_is_none_goes_no_further() {
        let mut headers = HeaderMap::new();
        assert!(matches!(upstream(&headers, None), Cow::Borrowed(_)));
        headers.insert(TRACEPARENT, HeaderValue::from_static("00-zz"));
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        assert!(upstream(&headers, None).is_empty());
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, HeaderValue::from_static(good));
        assert_eq!(upstream(&headers, None).len(), 2);
    }
}
