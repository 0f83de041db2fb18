//! A fresh quote whose PCRs nobody compared attests nothing.
use evidence::{Attested, Fresh};

fn skip(fresh: Fresh<'static>) -> Attested {
    fresh.attested()
}

fn main() {}
