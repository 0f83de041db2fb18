//! What the EK certificate itself must be, and what it says about its TPM.

use crate::certificates::{
    BASIC_CONSTRAINTS, Draft, ECDSA_SHA256, EK_PURPOSE, House, KEY_AGREEMENT, SERVER_PURPOSE,
    SUBJECT_ALT_NAME, alt_name, assemble, attribute, broken, ca_constraints, extension, key_usage,
    leaf_constraints, purpose, tlv, tpm_name,
};
use domain::EkDigest;
use evidence::certificate::{CertificateError, ChainBreak, FirmwareVersion, NotAnEk, ReadError};

#[test]
fn what_is_no_certificate_says_so() {
    let house = House::new();
    let unreadable = |bytes: &[u8]| match broken(house.judge(bytes)) {
        (0, ChainBreak::Unreadable(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        unreadable(b"no certificate"),
        CertificateError::Read(ReadError::NotDer)
    );
    assert_eq!(unreadable(&[]), CertificateError::Read(ReadError::Nothing));
    assert_eq!(unreadable(&[0x30, 3, 2, 1, 0]), CertificateError::Malformed);
    let two = [house.ek_der(), house.ca_der()].concat();
    assert_eq!(
        unreadable(&two),
        CertificateError::Read(ReadError::Several { count: 2 })
    );

    let mut draft = house.ek_draft();
    draft.spki = tlv(0x30, &[&crate::certificates::EC_P256, &tlv(3, &[&[0], &[4; 65]])]);
    assert_eq!(unreadable(&draft.signed(&house.ca)), CertificateError::Key);
    let mut draft = house.ek_draft();
    draft.extensions.push(leaf_constraints());
    assert!(
        matches!(unreadable(&draft.signed(&house.ca)), CertificateError::Extension(why) if why.contains("twice"))
    );
    let mut draft = house.ek_draft();
    draft.extensions[1] = extension(&BASIC_CONSTRAINTS, Some(0xff), &[0x30, 1, 1]);
    let broken_constraints = CertificateError::Extension("basicConstraints");
    assert_eq!(unreadable(&draft.signed(&house.ca)), broken_constraints);
    let mut draft = house.ek_draft();
    let twice = [
        attribute(&[0x67, 0x81, 5, 2, 1], 0x0c, "id:49465800"),
        attribute(&[0x67, 0x81, 5, 2, 1], 0x0c, "id:4E544300"),
    ];
    draft.extensions[0] = alt_name(&tlv(0x31, &[&twice[0], &twice[1]]));
    assert_eq!(
        unreadable(&draft.signed(&house.ca)),
        CertificateError::Extension("subjectAltName")
    );

    // A DNS name that is none.
    let mut draft = house.ek_draft();
    let names = tlv(0x30, &[&tlv(0x82, &[&[0xff]])]);
    draft.extensions[0] = extension(&SUBJECT_ALT_NAME, None, &names);
    assert_eq!(
        unreadable(&draft.signed(&house.ca)),
        CertificateError::Extension("subjectAltName")
    );

    let tbs = house.ek_draft().tbs();
    let mut sha384 = ECDSA_SHA256;
    sha384[11] = 3;
    let two_algorithms = assemble(&tbs, &sha384, &house.ca.sign(&tbs));
    assert_eq!(unreadable(&two_algorithms), CertificateError::TwoAlgorithms);
    let bits = tlv(3, &[&[4], &house.ca.sign(&tbs)[..60], &[0xf0]]);
    let halved = tlv(0x30, &[&tbs, &ECDSA_SHA256, &bits]);
    assert_eq!(unreadable(&halved), CertificateError::Signature);
}

#[test]
fn what_is_no_ek_certificate_says_so() {
    let house = House::new();
    let not_an_ek = |draft: &Draft| match broken(house.judge_ek(draft)) {
        (0, ChainBreak::NotAnEk(why)) => why,
        other => panic!("{other:?}"),
    };
    let good = house.ek_draft();
    let with = |index: usize, extension: Vec<u8>| {
        let mut draft = good.clone();
        draft.extensions[index] = extension;
        draft
    };
    assert_eq!(not_an_ek(&with(1, ca_constraints(None))), NotAnEk::Ca);
    assert_eq!(not_an_ek(&with(3, purpose(&SERVER_PURPOSE))), NotAnEk::Purpose);
    // Signing only: an AK's, say.
    assert_eq!(not_an_ek(&with(2, key_usage(0x80))), NotAnEk::KeyUsage);
    let mut unmarked = good.clone();
    unmarked.extensions = vec![leaf_constraints(), key_usage(KEY_AGREEMENT)];
    assert_eq!(not_an_ek(&unmarked), NotAnEk::Unmarked);
    let mut unmarked_v1 = good.clone();
    unmarked_v1.version.clear();
    unmarked_v1.extensions.clear();
    assert_eq!(not_an_ek(&unmarked_v1), NotAnEk::Unmarked);
    let mut ed25519 = good.clone();
    ed25519.spki = tlv(0x30, &[&[0x30, 5, 6, 3, 0x2b, 0x65, 0x70], &tlv(3, &[&[0; 33]])]);
    assert_eq!(not_an_ek(&ed25519), NotAnEk::Key("1.3.101.112".to_owned()));
    // Its maker alone marks it, or its purpose alone.
    let mut named = good.clone();
    named.extensions.pop();
    assert!(house.judge_ek(&named).is_ok());
    let mut purposed = good.clone();
    purposed.extensions = vec![purpose(&EK_PURPOSE)];
    let nameless = house.judge_ek(&purposed).unwrap();
    assert_eq!(
        (nameless.maker(), nameless.model(), nameless.firmware()),
        (None, None, None)
    );
    assert_eq!(nameless.to_string(), "unnamed maker, by CN=Root CA");
}

#[test]
fn the_makers_own_forms_are_kept_as_text() {
    let house = House::new();
    let mut draft = house.ek_draft();
    draft.extensions[0] = tpm_name("id:FFFFF1D0", "T\u{1b}PM", "one.two");
    let certificate = house.judge_ek(&draft).unwrap();
    assert_eq!(certificate.maker().unwrap().to_string(), "FFFFF1D0");
    assert_eq!(certificate.model().unwrap(), "T?PM");
    assert_eq!(certificate.firmware(), None);
    assert_eq!(certificate.firmware_text().unwrap(), "one.two");
    assert_eq!(
        certificate.to_string(),
        "maker FFFFF1D0 T?PM, firmware one.two, by CN=Root CA"
    );
    let plain = house.judge(&house.ek_der()).unwrap();
    assert_eq!(plain.firmware(), Some(FirmwareVersion { major: 16, minor: 21 }));
    assert_eq!(
        plain.to_string(),
        "Infineon (IFX) SLB 9672, firmware 16.21, by CN=Root CA"
    );
    assert_eq!(plain.chain_subjects(), ["(no name)", "CN=EK CA", "CN=Root CA"]);
    assert_eq!(plain.spki_der(), house.ek.spki);
    assert_eq!(plain.ek_digest(), EkDigest::of(&house.ek.spki));
    assert_eq!(
        plain.validity().to_string(),
        "from 2025-01-01T00:00:00Z to 2035-01-01T00:00:00Z"
    );
}
