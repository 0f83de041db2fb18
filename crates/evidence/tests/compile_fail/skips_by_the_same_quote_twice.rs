//! A step takes the one before it with it: one signature check cannot serve two challenges.
use evidence::{Fresh, Rejected, SignedBy};

fn twice(signed: SignedBy<'static>) -> [Result<Fresh<'static>, Rejected>; 2] {
    [signed.fresh(&[0; 32], None), signed.fresh(&[1; 32], None)]
}

fn main() {}
