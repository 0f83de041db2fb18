//! EK certificates as makers write them, which a strict reader refuses; and as nobody may write them.

use crate::certificates::{
    BASIC_CONSTRAINTS, Draft, ECDSA_SHA256, EXTENDED_KEY_USAGE, House, KEY_USAGE, NOW, alt_name, assemble,
    attribute, ca_constraints, cn, extension, long_form, read, tlv,
};
use domain::CertificateDigest;
use evidence::certificate::{Roots, TlsCertificate, certificates_in, verify_ek_certificate};
use proptest::{collection::vec, prelude::*, sample::Index};

/// An EK certificate with this change is as good as without.
fn tolerated(what: &str, change: impl FnOnce(&mut Draft)) {
    let house = House::new();
    let mut draft = house.ek_draft();
    change(&mut draft);
    let certificate = house
        .judge_ek(&draft)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(certificate.maker().unwrap().to_string(), "IFX", "{what}");
    assert_eq!(
        certificate.ek_digest(),
        domain::EkDigest::of(&house.ek.spki),
        "{what}"
    );
}

#[test]
fn what_makers_write_beside_der_is_read() {
    tolerated("a serial number that is not minimal", |draft| {
        draft.serial = vec![2, 3, 0, 0, 7];
    });
    tolerated("a negative serial number", |draft| {
        draft.serial = vec![2, 2, 0xff, 0xfe];
    });
    tolerated("a serial number of 24 bytes", |draft| {
        draft.serial = tlv(2, &[&[0x5a; 24]]);
    });
    tolerated("the default of critical written out", |draft| {
        draft.extensions[3] = extension(
            &EXTENDED_KEY_USAGE,
            Some(0),
            &tlv(0x30, &[&crate::certificates::EK_PURPOSE]),
        );
    });
    tolerated("true as 1", |draft| {
        draft.extensions[1] = extension(&BASIC_CONSTRAINTS, Some(1), &[0x30, 0]);
    });
    tolerated("basic constraints that say no CA", |draft| {
        draft.extensions[1] = extension(&BASIC_CONSTRAINTS, Some(0xff), &[0x30, 3, 1, 1, 0]);
    });
    tolerated("key usage with the zeros at its end", |draft| {
        draft.extensions[2] = extension(&KEY_USAGE, Some(0xff), &[3, 3, 7, 8, 0]);
    });
    tolerated("lengths longer than they need", |draft| {
        draft.subject = long_form(&draft.subject);
        draft.issuer = long_form(&draft.issuer);
        draft.algorithm = long_form(&draft.algorithm);
        draft.extensions[0] = long_form(&draft.extensions[0]);
        draft.extensions[3] = extension(
            &EXTENDED_KEY_USAGE,
            None,
            &long_form(&tlv(0x30, &[&crate::certificates::EK_PURPOSE])),
        );
    });
    tolerated("an issuer in other letters and another kind of string", |draft| {
        draft.issuer = tlv(0x30, &[&tlv(0x31, &[&attribute(&[0x55, 4, 3], 0x13, "ek  ca")])]);
    });
    tolerated(
        "one relative name for all of the TPM's attributes, not sorted",
        |draft| {
            let part = |last: u8, value: &str| attribute(&[0x67, 0x81, 5, 2, last], 0x13, value);
            let parts = [part(3, "id:0755"), part(1, "id:49465800"), part(2, "SLB 9670")];
            draft.extensions[0] = alt_name(&tlv(0x31, &[&parts[0], &parts[1], &parts[2]]));
        },
    );
    tolerated("a subject", |draft| draft.subject = cn("TPM 4711"));
    tolerated("no parameters beside the algorithm, or NULL", |draft| {
        draft.algorithm = tlv(0x30, &[&ECDSA_SHA256[2..], &[5, 0]]);
    });
    tolerated("a time with an offset", |draft| {
        draft.not_before = tlv(0x17, &[b"250101010000+0100"]);
    });
    tolerated("a time as GeneralizedTime before 2050", |draft| {
        draft.not_before = tlv(0x18, &[b"20250101000000Z"]);
    });
}

#[test]
fn a_certificate_without_end_has_none() {
    let house = House::new();
    let mut draft = house.ek_draft();
    draft.not_after = tlv(0x18, &[b"99991231235959Z"]);
    let certificate = house.judge_ek(&draft).unwrap();
    assert_eq!(certificate.validity().not_after, None);
    let far = domain::UnixTime::from_secs(u64::MAX);
    let roots = [&mut house.root_draft(), &mut house.ca_draft()].map(|ca| {
        ca.not_after = tlv(0x18, &[b"99991231235959Z"]);
        ca.signed(&house.root)
    });
    let roots = read(&[&roots[0], &roots[1]]);
    assert!(verify_ek_certificate(&draft.signed(&house.ca), &[], &roots, far).is_ok());
}

#[test]
fn padding_of_an_nv_index_is_no_part_of_the_certificate() {
    let house = House::new();
    let der = house.ek_der();
    let len = u16::try_from(der.len()).unwrap().to_be_bytes();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        data_encoding::BASE64.encode(&der)
    );
    let forms = [
        [&der[..], &[0; 900]].concat(),
        [&der[..], &[0xff; 900]].concat(),
        [&[0x10, 0x01, 0x00], &len[..], &der, &[0xff; 30]].concat(),
        pem.into_bytes(),
    ];
    for form in forms {
        assert_eq!(house.judge(&form).unwrap().digest(), CertificateDigest::of(&der));
    }
    assert!(house.judge(&[&der[..], b"more"].concat()).is_err());
}

#[test]
fn the_numbers_of_a_signature_may_be_written_as_ber() {
    let house = House::new();
    let tbs = house.ek_draft().tbs();
    let signature = house.ca.sign(&tbs);
    let r_len = usize::from(signature[3]);
    let (r, s) = (&signature[4..4 + r_len], &signature[6 + r_len..]);
    let padded = tlv(0x30, &[&tlv(2, &[&[0, 0], r]), &long_form(&tlv(2, &[s]))]);
    assert!(house.judge(&assemble(&tbs, &ECDSA_SHA256, &padded)).is_ok());
    assert!(
        house.judge(&long_form(&house.ek_der())).is_ok(),
        "the outermost length is not signed"
    );
    let swapped = tlv(0x30, &[&tlv(2, &[s]), &tlv(2, &[r])]);
    assert!(house.judge(&assemble(&tbs, &ECDSA_SHA256, &swapped)).is_err());
    let inner = [&tbs[..], &ECDSA_SHA256, &tlv(3, &[&[0], &signature])].concat();
    assert!(house.judge(&tlv(0x30, &[&inner])).is_ok());
    assert!(
        house.judge(&tlv(0x30, &[&inner, &[5, 0]])).is_err(),
        "a fourth part"
    );
    let longer = tlv(0x30, &[&tlv(2, &[r]), &tlv(2, &[s]), &tlv(2, &[&[1]])]);
    assert!(house.judge(&assemble(&tbs, &ECDSA_SHA256, &longer)).is_err());
}

#[test]
fn an_indefinite_length_is_refused() {
    let house = House::new();
    let mut draft = house.ek_draft();
    draft.subject = vec![0x30, 0x80, 0, 0];
    assert!(house.judge_ek(&draft).is_err());
}

#[test]
fn no_flipped_byte_and_no_truncation_is_accepted() {
    let house = House::new();
    let roots = house.roots();
    let der = house.ek_der();
    let judge = |bytes: &[u8]| verify_ek_certificate(bytes, &[], &roots, NOW).is_ok();
    assert!(judge(&der));
    for index in 0..der.len() {
        assert!(!judge(&der[..index]), "cut at {index}");
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut spoilt = der.clone();
            spoilt[index] ^= flip;
            assert!(!judge(&spoilt), "byte {index} by {flip:02x}");
        }
    }
}

#[test]
fn no_flipped_byte_of_an_intermediate_makes_it_another() {
    let house = House::new();
    let (der, ca) = (house.ek_der(), house.ca_der());
    let roots = read(&[&house.root_der()]);
    let judge = |ca: &[u8]| verify_ek_certificate(&der, &[ca], &roots, NOW).is_ok();
    assert!(judge(&ca));
    for index in 0..ca.len() {
        assert!(!judge(&ca[..index]), "cut at {index}");
        for flip in [0x01, 0x80] {
            let mut spoilt = ca.clone();
            spoilt[index] ^= flip;
            assert!(!judge(&spoilt), "byte {index} by {flip:02x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..600)) {
        let roots = Roots::read([("noise", bytes.as_slice())]);
        prop_assert!(verify_ek_certificate(&bytes, &[&bytes], &roots, NOW).is_err());
        if let Ok(found) = certificates_in(&bytes) {
            prop_assert!(found.iter().all(|der| der.len() <= bytes.len()));
        }
        prop_assert!(TlsCertificate::read(&bytes).is_err());
    }

    /// The signature is good, so whatever stands in the certificate is really read.
    #[test]
    fn no_signed_nonsense_panics(at in any::<Index>(), removed in 0..6_usize, put in vec(any::<u8>(), 0..6)) {
        let house = House::new();
        let mut tbs = house.ek_draft().tbs();
        let at = at.index(tbs.len());
        let end = (at + removed).min(tbs.len());
        tbs.splice(at..end, put);
        let signed = assemble(&tbs, &ECDSA_SHA256, &house.ca.sign(&tbs));
        if let Ok(certificate) = TlsCertificate::read(&signed) {
            prop_assert!(!certificate.subject().contains(char::is_control));
        }
        if let Ok(certificate) = house.judge(&signed) {
            prop_assert_eq!(certificate.digest(), CertificateDigest::of(&signed));
            prop_assert!(!certificate.to_string().contains(char::is_control));
        }
        let roots = Roots::read([("spoilt.crt", signed.as_slice())]);
        prop_assert_eq!(roots.root_subjects().count(), 0);
    }

    /// An intermediate's extensions replaced by anything: it issues only if it says that it is a CA.
    #[test]
    fn no_nonsense_makes_a_ca(value in vec(any::<u8>(), 0..12)) {
        let house = House::new();
        let mut draft = house.ca_draft();
        draft.extensions[0] = extension(&BASIC_CONSTRAINTS, Some(0xff), &value);
        let ca = draft.signed(&house.root);
        let roots = read(&[&house.root_der()]);
        if verify_ek_certificate(&house.ek_der(), &[&ca], &roots, NOW).is_ok() {
            prop_assert_eq!(value.first(), Some(&0x30));
            prop_assert!(value.windows(2).any(|pair| pair == [1, 1]));
        }
        draft.extensions[0] = ca_constraints(None);
        prop_assert!(house.judge_ca(&draft).is_ok());
    }
}
