//! The telling: what the audit log, the log, metrics, traces and `/top` are given of an account, and when.
//!
//! Owns: that each of them is told once, whatever way a request ends.

use std::sync::atomic::Ordering;

use protocol::Refusal;

use super::Account;
use crate::{
    audit,
    clock::Moment,
    gate::{Refused, Who},
    log,
    top::board::DeviceStats,
};

impl Account {
    /// `abandoned`: the client left before anything was decided.
    pub(super) fn decision<'a>(
        &'a self,
        abandoned: bool,
        prompt: Option<(&'a str, bool)>,
    ) -> audit::Decision<'a> {
        audit::Decision {
            request: self.number(),
            refusal: self.refusal,
            who: &self.who,
            why: if abandoned {
                "the client left before the decision"
            } else {
                &self.why
            },
            failed: self.verdict.as_deref(),
            method: &self.method,
            path: self.path.as_deref().unwrap_or_default(),
            model: self.model.as_deref(),
            proof: self.proof,
            peer: self.peer,
            prompt,
            abandoned,
        }
    }

    pub(super) fn audit_decision(&mut self) {
        if self.audited {
            return;
        }
        let place = self.place.take();
        if let Some(audit) = &self.told.audit {
            let abandoned = self.decided.is_none() && self.end_place.is_none();
            let what = audit::What::Decision(self.decision(abandoned, None));
            audit.write(self.told.clock.moment(), &what, place);
        }
        self.audited = true;
    }

    fn finish(&mut self) {
        self.tokens = self.tally.as_ref().and_then(|tally| tally.get());
        let end_place = self.end_place.take();
        self.audit_decision();
        // An answer that was not completed ends now, whenever something was sent.
        let ended = self.ended.filter(|_| self.complete);
        let took = ended.unwrap_or_else(|| self.started.elapsed());
        let at = self.told.clock.moment();
        if let (Some(audit), Some(place)) = (&self.told.audit, end_place) {
            let end = audit::End {
                request: self.number(),
                status: self.status,
                code: self.end_code(),
                complete: self.complete,
                bytes: self.bytes,
                took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                tokens: self.tokens,
            };
            audit.write(at, &audit::What::End(end), Some(place));
        }
        let metrics = &self.told.metrics;
        if self.decided.is_none() {
            metrics.abandoned();
        }
        if self.decided.is_some() && self.refusal.is_none() {
            metrics.answer_ended(self.broken, self.complete);
        }
        metrics.finished(self.route, took, self.first, self.bytes, self.tokens);
        log::access(self, took, at);
        if let (Some(recording), Some(tracer)) = (&self.recording, &self.told.tracer) {
            tracer.end(recording, self, took);
        }
        if self.stream.is_some() {
            self.told.board.take(self.number);
        }
        self.note(at);
    }

    /// Adds to the device's figures.
    fn note(&self, at: Moment) {
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
        stats.last.store(at.time().as_secs(), Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.finish();
    }
}

pub(super) fn unwritable() -> Refused {
    Refused::new(
        Refusal::Overloaded,
        Who::Nobody,
        "the audit log takes no lines, and `on-failure` is \"refuse\"",
    )
}

/// The first bytes of a text, and whether that is all of it. What goes upstream is JSON of our own, so UTF-8.
pub(super) fn cut(body: &[u8], most: usize) -> (&str, bool) {
    let head = body.get(..most).unwrap_or(body);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut inside a character.
        Err(e) => std::str::from_utf8(head.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    (text, head.len() == body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cut_between_characters() {
        assert_eq!(cut("Gleis".as_bytes(), 64), ("Gleis", true));
        assert_eq!(cut("Züge".as_bytes(), 2), ("Z", false));
        assert_eq!(cut(b"", 0), ("", true));
    }
}
