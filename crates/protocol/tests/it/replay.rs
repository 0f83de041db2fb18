//! The memory against replays: nothing twice, nothing from before the start, never more than its bound.
use domain::{FleetRoot, PskDigest, Sha256Digest, UnixTime};
use proptest::prelude::*;
use protocol::{
    FleetKeys, KeyRing, Refusal, Subject, nonce,
    nonce::Nonce,
    replay::{ReplayError, Seen},
    signature::{RequestParts, SessionKey, VerifiedSignature, sign, verify},
};
use zeroize::Zeroizing;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn a_nonce(number: u64, issued: u64) -> Nonce {
    let root = FleetRoot::copy_from(&[1; 32]).unwrap();
    let keys = KeyRing::new(FleetKeys::derive("k".parse().unwrap(), &root), None);
    let subject = Subject {
        fleet: &"demo".parse().unwrap(),
        audience: &"a".parse().unwrap(),
        device: &"d".parse().unwrap(),
        psk: &PskDigest::of(b""),
    };
    nonce::issue(&keys, &subject, at(issued), number.to_be_bytes())
}

fn a_signature(key: u8, number: u8, created: u64) -> VerifiedSignature {
    let key = SessionKey::from_seed(&Zeroizing::new([key; 32]));
    let body = Sha256Digest::of(b"");
    let request = RequestParts {
        method: "GET",
        path: "/",
        query: None,
        body_digest: &body,
        session: "t",
    };
    let headers = sign(&key, &request, at(created), [number; 16]);
    verify(&key.public_key(), &request, &headers.as_headers(), at(created)).unwrap()
}

#[test]
fn a_nonce_is_accepted_once_while_it_could_be_good() {
    let mut seen = Seen::new(at(0), 10);
    let nonce = a_nonce(1, 1000);
    // The earliest moment at which any replica takes it, and the last.
    assert_eq!(seen.accept_nonce(&nonce, at(999)), Ok(()));
    assert_eq!(seen.accept_nonce(&nonce, at(1000)), Err(ReplayError::NonceSeen));
    assert_eq!(seen.accept_nonce(&nonce, at(1059)), Err(ReplayError::NonceSeen));
    assert_eq!(Refusal::from(ReplayError::NonceSeen), Refusal::EvidenceStale);
    assert_eq!(seen.accept_nonce(&a_nonce(2, 1000), at(1000)), Ok(()));
}

#[test]
fn a_signature_is_accepted_once_while_it_could_be_good() {
    let mut seen = Seen::new(at(0), 10);
    let signature = a_signature(1, 1, 1000);
    assert_eq!(seen.accept_signature(&signature, at(970)), Ok(()));
    assert_eq!(
        seen.accept_signature(&signature, at(1030)),
        Err(ReplayError::RequestSeen)
    );
    assert_eq!(Refusal::from(ReplayError::RequestSeen), Refusal::RequestReplayed);
    assert_eq!(seen.accept_signature(&a_signature(1, 2, 1000), at(1000)), Ok(()));
}

/// A body may come long after its head: by then the same request may have been forgotten.
#[test]
fn what_comes_after_the_memory_forgot_is_refused() {
    let mut seen = Seen::new(at(0), 10);
    let nonce = a_nonce(1, 1000);
    assert_eq!(seen.accept_nonce(&nonce, at(1000)), Ok(()));
    assert_eq!(seen.accept_nonce(&nonce, at(1060)), Err(ReplayError::NonceSeen));
    let late = ReplayError::NonceLate {
        issued: at(1000),
        now: at(1061),
    };
    assert_eq!(seen.accept_nonce(&nonce, at(1061)), Err(late));
    assert_eq!(Refusal::from(late), Refusal::EvidenceStale);
    // By a client whose clock is 30 s ahead.
    let signature = a_signature(1, 1, 1030);
    assert_eq!(seen.accept_signature(&signature, at(1000)), Ok(()));
    assert_eq!(
        seen.accept_signature(&signature, at(1090)),
        Err(ReplayError::RequestSeen)
    );
    let late = ReplayError::RequestLate {
        created: at(1030),
        now: at(1091),
    };
    assert_eq!(seen.accept_signature(&signature, at(1091)), Err(late));
    assert_eq!(Refusal::from(late), Refusal::SignatureInvalid);
}

#[test]
fn a_clock_that_was_wrong_for_a_moment_does_not_fill_the_memory() {
    let mut seen = Seen::new(at(0), 2);
    assert_eq!(seen.accept_nonce(&a_nonce(1, 99_000), at(99_000)), Ok(()));
    assert_eq!(seen.accept_nonce(&a_nonce(2, 1000), at(1000)), Ok(()));
    assert_eq!(seen.accept_nonce(&a_nonce(3, 1061), at(1061)), Ok(()));
}

#[test]
fn a_clock_that_went_forward_and_back_again_makes_nothing_good_twice() {
    let mut seen = Seen::new(at(0), 9);
    let (first, second) = (a_signature(1, 1, 1000), a_nonce(1, 1000));
    seen.accept_signature(&first, at(1000)).unwrap();
    seen.accept_nonce(&second, at(1000)).unwrap();
    // The clock jumps ahead, something comes, and what was here is forgotten.
    seen.accept_signature(&a_signature(1, 2, 1500), at(1500)).unwrap();
    assert_eq!(seen.len(), 1);
    let (created, now) = (at(1000), at(1001));
    assert_eq!(
        seen.accept_signature(&first, now),
        Err(ReplayError::RequestLate { created, now })
    );
    let issued = at(1000);
    assert_eq!(
        seen.accept_nonce(&second, now),
        Err(ReplayError::NonceLate { issued, now })
    );
    // What is made from then on cannot have been here.
    assert_eq!(seen.accept_signature(&a_signature(1, 3, 1001), now), Ok(()));
}

#[test]
fn a_clock_that_goes_astray_again_and_again_makes_nothing_good_twice() {
    const DAY: u64 = 86_400;
    let mut seen = Seen::new(at(0), 100);
    let mut accepted = Vec::new();
    for (nth, now) in [0, DAY, 5, 400 * DAY, 10, 365 * DAY, 20, 1800, 30]
        .iter()
        .enumerate()
    {
        let now = 1000 * DAY + now;
        for signature in &accepted {
            assert!(
                seen.accept_signature(signature, at(now)).is_err(),
                "the {nth}th step"
            );
        }
        // A clock that is set back is no reason to refuse what is new.
        let new = a_signature(1, u8::try_from(nth).unwrap() + 1, now);
        assert_eq!(seen.accept_signature(&new, at(now)), Ok(()), "the {nth}th step");
        accepted.push(new);
    }
}

#[test]
fn a_start_by_a_wrong_clock_is_mended() {
    let mut seen = Seen::new(at(900_000), 10);
    let new = a_signature(1, 1, 1000);
    assert!(matches!(
        seen.accept_signature(&new, at(1000)),
        Err(ReplayError::BeforeStart { .. })
    ));
    seen.started(at(990));
    assert_eq!(seen.accept_signature(&new, at(1000)), Ok(()));
    assert!(seen.accept_signature(&a_signature(1, 2, 989), at(1000)).is_err());
}

#[test]
fn one_session_cannot_use_up_anothers_nonces() {
    let mut seen = Seen::new(at(0), 10);
    assert_eq!(seen.accept_signature(&a_signature(1, 1, 1000), at(1000)), Ok(()));
    assert_eq!(seen.accept_signature(&a_signature(2, 1, 1000), at(1000)), Ok(()));
}

#[test]
fn what_was_signed_before_the_start_is_refused_for_a_while() {
    let mut seen = Seen::new(at(1000), 10);
    let before_start = ReplayError::BeforeStart {
        created: at(999),
        started: at(1000),
    };
    let refused = Err(before_start);
    assert_eq!(seen.accept_signature(&a_signature(1, 1, 999), at(1000)), refused);
    assert_eq!(seen.accept_signature(&a_signature(1, 1, 999), at(1060)), refused);
    assert_eq!(Refusal::from(before_start), Refusal::RequestReplayed);
    let late = ReplayError::RequestLate {
        created: at(999),
        now: at(1061),
    };
    assert_eq!(
        seen.accept_signature(&a_signature(1, 1, 999), at(1061)),
        Err(late)
    );
    assert!(seen.is_empty());
    assert_eq!(seen.accept_signature(&a_signature(1, 1, 1000), at(1000)), Ok(()));
    assert_eq!(seen.accept_signature(&a_signature(1, 2, 1001), at(1061)), Ok(()));
}

#[test]
fn a_full_memory_refuses_until_something_is_old() {
    let mut seen = Seen::new(at(0), 2);
    assert_eq!(seen.accept_nonce(&a_nonce(1, 1000), at(1000)), Ok(()));
    assert_eq!(seen.accept_nonce(&a_nonce(2, 1000), at(1001)), Ok(()));
    assert_eq!(
        seen.accept_nonce(&a_nonce(3, 1000), at(1001)),
        Err(ReplayError::Full)
    );
    assert_eq!(Refusal::from(ReplayError::Full), Refusal::Overloaded);
    assert_eq!(
        seen.accept_nonce(&a_nonce(3, 1060), at(1060)),
        Err(ReplayError::Full)
    );
    assert_eq!(seen.accept_nonce(&a_nonce(3, 1060), at(1061)), Ok(()));
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_second_that_was_full_is_forgotten_in_parts() {
    let mut seen = Seen::new(at(0), 500);
    for number in 0..200 {
        assert_eq!(seen.accept_nonce(&a_nonce(number, 1000), at(1000)), Ok(()));
    }
    let mut known = vec![seen.len()];
    for number in 200..204 {
        assert_eq!(seen.accept_nonce(&a_nonce(number, 1061), at(1061)), Ok(()));
        known.push(seen.len());
        // Forgotten or not: what is too old is not good again, wherever the clock goes.
        assert!(seen.accept_nonce(&a_nonce(199, 1000), at(1061)).is_err());
        assert!(seen.accept_nonce(&a_nonce(0, 1000), at(1010)).is_err());
    }
    assert_eq!(known, [200, 137, 74, 11, 4]);
}

proptest! {
    #[test]
    fn nothing_is_accepted_twice_within_its_life(
        steps in proptest::collection::vec((0_u64..20, 0_u64..10), 1..80),
        capacity in 1_usize..12,
    ) {
        let mut seen = Seen::new(at(0), capacity);
        let mut now = 1000;
        let mut accepted: Vec<(u64, u64)> = Vec::new();
        for (number, pause) in steps {
            now += pause;
            let live = accepted.iter().any(|(n, when)| *n == number && now < when + 61);
            let result = seen.accept_nonce(&a_nonce(number, 1000), at(now));
            prop_assert!(!(live && result.is_ok()));
            if result.is_ok() {
                accepted.push((number, now));
            }
            prop_assert!(seen.len() <= capacity);
        }
    }
}
