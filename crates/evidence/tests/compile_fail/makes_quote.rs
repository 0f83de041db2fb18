//! A quote comes from bytes alone, so that what was signed is what was read.
use evidence::{Quote, wire::Attest};

fn make<'a>(bytes: &'a [u8], attest: Attest<'a>) -> Quote<'a> {
    Quote { bytes, attest }
}

fn main() {}
