//! Good evidence with any byte flipped or any end cut off is never accepted, and never panics.

use crate::forge::Forge;
use evidence::{Attested, Failure, FailureClass, Rejected, wire::Curve};

fn refused(found: Result<Attested, Rejected>) -> Rejected {
    found.expect_err("this evidence must be refused")
}

#[test]
fn no_flipped_byte_of_good_evidence_is_accepted() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let quote = case.quote();
    let signature = forge.sign(&quote);
    assert!(case.judge_signed(&quote, &signature).is_ok());
    for mask in [0x01, 0x80, 0xff] {
        for at in 0..quote.len() {
            let mut spoilt = quote.clone();
            spoilt[at] ^= mask;
            let rejected = refused(case.judge_signed(&spoilt, &signature));
            assert_eq!(rejected.class(), FailureClass::Invalid, "byte {at}");
        }
        for at in 0..signature.len() {
            let mut spoilt = signature.clone();
            spoilt[at] ^= mask;
            let rejected = refused(case.judge_signed(&quote, &spoilt));
            assert_eq!(rejected.class(), FailureClass::Invalid, "byte {at}");
        }
        for at in 0..case.pcrs.len() {
            let mut case = forge.case();
            case.pcrs[at] ^= mask;
            let rejected = refused(case.judge_signed(&quote, &signature));
            assert_eq!(rejected.failures(), [Failure::PcrDigest], "byte {at}");
        }
    }
}

#[test]
fn no_truncation_of_good_evidence_is_accepted() {
    let forge = Forge::new(Curve::P256);
    let case = forge.case();
    let quote = case.quote();
    let signature = forge.sign(&quote);
    for len in 0..quote.len() {
        // Signed as it is, so that the parser alone stands in the way.
        let cut = &quote[..len];
        assert!(matches!(
            refused(case.judge_signed(cut, &forge.sign(cut))).failures(),
            [Failure::Quote(_)]
        ));
    }
    for len in 0..signature.len() {
        assert!(matches!(
            refused(case.judge_signed(&quote, &signature[..len])).failures(),
            [Failure::Signature(_)]
        ));
    }
    for len in 0..case.pcrs.len() {
        let mut case = forge.case();
        case.pcrs.truncate(len);
        let rejected = refused(case.judge_signed(&quote, &signature));
        assert_eq!(rejected.class(), FailureClass::Invalid);
    }
    let tail = |bytes: &[u8]| [bytes, &[0]].concat();
    assert!(
        case.judge_signed(&tail(&quote), &forge.sign(&tail(&quote)))
            .is_err()
    );
    assert!(case.judge_signed(&quote, &tail(&signature)).is_err());
}
