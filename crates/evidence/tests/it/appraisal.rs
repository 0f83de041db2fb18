//! What the appraisal accepts, and every reason for which it refuses.

use std::collections::BTreeMap;

use crate::forge::{Forge, QUALIFYING_DATA, digest_of, index, values};
use domain::{HashAlg, PcrValue};
use evidence::{
    Continuity, Counters, Failure, FailureClass, PcrPolicy, Rejected, Stale,
    wire::{self, Curve, ParseError, Scheme, Signature, SignatureAlg},
};

fn refused(found: Result<evidence::Attested, Rejected>) -> Rejected {
    found.expect_err("this evidence must be refused")
}

/// The single failure, with its class.
fn only(rejected: &Rejected) -> (&Failure, FailureClass) {
    assert_eq!(rejected.failures().len(), 1, "{rejected}");
    (&rejected.failures()[0], rejected.class())
}

#[test]
fn good_evidence_of_both_curves_is_attested() {
    for curve in [Curve::P256, Curve::P384] {
        let forge = Forge::new(curve);
        let attested = forge.case().judge().unwrap();
        assert_eq!(attested.ak_name(), forge.ak().name());
        assert_eq!(attested.continuity(), Continuity::First);
        assert_eq!(attested.firmware_version(), 0x2024_0001);
        assert_eq!(
            attested.counters(),
            Counters {
                reset_count: 3,
                restart_count: 2,
                clock: 5000,
                safe: true
            }
        );
    }
}

/// Field note 6: a signed blob that is no quote.
#[test]
fn other_statements_of_the_tpm_are_no_quotes() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let certify = case.statement(wire::Attested::Certify {
        name: &[1; 34],
        qualified_name: &[2; 34],
    });
    let creation = case.statement(wire::Attested::Creation {
        name: &[1; 34],
        creation_hash: &[2; 32],
    });
    for (statement, found) in [(certify, "a certification"), (creation, "a creation statement")] {
        let rejected = refused(case.judge_signed(&statement, &forge.sign(&statement)));
        assert_eq!(
            only(&rejected),
            (&Failure::NotAQuote { found }, FailureClass::Invalid)
        );
    }
}

#[test]
fn what_no_tpm_made_is_no_quote_however_it_is_signed() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let mut quote = case.quote();
    quote[0] = 0;
    let rejected = refused(case.judge_signed(&quote, &forge.sign(&quote)));
    let expected = Failure::Quote(ParseError::Magic(0x0054_4347));
    assert_eq!(only(&rejected), (&expected, FailureClass::Invalid));
}

#[test]
fn an_unreadable_quote_and_signature_are_both_told() {
    let forge = Forge::new(Curve::P256);
    let rejected = refused(forge.case().judge_signed(&[], &[0]));
    assert_eq!(
        rejected.to_string(),
        "the quote cannot be read: the bytes end inside magic; \
         the signature cannot be read: the bytes end inside sigAlg"
    );
}

#[test]
fn another_keys_signature_is_forged() {
    let (forge, other) = (Forge::new(Curve::P256), Forge::new(Curve::P256));
    let case = forge.case();
    let quote = case.quote();
    let rejected = refused(case.judge_signed(&quote, &other.sign(&quote)));
    let ak_name = forge.ak().name().clone();
    assert_eq!(
        only(&rejected),
        (&Failure::Forged { ak_name }, FailureClass::Invalid)
    );
}

#[test]
fn a_signature_over_another_quote_is_forged() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let signature = forge.sign(&case.quote());
    case.clock.clock += 1;
    let rejected = refused(case.judge_signed(&case.quote(), &signature));
    assert!(matches!(only(&rejected).0, Failure::Forged { .. }));
}

#[test]
fn the_scheme_is_the_keys_alone() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let quote = case.quote();
    let signature = forge.sign(&quote);
    let Signature::Ecdsa { r, s, .. } = Signature::parse(&signature).unwrap() else {
        panic!("an ECDSA signature");
    };
    let own = forge.ak().scheme();
    let other_hash = Signature::Ecdsa {
        hash: HashAlg::Sha384,
        r,
        s,
    };
    let other_alg = Signature::Rsa {
        scheme: Scheme {
            alg: SignatureAlg::Rsassa,
            hash: HashAlg::Sha256,
        },
        bytes: &[1; 256],
    };
    for other in [other_hash, other_alg] {
        let rejected = refused(case.judge_signed(&quote, &other.encode()));
        let expected = Failure::Scheme {
            expected: own,
            found: other.scheme(),
        };
        assert_eq!(only(&rejected), (&expected, FailureClass::Invalid));
    }
}

#[test]
fn numbers_longer_than_the_curve_are_forged_and_stripped_zeros_are_fine() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let quote = case.quote();
    // One signature in 128 has a leading zero in r or s.
    let (mut r, mut s) = loop {
        let signature = forge.sign(&quote);
        let Signature::Ecdsa { r, s, .. } = Signature::parse(&signature).unwrap() else {
            panic!("an ECDSA signature");
        };
        if r[0] == 0 || s[0] == 0 {
            break (r.to_vec(), s.to_vec());
        }
    };
    let signature = |r: &[u8], s: &[u8]| {
        let hash = HashAlg::Sha256;
        Signature::Ecdsa { hash, r, s }.encode()
    };
    let strip = |n: &[u8]| n[n.iter().position(|b| *b != 0).unwrap()..].to_vec();
    assert!(
        case.judge_signed(&quote, &signature(&strip(&r), &strip(&s)))
            .is_ok()
    );
    r.insert(0, 0);
    let rejected = refused(case.judge_signed(&quote, &signature(&r, &s)));
    assert!(matches!(only(&rejected).0, Failure::Forged { .. }));
    r.remove(0);
    s.insert(0, 0);
    let rejected = refused(case.judge_signed(&quote, &signature(&r, &s)));
    assert!(matches!(only(&rejected).0, Failure::Forged { .. }));
}

/// Field note 17: the same key under another parent has another qualified name.
#[test]
fn another_qualified_signer_is_refused() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let mut other = case.qualified_signer.clone();
    other[33] ^= 1;
    for found in [other, Vec::new(), forge.ak().name().as_bytes().to_vec()] {
        case.qualified_signer.clone_from(&found);
        let rejected = refused(case.judge());
        let expected = Failure::Signer {
            expected: forge.qualified_name.clone(),
            found,
        };
        assert_eq!(only(&rejected), (&expected, FailureClass::Invalid));
    }
}

/// Field note 5: a quote without a nonce, and every other nonce.
#[test]
fn other_qualifying_data_is_refused() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let mut flipped = QUALIFYING_DATA;
    flipped[31] ^= 0x80;
    let longer = [&QUALIFYING_DATA[..], &[0]].concat();
    for found in [
        Vec::new(),
        vec![0; 32],
        flipped.to_vec(),
        longer,
        QUALIFYING_DATA[..31].to_vec(),
    ] {
        case.extra_data.clone_from(&found);
        let rejected = refused(case.judge());
        let expected = Failure::QualifyingData {
            expected: QUALIFYING_DATA,
            found,
        };
        assert_eq!(only(&rejected), (&expected, FailureClass::Invalid));
    }
}

#[test]
fn counters_that_go_back_are_stale_and_others_tell_the_continuity() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let now = Counters::from(case.clock);
    for (reset_count, restart_count, clock, continuity) in [
        (3, 2, 4999, Continuity::Continued),
        (2, 9, 9999, Continuity::Rebooted),
        (3, 1, 5000, Continuity::Resumed),
    ] {
        case.last = Some(Counters {
            reset_count,
            restart_count,
            clock,
            ..now
        });
        assert_eq!(case.judge().unwrap().continuity(), continuity);
    }
    // The very same quote again.
    case.last = Some(now);
    let rejected = refused(case.judge());
    let expected = Failure::Stale(Stale::Clock {
        last: 5000,
        now: 5000,
    });
    assert_eq!(only(&rejected), (&expected, FailureClass::Stale));
    assert_eq!(
        rejected.to_string(),
        "the TPM's clock did not move on: 5000 ms before, 5000 ms now"
    );
}

#[test]
fn a_differing_pcr_is_named_with_both_values() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.pcrs[0] ^= 1;
    let rejected = refused(case.judge());
    assert_eq!(rejected.class(), FailureClass::Mismatch);
    assert_eq!(
        rejected.to_string(),
        format!(
            "PCR 7 differs from the policy: Secure Boot state or keys changed; expected {}, found 76{}",
            "77".repeat(32),
            "77".repeat(31)
        )
    );
}

#[test]
fn every_differing_pcr_is_named() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.pcrs.fill(0);
    let rejected = refused(case.judge());
    let named: Vec<_> = rejected
        .failures()
        .iter()
        .map(|failure| match failure {
            Failure::Pcr { index, found, .. } => (index.get(), found.is_uninitialised()),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(named, [(7, true), (11, true)]);
}

/// Field note 7, CVE-2022-0317: no PCRs, some of them, more of them, another bank, several banks, index off by one.
#[test]
fn the_quoted_selection_is_exactly_the_policys() {
    let forge = Forge::new(Curve::P256);
    let two = |bank: u8, bits: [u8; 3]| [&[0, 0, 0, 1, 0, bank, 3], &bits[..]].concat();
    for (selection, values, text) in [
        (vec![0; 4], 0, "none"),
        (two(0x0b, [0, 0, 0]), 0, "sha256:none"),
        (two(0x0b, [0x80, 0, 0]), 1, "sha256:7"),
        (two(0x0b, [0x81, 0x08, 0]), 3, "sha256:0,7,11"),
        (two(0x0b, [0x80, 0x08, 1]), 3, "sha256:7,11,16"),
        (two(0x0b, [0x00, 0x11, 0]), 2, "sha256:8,12"),
        (two(0x04, [0x80, 0x08, 0]), 2, "sha1:7,11"),
        (two(0x0c, [0x80, 0x08, 0]), 2, "sha384:7,11"),
        (
            vec![0, 0, 0, 2, 0, 0x0b, 3, 0x80, 0x08, 0, 0, 4, 3, 0, 0, 0],
            2,
            "sha256:7,11+sha1:none",
        ),
        (
            vec![0, 0, 0, 2, 0, 0x0b, 3, 0x80, 0, 0, 0, 0x0b, 3, 0, 8, 0],
            2,
            "sha256:7+sha256:11",
        ),
        (
            vec![0, 0, 0, 1, 0, 0x0b, 4, 0x80, 0x08, 0, 1],
            3,
            "sha256:7,11,24",
        ),
    ] {
        let mut case = forge.case();
        let value_len = match selection.get(5) {
            Some(4) => 20,
            Some(0x0c) => 48,
            _ => 32,
        };
        case.selection = selection;
        case.pcrs = vec![0x77; values * value_len];
        let rejected = refused(case.judge());
        let expected = Failure::Selection {
            expected: case.policy.selection(),
            found: text.to_owned(),
        };
        assert_eq!(rejected.failures()[0], expected, "{text}");
        assert_eq!(rejected.class(), FailureClass::Mismatch, "{rejected}");
    }
}

#[test]
fn a_differing_pcr_is_named_also_where_more_were_quoted() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.selection = vec![0, 0, 0, 1, 0, 0x0b, 3, 0x81, 0x08, 0];
    case.pcrs = [[0x11; 32], [0x77; 32], [0x22; 32]].concat();
    assert_eq!(
        refused(case.judge()).to_string(),
        format!(
            "the quote covers sha256:0,7,11, the policy wants exactly sha256:7,11; \
             PCR 11 differs from the policy: the unified kernel image or the phase of the boot changed; expected {}, found {}",
            "bb".repeat(32),
            "22".repeat(32)
        )
    );
}

#[test]
fn values_that_were_not_quoted_are_worth_nothing() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.digest = Some(digest_of(HashAlg::Sha256, b"something else"));
    let rejected = refused(case.judge());
    assert_eq!(only(&rejected), (&Failure::PcrDigest, FailureClass::Invalid));
    for digest in [Vec::new(), digest_of(HashAlg::Sha256, &case.pcrs)[..31].to_vec()] {
        case.digest = Some(digest);
        assert_eq!(only(&refused(case.judge())).0, &Failure::PcrDigest);
    }
}

#[test]
fn values_are_as_many_as_were_quoted() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.pcrs.push(0);
    let rejected = refused(case.judge());
    let expected = Failure::ValuesLength {
        selection: case.policy.selection(),
        expected: 64,
        found: 65,
    };
    assert_eq!(only(&rejected), (&expected, FailureClass::Invalid));
}

/// `pcrDigest` uses the hash of the scheme, not the bank's: SHA-384 over a SHA-256 bank and the other way round.
#[test]
fn the_digest_is_by_the_schemes_hash() {
    let forge = Forge::new(Curve::P384);
    let mut case = forge.case();
    assert!(case.judge().is_ok());
    case.digest = Some(digest_of(HashAlg::Sha256, &case.pcrs));
    assert_eq!(only(&refused(case.judge())).0, &Failure::PcrDigest);

    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let value = PcrValue::new(HashAlg::Sha384, &[3; 48]).unwrap();
    case.policy = PcrPolicy::exact(HashAlg::Sha384, BTreeMap::from([(index(7), value)])).unwrap();
    case.selection = wire::PcrSelections::encode_single(&case.policy.selection());
    case.pcrs = vec![3; 48];
    assert!(case.judge().is_ok());
}

#[test]
fn sha1_values_count_where_the_policy_names_them() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let value = PcrValue::new(HashAlg::Sha1, &[3; 20]).unwrap();
    case.policy = PcrPolicy::exact(HashAlg::Sha1, BTreeMap::from([(index(7), value)])).unwrap();
    case.selection = wire::PcrSelections::encode_single(&case.policy.selection());
    case.pcrs = vec![3; 20];
    assert!(case.judge().is_ok());
}

#[test]
fn longer_bitmaps_with_zeros_are_the_same_selection() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.selection = vec![0, 0, 0, 1, 0, 0x0b, 4, 0x80, 0x08, 0, 0];
    assert!(case.judge().is_ok());
}

#[test]
fn all_that_is_wrong_is_told_and_the_gravest_decides() {
    let (forge, other) = (Forge::new(Curve::P256), Forge::new(Curve::P256));
    let mut case = forge.case();
    case.qualified_signer[5] ^= 1;
    case.extra_data[0] ^= 1;
    case.last = Some(Counters {
        reset_count: 4,
        ..Counters::from(case.clock)
    });
    case.pcrs[40] ^= 1;
    let quote = case.quote();
    let rejected = refused(case.judge_signed(&quote, &other.sign(&quote)));
    let kinds: Vec<_> = rejected.failures().iter().map(Failure::class).collect();
    use FailureClass::{Invalid, Mismatch, Stale};
    assert_eq!(kinds, [Invalid, Invalid, Invalid, Stale, Mismatch], "{rejected}");
    assert_eq!(rejected.class(), Invalid);

    let mut case = forge.case();
    case.last = Some(Counters {
        restart_count: 3,
        ..Counters::from(case.clock)
    });
    case.pcrs[40] ^= 1;
    let rejected = refused(case.judge());
    let kinds: Vec<_> = rejected.failures().iter().map(Failure::class).collect();
    assert_eq!(kinds, [Stale, Mismatch], "{rejected}");
    assert_eq!(rejected.class(), Stale);
}

#[test]
fn the_policy_decides_and_not_the_evidence() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    let mut other = values();
    other.insert(index(7), PcrValue::new(HashAlg::Sha256, &[1; 32]).unwrap());
    case.policy = PcrPolicy::exact(HashAlg::Sha256, other).unwrap();
    let rejected = refused(case.judge());
    assert!(matches!(only(&rejected).0, Failure::Pcr { .. }));
}
