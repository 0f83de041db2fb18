//! Freshness cannot be claimed.
use evidence::{AttestationKey, Continuity, Fresh, Quote};

fn make<'a>(quote: Quote<'a>, ak: &'a AttestationKey) -> Fresh<'a> {
    Fresh {
        quote,
        ak,
        continuity: Continuity::First,
    }
}

fn main() {}
