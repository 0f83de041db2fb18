//! The telling: what the audit log, the log, metrics, traces and `/top` are given of an account, and when.
//!
//! Owns: that each of them is told once, whatever way a request ends.

use std::sync::{Arc, atomic::Ordering};

use protocol::Refusal;

use super::Account;
use crate::{
    audit,
    gate::{Refused, Who},
    log,
    top::board::DeviceStats,
    verdict::Verdict,
};

impl Account {
    pub(super) fn decision(&self) -> audit::Decision {
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

    pub(super) fn audit_decision(&mut self) {
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

pub(super) fn unwritable() -> Refused {
    Refused::new(
        Refusal::Overloaded,
        Who::Nobody,
        "the audit log takes no lines, and `on-failure` is \"refuse\"",
    )
}

/// The first bytes of a text, and whether that is all of it. What goes upstream is JSON of our own, so UTF-8.
pub(super) fn cut(body: &[u8], most: usize) -> (String, bool) {
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
}
