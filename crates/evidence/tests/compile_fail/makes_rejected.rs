//! A refusal comes from failed checks.
use evidence::{Failure, Rejected};

fn make() -> Rejected {
    Rejected(vec![Failure::PcrDigest])
}

fn main() {}
