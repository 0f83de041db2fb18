//! The verdict has no constructor outside.
use evidence::{Attested, Continuity, Counters};

fn make(counters: Counters) -> Attested {
    Attested {
        ak_name: todo!(),
        counters,
        continuity: Continuity::First,
        firmware_version: 0,
        golden_set: None,
    }
}

fn main() {}
