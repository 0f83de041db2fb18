//! The accepting path allocates nothing, the verdict included: the proxy runs it for every quote.

use crate::forge::{Forge, index, values};
use domain::{HashAlg, PcrValue, UnixTime};
use evidence::{Counters, Evidence, Expected, GoldenSet, PcrPolicy, appraise, wire::Curve};

/// A set that is not the device's, then the one that is.
fn golden() -> PcrPolicy {
    let mut other = values();
    other.insert(index(7), PcrValue::new(HashAlg::Sha256, &[1; 32]).unwrap());
    let set = |name: &str, values| GoldenSet {
        name: name.parse().unwrap(),
        until: Some(UnixTime::from_secs(2)),
        values,
    };
    PcrPolicy::golden(HashAlg::Sha256, vec![set("other", other), set("own", values())]).unwrap()
}

#[test]
fn an_accepted_quote_costs_no_allocation() {
    for curve in [Curve::P256, Curve::P384] {
        let forge = Forge::new(curve);
        let mut case = forge.case();
        case.last = Some(Counters {
            clock: 1,
            ..Counters::from(case.clock)
        });
        let quote = case.quote();
        let signature = forge.sign(&quote);
        let evidence = Evidence {
            quote: &quote,
            signature: &signature,
            pcrs: &case.pcrs,
        };
        let expected = case.expected();
        let golden = golden();
        for now in [None, Some(UnixTime::from_secs(1))] {
            let mut accepted = false;
            let counted = allocation_counter::measure(|| {
                accepted = match now {
                    None => appraise(evidence, &expected).is_ok(),
                    Some(now) => {
                        let policy = &golden.at(now);
                        appraise(evidence, &Expected { policy, ..expected }).is_ok()
                    }
                };
            });
            assert!(accepted);
            assert_eq!(counted.count_total, 0, "{curve:?} {now:?}: {counted:?}");
        }
    }
}
