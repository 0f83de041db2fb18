//! Of several issuers with one name: which is tried first, and whose failure is told. And what an RSA key of an EK may be used for.

use evidence::certificate::{ChainBreak, NotAnEk, verify_ek_certificate};

use crate::certificates::{
    House, KEY_AGREEMENT, NOW, Signer, broken, ca_constraints, extension, key_usage, read, tlv,
};

const SUBJECT_KEY_ID: [u8; 3] = [0x55, 0x1d, 0x0e];
const AUTHORITY_KEY_ID: [u8; 3] = [0x55, 0x1d, 0x23];
const KEY_ENCIPHERMENT: u8 = 0x20;

/// rsaEncryption of 2048 bits.
fn rsa_spki() -> Vec<u8> {
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    let modulus = tlv(2, &[&[0], &[0xc1; 256]]);
    let key = tlv(0x30, &[&modulus, &[2, 3, 1, 0, 1]]);
    tlv(0x30, &[&algorithm, &tlv(3, &[&[0], &key])])
}

#[test]
fn the_key_that_the_certificate_names_is_tried_first() {
    let house = House::new();
    let named = |id: u8| extension(&SUBJECT_KEY_ID, None, &tlv(4, &[&[id; 20]]));
    let mut files: Vec<Vec<u8>> = (0..70_u8)
        .map(|serial| {
            let mut draft = house.ca_draft();
            draft.serial = vec![2, 1, serial];
            draft.spki = house.ek.spki.clone();
            draft.extensions.push(named(serial));
            draft.signed(&house.root)
        })
        .collect();
    let mut ca = house.ca_draft();
    ca.extensions.push(named(0x77));
    files.extend([ca.signed(&house.root), house.root_der()]);
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let mut ek = house.ek_draft();
    let id = tlv(0x30, &[&tlv(0x80, &[&[0x77; 20]])]);
    ek.extensions.push(extension(&AUTHORITY_KEY_ID, None, &id));
    let outcome = verify_ek_certificate(&ek.signed(&house.ca), &[], &read(&files), NOW);
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn the_failure_nearest_to_a_root_is_told_and_of_two_the_first() {
    let house = House::new();
    let mut other = house.ca_draft();
    other.spki = Signer::new().spki;
    let other = other.signed(&house.root);
    let mut expired = house.ca_draft();
    expired.not_after = tlv(0x17, &[b"251231000000Z"]);
    let expired = expired.signed(&house.root);
    let mut edwards = house.ca_draft();
    edwards.spki = tlv(0x30, &[&[0x30, 5, 6, 3, 0x2b, 0x65, 0x70], &tlv(3, &[&[0; 33]])]);
    let edwards = edwards.signed(&house.root);

    let root = house.root_der();
    let judge = |first: &[u8], second: &[u8]| {
        let roots = read(&[&root, first, second]);
        broken(verify_ek_certificate(&house.ek_der(), &[], &roots, NOW))
    };
    for (depth, reason) in [judge(&other, &expired), judge(&expired, &other)] {
        assert!(matches!(reason, ChainBreak::Expired { .. }), "{reason:?}");
        assert_eq!(depth, 1);
    }
    let (depth, reason) = judge(&other, &edwards);
    assert!(
        matches!((depth, &reason), (0, ChainBreak::Signature { .. })),
        "{reason:?}"
    );
    let (depth, reason) = judge(&edwards, &other);
    assert!(
        matches!((depth, &reason), (0, ChainBreak::Algorithm { .. })),
        "{reason:?}"
    );
}

#[test]
fn an_rsa_key_is_for_encipherment_and_does_not_agree_on_keys() {
    let house = House::new();
    let mut draft = house.ek_draft();
    draft.spki = rsa_spki();
    for good in [KEY_ENCIPHERMENT, KEY_ENCIPHERMENT | KEY_AGREEMENT] {
        draft.extensions[2] = key_usage(good);
        assert_eq!(house.judge_ek(&draft).unwrap().spki_der(), rsa_spki());
    }
    for bad in [KEY_AGREEMENT, 0x80, 0] {
        draft.extensions[2] = key_usage(bad);
        let outcome = broken(house.judge_ek(&draft));
        assert_eq!(outcome, (0, ChainBreak::NotAnEk(NotAnEk::KeyUsage)), "{bad:#x}");
    }
    draft.extensions.remove(2);
    assert!(house.judge_ek(&draft).is_ok());
    // An elliptic one may say either.
    let mut elliptic = house.ek_draft();
    elliptic.extensions[2] = key_usage(KEY_ENCIPHERMENT);
    assert!(house.judge_ek(&elliptic).is_ok());
    // A CA that is one by its constraints alone issues; what it may do is not said.
    let mut ca = house.ca_draft();
    ca.extensions = vec![ca_constraints(None)];
    assert!(house.judge_ca(&ca).is_ok());
}
