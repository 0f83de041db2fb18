//! One call to the proxy as a state machine: what happened goes in, what to do next comes out.
//!
//! Owns: the order (challenge, quote, open, send), what is tried again and how often: a session that ended or evidence
//! that went stale once, a busy service a few times, everything else never. Owns the client's own rules too ([`own`]).
//! Does no I/O and knows no clock: `now` is the proxy's time, told by the last challenge.
//! An attacker may be the proxy: it can make the client quote for its own audience and PCRs, and otherwise only fail.

mod own;

use std::time::Duration;

use domain::{PcrSelection, UnixTime};
use protocol::{Refusal, messages::Challenge, nonce::Opaque};

pub(crate) use own::{Own, OwnRefusal};

use crate::refused::Refused;

/// How often a busy service is asked again.
pub(crate) const MAX_WAITS: u32 = 4;
/// The longest pause before it is asked again.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing yet.
    Begin,
    /// The proxy gave a challenge.
    Challenged(Challenge),
    /// The TPM quoted.
    Quoted,
    /// The proxy opened a session, good for so long.
    Opened(Duration),
    /// The pause is over.
    Waited,
    /// The request was admitted; its answer begins.
    Admitted,
    /// The proxy refused the last step.
    Refused(Refused),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fetch a challenge.
    FetchChallenge,
    /// Make a session key and a quote that covers it.
    Quote { nonce: Opaque, selection: PcrSelection },
    /// Open a session with the quote.
    Open,
    /// Send the request with the pre-shared key alone.
    SendAlone,
    /// Sign the request with the session's key and send it.
    SendSigned,
    /// Do nothing for a while.
    Wait(Duration),
    /// Read the answer.
    Finish,
    /// There is no way on.
    GiveUp(Reason),
}

/// Why there is no way on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The proxy refused.
    Refused(Refused),
    /// The proxy asks for what this device does not give.
    Own(OwnRefusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Challenge,
    Quote,
    Open,
    Send,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Machine {
    own: Own,
    evidence: bool,
    step: Step,
    selection: Option<PcrSelection>,
    nonce_until: UnixTime,
    session_until: Option<UnixTime>,
    renewed: bool,
    waits: u32,
}

impl Machine {
    /// A call by a device with these rules of its own; without evidence it sends the pre-shared key alone.
    pub(crate) const fn new(own: Own, evidence: bool) -> Self {
        Self {
            own,
            evidence,
            step: Step::Challenge,
            selection: None,
            nonce_until: UnixTime::from_secs(0),
            session_until: None,
            renewed: false,
            waits: 0,
        }
    }

    /// What to do, now that `event` happened at `now`.
    pub(crate) fn next(&mut self, event: Event, now: UnixTime) -> Action {
        match event {
            Event::Begin if self.evidence => self.challenge(),
            Event::Begin => self.send(),
            Event::Challenged(challenge) => self.answer(&challenge),
            // A TPM may take its time, and then the nonce's is over.
            Event::Quoted if now >= self.nonce_until && !self.renewed => {
                self.renewed = true;
                self.challenge()
            }
            Event::Quoted => {
                self.step = Step::Open;
                Action::Open
            }
            Event::Opened(lifetime) => {
                self.session_until = Some(now.plus(lifetime));
                self.send()
            }
            Event::Waited => self.again(now),
            Event::Admitted => Action::Finish,
            Event::Refused(refused) => self.refused(refused),
        }
    }

    fn challenge(&mut self) -> Action {
        self.step = Step::Challenge;
        self.session_until = None;
        Action::FetchChallenge
    }

    fn answer(&mut self, challenge: &Challenge) -> Action {
        match self.own.judge(challenge) {
            Err(refusal) => Action::GiveUp(Reason::Own(refusal)),
            Ok(None) => self.send(),
            Ok(Some(selection)) => {
                self.selection = Some(selection);
                self.nonce_until = challenge.now.plus(Duration::from_secs(challenge.expires_in));
                self.step = Step::Quote;
                Action::Quote {
                    nonce: challenge.nonce,
                    selection,
                }
            }
        }
    }

    fn send(&mut self) -> Action {
        self.step = Step::Send;
        match self.session_until {
            Some(_) => Action::SendSigned,
            None => Action::SendAlone,
        }
    }

    /// The same step once more; a quote or session that may be too old by now is made anew.
    fn again(&mut self, now: UnixTime) -> Action {
        match (self.step, self.session_until) {
            (Step::Send, Some(until)) if now >= until => self.challenge(),
            (Step::Send, _) => self.send(),
            (Step::Challenge | Step::Quote | Step::Open, _) => self.challenge(),
        }
    }

    fn refused(&mut self, refused: Refused) -> Action {
        if matches!(refused.status, 429 | 503) {
            return self.wait(refused);
        }
        let renewable = match self.step {
            Step::Open => refused.refusal == Some(Refusal::EvidenceStale),
            Step::Send => refused.refusal.is_some_and(is_renewable),
            Step::Challenge | Step::Quote => false,
        };
        if !renewable || !self.evidence || self.renewed {
            return Action::GiveUp(Reason::Refused(refused));
        }
        self.renewed = true;
        match (refused.refusal, refused.challenge, self.selection) {
            // The session stands; the next signature has another nonce.
            (Some(Refusal::RequestReplayed), _, _) => self.send(),
            // The challenge that came with the refusal saves a round trip. Not after a bad signature: it was made at a
            // wrong time, and only a whole challenge tells the time.
            (
                Some(Refusal::EvidenceStale | Refusal::SessionInvalid | Refusal::SessionExpired),
                Some(nonce),
                Some(selection),
            ) => {
                self.step = Step::Quote;
                self.session_until = None;
                self.nonce_until = UnixTime::from_secs(u64::MAX);
                Action::Quote { nonce, selection }
            }
            _ => self.challenge(),
        }
    }

    /// As long as the proxy says; if it does not say, a second, then twice as long each time.
    fn wait(&mut self, refused: Refused) -> Action {
        let pause = refused
            .retry_after
            .unwrap_or_else(|| Duration::from_secs(1 << self.waits.min(5)));
        if self.waits >= MAX_WAITS || pause > MAX_PAUSE {
            return Action::GiveUp(Reason::Refused(refused));
        }
        self.waits = self.waits.saturating_add(1);
        Action::Wait(pause.max(Duration::from_secs(1)))
    }
}

/// Whether a new quote, or only a new signature, may turn the refusal of a request.
const fn is_renewable(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::EvidenceMissing
            | Refusal::EvidenceStale
            | Refusal::SessionInvalid
            | Refusal::SessionExpired
            | Refusal::SignatureInvalid
            | Refusal::RequestReplayed
    )
}

#[cfg(test)]
mod tests;
