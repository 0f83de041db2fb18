//! The accepting path allocates nothing, the verdict included: the proxy runs it for every quote.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code"
)]

mod forge;

use evidence::{Counters, Evidence, appraise, wire::Curve};
use forge::Forge;

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
        let mut accepted = false;
        let counted = allocation_counter::measure(|| accepted = appraise(evidence, &expected).is_ok());
        assert!(accepted);
        assert_eq!(counted.count_total, 0, "{curve:?}: {counted:?}");
    }
}
