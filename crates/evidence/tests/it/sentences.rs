//! What the operator reads names both sides of a difference, in full.

use crate::forge::{Forge, QUALIFYING_DATA};
use data_encoding::HEXLOWER;
use evidence::wire::Curve;

#[test]
fn a_forged_signature_names_the_registered_key() {
    let (forge, other) = (Forge::new(Curve::P256), Forge::new(Curve::P256));
    let case = forge.case();
    let quote = case.quote();
    let rejected = case.judge_signed(&quote, &other.sign(&quote)).unwrap_err();
    let name = HEXLOWER.encode(forge.ak().name().as_bytes());
    let sentence = format!("the signature over the quote is not by the registered AK {name}");
    assert_eq!(rejected.to_string(), sentence);
}

#[test]
fn another_signer_is_named_beside_the_registered_one() {
    let forge = Forge::new(Curve::P256);
    let mut case = forge.case();
    case.qualified_signer = vec![0, 0x0b, 0xfe];
    let rejected = case.judge().unwrap_err();
    let expected = HEXLOWER.encode(forge.qualified_name.as_bytes());
    let sentence = "the quote names another signer than the registered AK";
    assert_eq!(
        rejected.to_string(),
        format!("{sentence}: expected {expected}, found 000bfe")
    );
}

#[test]
fn qualifying_data_is_shown_and_its_absence_said() {
    let forge = Forge::new(Curve::P256);
    let expected = HEXLOWER.encode(&QUALIFYING_DATA);
    for (data, found) in [(vec![0xc0, 0xde], "c0de"), (Vec::new(), "none")] {
        let mut case = forge.case();
        case.extra_data = data;
        let rejected = case.judge().unwrap_err();
        let sentence = "the quote answers another challenge, request or session";
        assert_eq!(
            rejected.to_string(),
            format!("{sentence}: expected qualifying data {expected}, found {found}")
        );
    }
}
