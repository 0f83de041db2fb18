//! A signature check cannot be claimed.
use evidence::{AttestationKey, Quote, SignedBy};

fn make<'a>(quote: Quote<'a>, ak: &'a AttestationKey) -> SignedBy<'a> {
    SignedBy { quote, ak }
}

fn main() {}
