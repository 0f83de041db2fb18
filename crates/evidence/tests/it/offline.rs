//! Examination by hand: every check passes, fails and stays unmade for its own reason, and never accepts what was touched.

use std::collections::BTreeMap;

use crate::forge::{Forge, QUALIFYING_DATA, index, log, values};
use domain::{HashAlg, TpmName};
use evidence::{
    Evidence, GoldenSet, LogRules, Mix, PcrPolicy,
    offline::{Case, Examination, Key, NotAKey, NotEvidence, Outcome, Subject, examine},
    wire::{self, Curve},
};

/// Files as somebody has them.
pub(crate) struct Files {
    pub(crate) key: Key,
    pub(crate) quote: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) pcrs: Vec<u8>,
    policy: Option<PcrPolicy>,
    event_log: Option<Vec<u8>>,
    pub(crate) allow_sha1: bool,
}

impl Files {
    fn of(forge: &Forge) -> Self {
        let case = forge.case();
        Self::signed(forge, case.quote(), case.pcrs)
    }

    pub(crate) fn signed(forge: &Forge, quote: Vec<u8>, pcrs: Vec<u8>) -> Self {
        Self {
            key: Key::read(forge.public.as_bytes())
                .unwrap()
                .with_qualified_name(forge.qualified_name.clone()),
            signature: forge.sign(&quote),
            quote,
            pcrs,
            policy: None,
            event_log: None,
            allow_sha1: false,
        }
    }

    pub(crate) fn examine(&self) -> Result<Examination, NotEvidence> {
        self.examine_for(&QUALIFYING_DATA)
    }

    fn examine_for(&self, qualifying_data: &[u8]) -> Result<Examination, NotEvidence> {
        examine(&Case {
            evidence: Evidence {
                quote: &self.quote,
                signature: &self.signature,
                pcrs: &self.pcrs,
            },
            key: &self.key,
            qualifying_data,
            policy: self.policy.as_ref(),
            event_log: self.event_log.as_deref(),
            image_statement: None,
            allow_sha1: self.allow_sha1,
        })
    }

    /// What failed, with its reasons.
    pub(crate) fn failed(&self) -> Vec<(Subject, String)> {
        failed(&self.examine().unwrap())
    }
}

fn failed(found: &Examination) -> Vec<(Subject, String)> {
    let reasons = found.checks().iter().filter_map(|check| match &check.outcome {
        Outcome::Failed(reasons) => Some((check.subject, reasons.join("; "))),
        _ => None,
    });
    reasons.collect()
}

fn not_made(found: &Examination) -> Vec<Subject> {
    let open = found.checks().iter();
    open.filter(|check| matches!(check.outcome, Outcome::NotMade(_)))
        .map(|check| check.subject)
        .collect()
}

/// One `TPMS_PCR_SELECTION`.
fn entry(bank: HashAlg, bitmap: &[u8]) -> Vec<u8> {
    let mut out = bank.tpm_id().to_be_bytes().to_vec();
    out.push(u8::try_from(bitmap.len()).unwrap());
    out.extend(bitmap);
    out
}

/// Evidence over this selection, with so many bytes of values.
fn over(forge: &Forge, entries: &[Vec<u8>], values: usize) -> Files {
    let mut case = forge.case();
    case.selection = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
    case.selection.extend(entries.concat());
    case.pcrs = vec![0x33; values];
    Files::signed(forge, case.quote(), case.pcrs)
}

fn spki(forge: &Forge, curve: Curve) -> Vec<u8> {
    let area = forge.public.as_bytes();
    let len = curve.coordinate_len();
    // The end of the area is the point: two sized coordinates.
    let y = &area[area.len() - len..];
    let x = &area[area.len() - 2 * len - 2..area.len() - len - 2];
    let head: &[u8] = match curve {
        Curve::P256 => b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
        Curve::P384 => b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
    };
    [head, x, y].concat()
}

#[test]
fn good_evidence_passes_every_check_that_can_be_made() {
    for curve in [Curve::P256, Curve::P384] {
        let forge = Forge::new(curve);
        let mut files = Files::of(&forge);
        files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, values()).unwrap());
        let found = files.examine().unwrap();
        assert_eq!(failed(&found), []);
        assert_eq!(
            not_made(&found),
            [Subject::EventLog, Subject::Freshness, Subject::Identity]
        );
        assert_eq!(found.counts(), (8, 0, 3));
        assert!(!found.is_refused());
        assert_eq!(found.quoted_values()[0].selection().to_string(), "sha256:7,11");
        assert_eq!(found.statement().reset_count, 3);
    }
}

#[test]
fn each_check_has_a_word_for_programs() {
    let found = Files::of(&Forge::new(Curve::P256)).examine().unwrap();
    let words: Vec<_> = found.checks().iter().map(|check| check.subject.name()).collect();
    assert_eq!(
        words,
        [
            "quote",
            "key",
            "signature",
            "signer",
            "qualifying-data",
            "selection",
            "pcr-values",
            "policy",
            "event-log",
            "freshness",
            "identity"
        ]
    );
}

#[test]
fn what_the_policy_found_is_told_part_by_part() {
    let forge = Forge::new(Curve::P256);
    let quoted = log::boot_quoted(HashAlg::Sha256);
    let mut case = forge.case();
    case.selection = wire::PcrSelections::encode_single(quoted.selection());
    case.pcrs = quoted.as_bytes().to_vec();
    let mut files = Files::signed(&forge, case.quote(), case.pcrs);
    let told = |files: &Files| {
        let found = files.examine().unwrap();
        let policy = found
            .checks()
            .iter()
            .find(|check| check.subject == Subject::Policy);
        policy.unwrap().outcome.clone()
    };
    let passed = |said: &str| Outcome::Passed(said.to_owned());
    let values: BTreeMap<_, _> = quoted.iter().collect();
    files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, values.clone()).unwrap());
    assert_eq!(told(&files), passed("the PCRs are the policy's"));
    let set = GoldenSet {
        name: "2026-10".parse().unwrap(),
        until: None,
        values,
    };
    files.policy = Some(PcrPolicy::golden(HashAlg::Sha256, vec![set.clone()]).unwrap());
    assert_eq!(told(&files), passed("the PCRs are those of golden set `2026-10`"));
    let mix = Mix {
        golden: vec![set],
        log: Some(LogRules {
            replays: [index(4)].into(),
            ..LogRules::default()
        }),
        ..Mix::default()
    };
    files.policy = Some(PcrPolicy::mixed(HashAlg::Sha256, mix).unwrap());
    files.event_log = Some(log::boot().concat());
    assert_eq!(
        told(&files),
        passed("the PCRs are those of golden set `2026-10`; the event log keeps every rule")
    );
}

#[test]
fn a_bare_key_leaves_what_it_cannot_tell_unmade() {
    for curve in [Curve::P256, Curve::P384] {
        let forge = Forge::new(curve);
        let mut files = Files::of(&forge);
        files.key = Key::read(&spki(&forge, curve)).unwrap();
        let found = files.examine().unwrap();
        assert!(!found.is_refused());
        assert!(files.key.is_bare());
        assert_eq!(
            not_made(&found),
            [
                Subject::Key,
                Subject::Signer,
                Subject::Policy,
                Subject::EventLog,
                Subject::Freshness,
                Subject::Identity
            ]
        );
    }
}

#[test]
fn no_byte_of_evidence_can_be_changed_or_left_out() {
    let forge = Forge::new(Curve::P256);
    let accepted = |files: &Files| files.examine().is_ok_and(|found| !found.is_refused());
    let mut files = Files::of(&forge);
    assert!(accepted(&files));
    let parts: [fn(&mut Files) -> &mut Vec<u8>; 3] =
        [|f| &mut f.quote, |f| &mut f.signature, |f| &mut f.pcrs];
    for part in parts {
        let good = part(&mut files).clone();
        for at in 0..good.len() {
            part(&mut files)[at] ^= 1;
            assert!(!accepted(&files), "byte {at}");
            *part(&mut files) = good[..at].to_vec();
            assert!(!accepted(&files), "{at} bytes");
            *part(&mut files) = good.clone();
        }
    }
}

#[test]
fn another_nonce_or_none_is_refused() {
    let files = Files::of(&Forge::new(Curve::P256));
    for wrong in [&[][..], &[0x51; 31], &[0x52; 32]] {
        let found = failed(&files.examine_for(wrong).unwrap());
        assert_eq!(found[0].0, Subject::QualifyingData, "{wrong:?}");
        assert_eq!(found.len(), 1);
    }
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.extra_data.clear();
    let files = Files::signed(&forge, case.quote(), case.pcrs);
    let found = failed(&files.examine_for(&[]).unwrap());
    assert_eq!(found[0].0, Subject::QualifyingData, "an empty nonce is none");
    assert!(files.failed()[0].1.ends_with("found none"));
}

#[test]
fn another_signer_or_parent_is_refused() {
    let (forge, other) = (Forge::new(Curve::P256), Forge::new(Curve::P256));
    let mut files = Files::of(&forge);
    files.key = Key::read(other.public.as_bytes()).unwrap();
    assert_eq!(files.failed()[0].0, Subject::Signature);
    let name = TpmName::try_from([&[0, 0x0b][..], &[1; 32]].concat()).unwrap();
    files.key = Key::read(forge.public.as_bytes())
        .unwrap()
        .with_qualified_name(name);
    assert_eq!(files.failed()[0].0, Subject::Signer);
}

#[test]
fn a_key_that_may_not_attest_is_refused_whatever_it_signed() {
    let forge = Forge::new(Curve::P256);
    let mut files = Files::of(&forge);
    let mut area = forge.public.as_bytes().to_vec();
    // `restricted`, in the attributes behind type and nameAlg.
    area[5] &= !1;
    files.key = Key::read(&area).unwrap();
    let found = files.failed();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Subject::Key);
    assert!(found[0].1.contains("restricted"), "{}", found[0].1);
}

#[test]
fn only_usable_selections_are_taken() {
    let forge = Forge::new(Curve::P256);
    let pcr7 = || entry(HashAlg::Sha256, &[0x80, 0, 0]);
    for (entries, values, reason) in [
        (vec![], 0, "covers no PCR"),
        (vec![entry(HashAlg::Sha256, &[0, 0, 0])], 0, "covers no PCR"),
        (vec![pcr7(), pcr7()], 64, "selected twice"),
        (vec![entry(HashAlg::Sha256, &[0x80, 0, 0, 1])], 32, "above 23"),
        (vec![entry(HashAlg::Sha1, &[0x80, 0, 0])], 20, "SHA-1 PCRs"),
    ] {
        let found = over(&forge, &entries, values).failed();
        assert_eq!(found[0].0, Subject::Selection, "{reason}");
        assert!(found[0].1.contains(reason), "{}", found[0].1);
    }
    let two = [entry(HashAlg::Sha1, &[0x80, 0, 0]), pcr7()];
    let mut files = over(&forge, &two, 52);
    assert_eq!(files.failed().len(), 1);
    files.allow_sha1 = true;
    assert_eq!(files.failed(), []);
    assert_eq!(files.examine().unwrap().quoted_values().len(), 2);
    // A policy is over one bank.
    files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, values()).unwrap());
    assert_eq!(files.failed()[0].0, Subject::Selection);
}

#[test]
fn values_count_only_as_they_were_quoted() {
    let forge = Forge::new(Curve::P256);
    let mut files = Files::of(&forge);
    files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, values()).unwrap());
    files.event_log = Some(log::boot().concat());
    files.pcrs.swap(0, 40);
    let found = files.examine().unwrap();
    assert_eq!(failed(&found)[0].0, Subject::PcrValues);
    assert_eq!(failed(&found).len(), 1, "policy and log are not judged by them");
    assert!(found.quoted_values().is_empty());
    files.pcrs.truncate(33);
    assert!(
        files.failed()[0]
            .1
            .starts_with("33 bytes of PCR values are there")
    );
}

#[test]
fn a_policy_tells_which_pcr_differs() {
    let forge = Forge::new(Curve::P256);
    let mut files = Files::of(&forge);
    let mut wanted = values();
    let first = *wanted.keys().next().unwrap();
    wanted.insert(first, domain::PcrValue::new(HashAlg::Sha256, &[1; 32]).unwrap());
    files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, wanted.clone()).unwrap());
    assert_eq!(files.failed()[0].0, Subject::Policy);
    assert!(files.failed()[0].1.contains("PCR 7 "));
    wanted.remove(&first);
    files.policy = Some(PcrPolicy::exact(HashAlg::Sha256, wanted).unwrap());
    let subjects: Vec<_> = files.failed().into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(subjects, [Subject::Selection, Subject::Policy]);
}

#[test]
fn an_event_log_replays_or_is_refused() {
    let forge = Forge::new(Curve::P256);
    let quoted = log::boot_quoted(HashAlg::Sha256);
    let mut case = forge.case();
    case.selection = wire::PcrSelections::encode_single(quoted.selection());
    case.pcrs = quoted.as_bytes().to_vec();
    let mut files = Files::signed(&forge, case.quote(), case.pcrs);
    files.event_log = Some(log::boot().concat());
    assert_eq!(files.failed(), []);
    files.event_log = Some(log::boot()[..6].concat());
    assert!(files.failed()[0].1.contains("PCR 11 does not replay"));
    files.event_log = Some(b"no log".to_vec());
    assert!(files.failed()[0].1.starts_with("the event log cannot be read"));
}

#[test]
fn another_statement_is_no_quote_and_other_bytes_are_no_evidence() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let certify = case.statement(wire::Attested::Certify {
        name: &[1; 34],
        qualified_name: &[2; 34],
    });
    let files = Files::signed(&forge, certify, case.pcrs);
    let found = files.examine().unwrap();
    assert_eq!(failed(&found)[0].0, Subject::Quote);
    assert!(found.is_refused() && found.statement().selection.is_none());

    let mut files = Files::of(&forge);
    files.quote[0] ^= 1;
    assert!(matches!(files.examine(), Err(NotEvidence::Quote(_))));
    let mut files = Files::of(&forge);
    files.signature = b"not it".to_vec();
    assert!(matches!(files.examine(), Err(NotEvidence::Signature(_))));
}

#[test]
fn plain_signatures_are_whole_or_none() {
    let forge = Forge::new(Curve::P256);
    let mut files = Files::of(&forge);
    let wire::Signature::Ecdsa { r, s, .. } = wire::Signature::parse(&files.signature).unwrap() else {
        panic!("an ECDSA signature")
    };
    let integer = |number: &[u8]| {
        let number = [&[0][..], number].concat();
        [&[2, u8::try_from(number.len()).unwrap()], &number[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    let plain = [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    files.signature = plain.clone();
    assert_eq!(files.failed(), []);
    for at in [0, 1, 2, 3, 2 + 35, 3 + 35] {
        files.signature = plain.clone();
        files.signature[at] ^= 1;
        assert!(
            matches!(files.examine(), Err(NotEvidence::Signature(_))),
            "byte {at}"
        );
    }
}

#[test]
fn what_is_no_key_is_told() {
    let forge = Forge::new(Curve::P256);
    let good = spki(&forge, Curve::P256);
    assert!(matches!(Key::read(b""), Err(NotAKey::Area(_))));
    assert_eq!(Key::read(&good[..80]).unwrap_err(), NotAKey::Spki);
    assert_eq!(
        Key::read(&[&good[..], b"more"].concat()).unwrap_err(),
        NotAKey::Spki
    );
    let private = b"-----BEGIN PRIVATE KEY-----\nMAMCAQc=\n-----END PRIVATE KEY-----\n";
    assert_eq!(Key::read(private).unwrap_err(), NotAKey::Spki);
    let mut curve = good.clone();
    // prime256v1 becomes another curve; the point is compressed.
    curve[22] = 6;
    assert_eq!(Key::read(&curve).unwrap_err(), NotAKey::Algorithm);
    let mut point = good;
    point[26] = 2;
    assert_eq!(Key::read(&point).unwrap_err(), NotAKey::Algorithm);
}
