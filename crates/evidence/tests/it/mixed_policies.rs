//! Policies of several parts: what goes together, and that each part holds.

use std::collections::BTreeMap;

use crate::forge::{
    Forge,
    boot::{GLOBAL, IMAGE_SECURITY, Step, config, log, secure_boot, separator, step, values},
    case_of, digest_of, index,
};
use domain::{HashAlg, PcrIndex, PcrValue, UnixTime};
use evidence::{
    Attachments, Attested, Cause, Failure, GoldenSet, LogRules, Mix, PcrPolicy, PolicyError, Rejected,
    wire::Curve,
};

const BANK: HashAlg = HashAlg::Sha256;

/// Firmware, Secure Boot, a kernel.
fn boot() -> Vec<Step> {
    let mut boot = vec![step(0, 8, b"v1.0"), separator(0)];
    boot.extend(secure_boot());
    boot.push(Step {
        data: b"its path".to_vec(),
        ..step(4, 0x8000_0003, b"the kernel image")
    });
    boot
}

fn value_of(boot: &[Step], pcr: u64) -> PcrValue {
    let selection = domain::PcrSelection::new(BANK, [index(pcr)]).unwrap();
    PcrValue::new(BANK, &values(boot, &selection)).unwrap()
}

fn of(boot: &[Step], pcrs: &[u64]) -> BTreeMap<PcrIndex, PcrValue> {
    pcrs.iter()
        .map(|pcr| (index(*pcr), value_of(boot, *pcr)))
        .collect()
}

fn golden(name: &str, until: Option<u64>, values: BTreeMap<PcrIndex, PcrValue>) -> GoldenSet {
    GoldenSet {
        name: name.parse().unwrap(),
        until: until.map(UnixTime::from_secs),
        values,
    }
}

/// PCR 0 exact, 7 golden, Secure Boot on.
fn mix() -> Mix {
    Mix {
        exact: of(&boot(), &[0]),
        golden: vec![
            golden(
                "2026-09",
                Some(100),
                [(index(7), PcrValue::new(BANK, &[9; 32]).unwrap())].into(),
            ),
            golden("2026-10", None, of(&boot(), &[7])),
        ],
        log: Some(LogRules {
            secure_boot: true,
            ..LogRules::default()
        }),
        ..Mix::default()
    }
}

fn judge(mix: Mix, boot: &[Step], event_log: Option<&[u8]>) -> Result<Attested, Rejected> {
    let forge = Forge::new(Curve::P256);
    let policy = PcrPolicy::mixed(BANK, mix).unwrap();
    let pcrs = values(boot, &policy.selection());
    case_of(&forge, policy, pcrs).judge_with(Attachments {
        event_log,
        ..Attachments::default()
    })
}

#[test]
fn all_parts_hold_together() {
    let policy = PcrPolicy::mixed(BANK, mix()).unwrap();
    assert_eq!(policy.selection().to_string(), "sha256:0,7");
    let attested = judge(mix(), &boot(), Some(&log(&boot()))).unwrap();
    assert_eq!(attested.golden_set().unwrap().as_str(), "2026-10");
    assert_eq!(attested.release(), None);
}

#[test]
fn each_part_fails_alone_and_all_are_told() {
    let mut other = boot();
    other[0] = step(0, 8, b"v2.0");
    other[2] = config(GLOBAL, "SecureBoot", &[0]);
    let rejected = judge(mix(), &other, Some(&log(&other))).unwrap_err();
    let [first, second, third] = rejected.failures() else {
        panic!("{rejected}");
    };
    assert!(matches!(first, Failure::Pcr { index, set: None, .. } if index.get() == 0));
    assert!(matches!(second, Failure::Pcr { index, set: Some(_), .. } if index.get() == 7));
    assert!(matches!(third, Failure::Rule(_)));
    let rejected = judge(mix(), &boot(), None).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::EventLog(_)]),
        "{rejected}"
    );
}

#[test]
fn exact_values_alone_and_mixed_are_the_same_policy() {
    let only = Mix {
        exact: of(&boot(), &[0, 7]),
        ..Mix::default()
    };
    assert!(judge(only.clone(), &boot(), None).is_ok());
    let mut other = boot();
    other[0] = step(0, 8, b"v2.0");
    let mixed = judge(only.clone(), &other, None).unwrap_err();
    let forge = Forge::new(Curve::P256);
    let exact = PcrPolicy::exact(BANK, only.exact).unwrap();
    let pcrs = values(&other, &exact.selection());
    assert_eq!(case_of(&forge, exact, pcrs).judge().unwrap_err(), mixed);
}

#[test]
fn parts_that_do_not_go_together_are_no_policy() {
    let error = |mix: Mix| PcrPolicy::mixed(BANK, mix).unwrap_err();
    assert_eq!(error(Mix::default()), PolicyError::Empty);
    let mut overlap = mix();
    overlap.exact = of(&boot(), &[0, 7]);
    assert_eq!(error(overlap), PolicyError::Overlap(index(7)));
    let mut sixteen = mix();
    sixteen.exact = [(index(16), value_of(&boot(), 0))].into();
    assert_eq!(error(sixteen), PolicyError::Resettable(index(16)));
    let mut bank = mix();
    bank.exact = [(index(0), PcrValue::new(HashAlg::Sha384, &[1; 48]).unwrap())].into();
    assert!(matches!(error(bank), PolicyError::Bank { .. }));
    let mut twice = mix();
    twice.golden.push(twice.golden[0].clone());
    assert_eq!(error(twice), PolicyError::Twice("2026-09".parse().unwrap()));
}

fn digests(boot: &[Step], pcr: u32) -> Vec<PcrValue> {
    let of_pcr = boot.iter().filter(|step| step.pcr == pcr);
    of_pcr
        .map(|step| PcrValue::new(BANK, &digest_of(BANK, &step.measured)).unwrap())
        .collect()
}

/// What the 2026-10 set was made of.
fn with_events(pcr: u32, events: Vec<PcrValue>) -> Mix {
    Mix {
        golden: vec![golden("2026-10", None, of(&boot(), &[u64::from(pcr)]))],
        golden_events: [("2026-10".parse().unwrap(), [(index(pcr.into()), events)].into())].into(),
        ..Mix::default()
    }
}

#[test]
fn golden_events_give_their_value() {
    assert!(PcrPolicy::mixed(BANK, with_events(7, digests(&boot(), 7))).is_ok());
    let mut fewer = digests(&boot(), 7);
    fewer.pop();
    let refused = PolicyError::GoldenEvents {
        set: "2026-10".parse().unwrap(),
        index: index(7),
    };
    assert_eq!(
        PcrPolicy::mixed(BANK, with_events(7, fewer)).unwrap_err(),
        refused
    );
    let mut no_set = with_events(7, digests(&boot(), 7));
    no_set.golden[0].name = "2026-11".parse().unwrap();
    assert_eq!(PcrPolicy::mixed(BANK, no_set.clone()).unwrap_err(), refused);
    no_set.golden.clear();
    assert_eq!(PcrPolicy::mixed(BANK, no_set).unwrap_err(), refused);
    // PCR 0 may have begun with the locality of startup.
    let mut first = [0; 32];
    first[31] = 3;
    let end = digest_of(BANK, &[&first[..], &digest_of(BANK, b"v1.0")].concat());
    let mut mix = with_events(0, vec![PcrValue::new(BANK, &digest_of(BANK, b"v1.0")).unwrap()]);
    mix.golden[0].values = [(index(0), PcrValue::new(BANK, &end).unwrap())].into();
    assert!(PcrPolicy::mixed(BANK, mix).is_ok());
}

fn cause(mix: Mix, boot: &[Step], told: &[Step]) -> (Option<Cause>, String) {
    let rejected = judge(mix, boot, Some(&log(told))).unwrap_err();
    match rejected.failures() {
        [Failure::Pcr { cause, .. }] => (cause.clone(), rejected.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_event_that_changed_is_named() {
    let mut other = boot();
    other[5] = config(IMAGE_SECURITY, "db", b"another list");
    let (found, text) = cause(with_events(7, digests(&boot(), 7)), &other, &other);
    assert!(
        matches!(&found, Some(Cause::Changed(named)) if named.at.number == 6),
        "{found:?}"
    );
    let start = "PCR 7 differs from golden set `2026-10`: Secure Boot state or keys changed; \
                 event 6, EV_EFI_VARIABLE_DRIVER_CONFIG db; expected ";
    assert!(text.starts_with(start), "{text}");
    // A log that does not replay explains nothing.
    let (none, text) = cause(with_events(7, digests(&boot(), 7)), &other, &boot());
    assert_eq!(none, None);
    assert!(text.contains("keys changed; expected "), "{text}");
}

#[test]
fn events_that_are_new_or_missing_are_named() {
    let mut longer = boot();
    longer.push(separator(7));
    let (found, _) = cause(with_events(7, digests(&boot(), 7)), &longer, &longer);
    assert!(matches!(found, Some(Cause::Added(named)) if named.at.number == 12));
    let mut shorter = boot();
    shorter.remove(9);
    let (found, text) = cause(with_events(7, digests(&boot(), 7)), &shorter, &shorter);
    assert_eq!(found, Some(Cause::Missing { have: 7, want: 8 }));
    assert!(text.contains("8 events were expected, only 7 happened"), "{text}");
}

/// Without the golden events the value alone is known; what was added to it can still be told.
#[test]
fn an_added_event_is_found_by_the_value_alone() {
    let exact = |pcr| Mix {
        exact: of(&boot(), &[pcr]),
        ..Mix::default()
    };
    let number = |found: Option<Cause>| match found {
        Some(Cause::Added(named)) => (named.at.number, named.what),
        other => panic!("{other:?}"),
    };
    let mut longer = boot();
    longer.push(config(IMAGE_SECURITY, "dbr", b"x"));
    let (found, text) = cause(exact(7), &longer, &longer);
    assert_eq!(number(found), (12, Some("dbr".to_owned())));
    assert!(
        text.contains("event 12, EV_EFI_VARIABLE_DRIVER_CONFIG dbr was added"),
        "{text}"
    );
    let mut between = boot();
    between.insert(4, step(7, 5, b"said\nso"));
    let (found, _) = cause(exact(7), &between, &between);
    assert_eq!(number(found), (5, None), "no text with control characters");
    // Into a PCR that should have nothing.
    let mut measured = boot();
    measured.push(step(5, 5, b"Exit Boot Services"));
    let (found, _) = cause(exact(5), &measured, &measured);
    assert_eq!(number(found), (12, Some("Exit Boot Services".to_owned())));
    // The kernel's data is its path, not what was measured: the log's word is not repeated.
    let mut kernel = boot();
    kernel.push(Step {
        data: b"all is well".to_vec(),
        ..step(4, 0x8000_0003, b"another kernel")
    });
    let (found, _) = cause(exact(4), &kernel, &kernel);
    assert_eq!(number(found), (12, None));
    // A changed one cannot be told from a value.
    let mut changed = boot();
    changed[10] = step(4, 0x8000_0003, b"another kernel");
    let (found, _) = cause(exact(4), &changed, &changed);
    assert_eq!(found, None);
}

/// Trying events one by one costs the square of their number, which the sender chooses.
#[test]
fn long_logs_are_not_searched_one_by_one() {
    let exact = Mix {
        exact: of(&boot(), &[4]),
        ..Mix::default()
    };
    let mut long = boot();
    long.insert(0, step(4, 5, b"first"));
    let (found, _) = cause(exact.clone(), &long, &long);
    assert!(matches!(found, Some(Cause::Added(_))));
    let tail = (0..3000).map(|_| step(4, 5, b"more"));
    long.extend(tail);
    let mut all = boot();
    all.extend((0..3000).map(|_| step(4, 5, b"more")));
    let exact = Mix {
        exact: of(&all, &[4]),
        ..exact
    };
    let (found, _) = cause(exact, &long, &long);
    assert_eq!(found, None);
}

#[test]
fn each_pcr_has_its_words() {
    let words: Vec<_> = (0..24).map(|i| evidence::explain::meaning(index(i))).collect();
    assert_eq!(words[7], "Secure Boot state or keys changed");
    assert_eq!(words[12], "the kernel command line or credentials changed");
    assert_eq!(words[17..=22], ["the dynamic launch changed"; 6]);
    let different: std::collections::BTreeSet<_> = words.iter().collect();
    assert_eq!(different.len(), 16 + 2);
}
