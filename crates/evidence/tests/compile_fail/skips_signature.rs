//! A quote that nobody signed cannot be fresh.
use evidence::{Fresh, Quote, Rejected};

fn skip(quote: Quote<'static>) -> Result<Fresh<'static>, Rejected> {
    quote.fresh(&[0; 32], None)
}

fn main() {}
