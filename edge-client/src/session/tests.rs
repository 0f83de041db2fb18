//! The state machine, event by event: the way of a call, what is tried again and how often, and what is final.

use domain::{HashAlg, PcrIndex};
use protocol::ErrorShape;

use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn selection(indices: &[u64]) -> PcrSelection {
    let indices = indices.iter().map(|i| PcrIndex::try_from(*i).unwrap());
    PcrSelection::new(HashAlg::Sha256, indices).unwrap()
}

fn own() -> Own {
    Own {
        audience: "https://llm.example".parse().unwrap(),
        pcrs: Some(selection(&[7])),
    }
}

fn nonce(byte: u8) -> Opaque {
    Opaque::try_from(vec![byte; 32]).unwrap()
}

fn challenge(select: &[u64]) -> Challenge {
    Challenge {
        nonce: nonce(1),
        audience: own().audience,
        bank: HashAlg::Sha256,
        select: select.iter().map(|i| PcrIndex::try_from(*i).unwrap()).collect(),
        expires_in: 60,
        now: at(1000),
    }
}

fn refused(refusal: Refusal) -> Refused {
    let body = refusal.body(ErrorShape::Ollama);
    Refused {
        challenge: refusal.wants_challenge().then(|| nonce(2)),
        ..Refused::read(refusal.status(), &http::HeaderMap::new(), body.as_bytes())
    }
}

fn quoting(byte: u8, select: &[u64]) -> Action {
    Action::Quote {
        nonce: nonce(byte),
        selection: selection(select),
    }
}

/// A machine whose request is on its way in a session that is good until 1600.
fn sending() -> Machine {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Begin, at(0));
    machine.next(Event::Challenged(challenge(&[7, 11])), at(1000));
    machine.next(Event::Quoted, at(1001));
    assert_eq!(
        machine.next(Event::Opened(Duration::from_secs(600)), at(1000)),
        Action::SendSigned
    );
    machine
}

#[test]
fn the_way_of_a_call() {
    let mut machine = Machine::new(own(), true);
    assert_eq!(machine.next(Event::Begin, at(0)), Action::FetchChallenge);
    let action = machine.next(Event::Challenged(challenge(&[7, 11])), at(1000));
    assert_eq!(action, quoting(1, &[7, 11]));
    assert_eq!(machine.next(Event::Quoted, at(1001)), Action::Open);
    assert_eq!(
        machine.next(Event::Opened(Duration::from_secs(600)), at(1002)),
        Action::SendSigned
    );
    assert_eq!(machine.next(Event::Admitted, at(1003)), Action::Finish);
}

#[test]
fn without_evidence_the_key_goes_alone_and_a_refusal_is_final() {
    let mut machine = Machine::new(own(), false);
    assert_eq!(machine.next(Event::Begin, at(0)), Action::SendAlone);
    let no = refused(Refusal::EvidenceMissing);
    assert_eq!(
        machine.next(Event::Refused(no.clone()), at(0)),
        Action::GiveUp(Reason::Refused(no))
    );
}

#[test]
fn a_policy_without_evidence_needs_no_quote() {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Begin, at(0));
    assert_eq!(
        machine.next(Event::Challenged(challenge(&[])), at(1000)),
        Action::SendAlone
    );
}

#[test]
fn another_audience_gets_no_quote() {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Begin, at(0));
    let other = Challenge {
        audience: "https://evil.example".parse().unwrap(),
        ..challenge(&[7])
    };
    let expected = OwnRefusal::Audience {
        asked: other.audience.clone(),
        own: own().audience,
    };
    assert_eq!(
        machine.next(Event::Challenged(other), at(1000)),
        Action::GiveUp(Reason::Own(expected))
    );
}

#[test]
fn fewer_pcrs_than_our_own_are_not_quoted() {
    for (bank, select) in [(HashAlg::Sha256, &[11][..]), (HashAlg::Sha1, &[7, 11])] {
        let mut machine = Machine::new(own(), true);
        let weak = Challenge {
            bank,
            ..challenge(select)
        };
        let action = machine.next(Event::Challenged(weak), at(1000));
        assert!(
            matches!(action, Action::GiveUp(Reason::Own(OwnRefusal::TooFewPcrs { .. }))),
            "{action:?}"
        );
    }
    let mut machine = Machine::new(own(), true);
    let action = machine.next(Event::Challenged(challenge(&[7, 7])), at(1000));
    assert_eq!(action, Action::GiveUp(Reason::Own(OwnRefusal::Selection)));
}

#[test]
fn a_device_without_rules_of_its_own_quotes_what_is_asked() {
    let free = Own { pcrs: None, ..own() };
    let mut machine = Machine::new(free, true);
    assert_eq!(
        machine.next(Event::Challenged(challenge(&[4])), at(1000)),
        quoting(1, &[4])
    );
}

#[test]
fn a_quote_that_took_too_long_is_made_anew_once() {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Challenged(challenge(&[7])), at(1000));
    assert_eq!(machine.next(Event::Quoted, at(1060)), Action::FetchChallenge);
    machine.next(Event::Challenged(challenge(&[7])), at(1060));
    assert_eq!(machine.next(Event::Quoted, at(2000)), Action::Open);
}

#[test]
fn a_session_that_ended_is_renewed_at_once_and_once() {
    for refusal in [
        Refusal::SessionExpired,
        Refusal::SessionInvalid,
        Refusal::EvidenceStale,
    ] {
        let mut machine = sending();
        assert_eq!(
            machine.next(Event::Refused(refused(refusal)), at(1100)),
            quoting(2, &[7, 11])
        );
        assert_eq!(machine.next(Event::Quoted, at(1101)), Action::Open);
        assert_eq!(
            machine.next(Event::Opened(Duration::from_secs(600)), at(1102)),
            Action::SendSigned
        );
        let no = refused(refusal);
        assert_eq!(
            machine.next(Event::Refused(no.clone()), at(1103)),
            Action::GiveUp(Reason::Refused(no))
        );
    }
}

#[test]
fn without_a_challenge_in_the_refusal_one_is_fetched() {
    let mut machine = sending();
    let bare = Refused {
        challenge: None,
        ..refused(Refusal::SessionExpired)
    };
    assert_eq!(
        machine.next(Event::Refused(bare), at(1100)),
        Action::FetchChallenge
    );
}

#[test]
fn a_bad_signature_asks_for_the_time_again() {
    let mut machine = sending();
    let action = machine.next(Event::Refused(refused(Refusal::SignatureInvalid)), at(1100));
    assert_eq!(action, Action::FetchChallenge);
}

#[test]
fn a_replayed_request_is_signed_anew() {
    let mut machine = sending();
    let action = machine.next(Event::Refused(refused(Refusal::RequestReplayed)), at(1100));
    assert_eq!(action, Action::SendSigned);
}

#[test]
fn a_policy_that_asks_for_evidence_since_then_gets_it() {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Challenged(challenge(&[])), at(1000));
    let action = machine.next(Event::Refused(refused(Refusal::EvidenceMissing)), at(1000));
    assert_eq!(action, Action::FetchChallenge);
}

#[test]
fn stale_evidence_is_renewed_when_a_session_is_opened() {
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Challenged(challenge(&[7])), at(1000));
    machine.next(Event::Quoted, at(1001));
    let action = machine.next(Event::Refused(refused(Refusal::EvidenceStale)), at(1002));
    assert_eq!(action, quoting(2, &[7]));
}

#[test]
fn everything_else_is_final() {
    for refusal in Refusal::ALL {
        let mut machine = Machine::new(own(), true);
        machine.next(Event::Challenged(challenge(&[7])), at(1000));
        machine.next(Event::Quoted, at(1001));
        let no = refused(*refusal);
        let action = machine.next(Event::Refused(no.clone()), at(1002));
        match refusal.status() {
            429 | 503 => assert!(!matches!(action, Action::Quote { .. } | Action::Open)),
            _ if *refusal == Refusal::EvidenceStale => assert_eq!(action, quoting(2, &[7])),
            _ => assert_eq!(action, Action::GiveUp(Reason::Refused(no))),
        }
    }
}

#[test]
fn a_busy_service_is_asked_again_a_few_times() {
    let mut machine = sending();
    let busy = Refused {
        retry_after: None,
        ..refused(Refusal::Overloaded)
    };
    for seconds in [1, 2, 4, 8] {
        let action = machine.next(Event::Refused(busy.clone()), at(1100));
        assert_eq!(action, Action::Wait(Duration::from_secs(seconds)));
        assert_eq!(machine.next(Event::Waited, at(1100)), Action::SendSigned);
    }
    let action = machine.next(Event::Refused(busy.clone()), at(1100));
    assert_eq!(action, Action::GiveUp(Reason::Refused(busy)));
}

#[test]
fn retry_after_is_kept_within_reason() {
    let busy = |seconds| Refused {
        retry_after: Some(Duration::from_secs(seconds)),
        ..refused(Refusal::RateLimited)
    };
    let action = |seconds| sending().next(Event::Refused(busy(seconds)), at(1100));
    assert_eq!(action(0), Action::Wait(Duration::from_secs(1)));
    assert_eq!(action(30), Action::Wait(Duration::from_secs(30)));
    assert_eq!(action(31), Action::GiveUp(Reason::Refused(busy(31))));
}

#[test]
fn after_a_pause_old_sessions_and_quotes_are_made_anew() {
    let mut machine = sending();
    machine.next(Event::Refused(refused(Refusal::Overloaded)), at(1590));
    assert_eq!(machine.next(Event::Waited, at(1600)), Action::FetchChallenge);
    let mut machine = Machine::new(own(), true);
    machine.next(Event::Challenged(challenge(&[7])), at(1000));
    machine.next(Event::Quoted, at(1001));
    machine.next(Event::Refused(refused(Refusal::RegistryStale)), at(1002));
    assert_eq!(machine.next(Event::Waited, at(1007)), Action::FetchChallenge);
}
