//! Files as an operator has them: keys in any form, quotes and signatures as stock tools write them.

use std::sync::LazyLock;

use domain::{HashAlg, PcrValues};
use evidence::{
    Evidence,
    offline::{Case, Key, examine},
    wire::Public,
};

use crate::vector::Vector;

struct Good {
    key: Key,
    qualifying_data: Vec<u8>,
    quote: Vec<u8>,
    pcrs: Vec<u8>,
}

/// Its key made this one quote and no other.
static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let vector = Vector::read(include_str!(
        "../../crates/evidence/vectors/accepted-ecdsa-p256.json"
    ));
    Good {
        key: Key::read(&vector.bytes("/ak/public")).expect("a key"),
        qualifying_data: vector.bytes("/qualifying_data"),
        quote: vector.bytes("/quote"),
        pcrs: vector.bytes("/pcrs"),
    }
});

/// A key's file; and, behind two lengths, quote, signature and PCR values: not refused only if they are the good ones.
pub fn offline(data: &[u8]) {
    if let Ok(key) = Key::read(data) {
        let rest = data.get(2..).unwrap_or_default();
        let is_area = Public::parse(data).is_ok() || Public::parse(rest).is_ok();
        assert_ne!(is_area, key.is_bare());
    }
    let Some(([a, b], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let Some((quote, rest)) = rest.split_at_checked(usize::from(*a)) else {
        return;
    };
    let Some((signature, pcrs)) = rest.split_at_checked(usize::from(*b)) else {
        return;
    };
    let good = &*GOOD;
    let case = Case {
        evidence: Evidence {
            quote,
            signature,
            pcrs,
        },
        key: &good.key,
        qualifying_data: &good.qualifying_data,
        policy: None,
        event_log: None,
        image_statement: None,
        allow_sha1: false,
    };
    if let Ok(examination) = examine(&case)
        && !examination.is_refused()
    {
        assert!(quote.ends_with(&good.quote) && quote.len() <= good.quote.len() + 2);
        assert_eq!(pcrs, good.pcrs);
        let bank = |values: &PcrValues| values.selection().bank();
        assert!(
            examination
                .quoted_values()
                .iter()
                .all(|values| bank(values) == HashAlg::Sha256)
        );
    }
}
