//! Golden sets: several values that are good at once, each perhaps until a date.

use std::collections::BTreeMap;

use crate::forge::{Case, Forge, index};
use domain::{HashAlg, PcrValue, UnixTime};
use evidence::{Failure, FailureClass, GoldenSet, PcrPolicy, wire::Curve};

const OLD_END: u64 = 1_000;

fn set(name: &str, until: Option<u64>, seven: u8, eleven: u8) -> GoldenSet {
    let value = |fill: u8| PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap();
    GoldenSet {
        name: name.parse().unwrap(),
        until: until.map(UnixTime::from_secs),
        values: BTreeMap::from([(index(7), value(seven)), (index(11), value(eleven))]),
    }
}

/// The forge's device has 0x77 in PCR 7 and 0xbb in PCR 11.
fn policy(now: Option<u64>, sets: Vec<GoldenSet>) -> PcrPolicy {
    let policy = PcrPolicy::golden(HashAlg::Sha256, sets).unwrap();
    now.map_or_else(|| policy.clone(), |now| policy.at(UnixTime::from_secs(now)))
}

fn with(forge: &Forge, policy: PcrPolicy) -> Case<'_> {
    let mut case = forge.case();
    case.policy = policy;
    case
}

#[test]
fn any_of_several_sets_is_good_and_named() {
    let forge = Forge::new(Curve::P256);
    for sets in [
        vec![set("2026-10", None, 0x77, 0xbb), set("2026-11", None, 1, 2)],
        vec![set("2026-09", None, 1, 2), set("2026-10", None, 0x77, 0xbb)],
    ] {
        let attested = with(&forge, policy(None, sets)).judge().unwrap();
        assert_eq!(attested.golden_set().unwrap().as_str(), "2026-10");
    }
    assert_eq!(forge.case().judge().unwrap().golden_set(), None);
}

#[test]
fn a_set_is_good_before_its_end_and_not_at_it() {
    let forge = Forge::new(Curve::P256);
    let judge = |now| {
        let sets = vec![set("old", Some(OLD_END), 0x77, 0xbb), set("new", None, 1, 2)];
        with(&forge, policy(now, sets)).judge()
    };
    assert!(judge(Some(OLD_END - 1)).is_ok());
    for now in [Some(OLD_END), Some(OLD_END + 1), Some(u64::MAX), None] {
        let rejected = judge(now).unwrap_err();
        assert_eq!(
            rejected.failures(),
            [Failure::Ended {
                set: "old".parse().unwrap(),
                until: UnixTime::from_secs(OLD_END),
            }],
            "{now:?}"
        );
        assert_eq!(rejected.class(), FailureClass::Mismatch);
        assert_eq!(
            rejected.to_string(),
            "the PCRs are those of golden set `old`, which ended at 1970-01-01T00:16:40Z"
        );
    }
}

#[test]
fn the_difference_is_from_the_nearest_set_that_is_good() {
    let forge = Forge::new(Curve::P256);
    let sets = vec![
        set("far", None, 1, 2),
        set("near", None, 0x77, 2),
        set("ended", Some(OLD_END), 3, 0xbb),
    ];
    let rejected = with(&forge, policy(Some(OLD_END), sets)).judge().unwrap_err();
    assert_eq!(
        rejected.to_string(),
        format!(
            "PCR 11 differs from golden set `near`: the unified kernel image or the phase of the boot changed; expected {}, found {}",
            "02".repeat(32),
            "bb".repeat(32)
        )
    );
}

#[test]
fn values_are_of_one_set_and_not_of_several() {
    let forge = Forge::new(Curve::P256);
    let sets = vec![set("a", None, 0x77, 2), set("b", None, 1, 0xbb)];
    let rejected = with(&forge, policy(None, sets)).judge().unwrap_err();
    assert!(matches!(rejected.failures(), [Failure::Pcr { set: Some(a), .. }] if a.as_str() == "a"));
}

#[test]
fn when_every_set_has_ended_nothing_is_good() {
    let forge = Forge::new(Curve::P256);
    let sets = vec![set("a", Some(5), 1, 2), set("b", Some(OLD_END), 3, 4)];
    let rejected = with(&forge, policy(Some(OLD_END), sets)).judge().unwrap_err();
    assert_eq!(rejected.failures(), [Failure::AllEnded]);
    assert_eq!(rejected.class(), FailureClass::Mismatch);
    assert_eq!(rejected.to_string(), "every golden set of the policy has ended");
}
