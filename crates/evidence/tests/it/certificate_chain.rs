//! Every way in which the chain of an EK certificate breaks, each reached once.

use crate::certificates::{
    AUTHORITY_INFO_ACCESS, BASIC_CONSTRAINTS, Draft, EK_PURPOSE, House, NAME_CONSTRAINTS, NOW,
    SERVER_PURPOSE, Signer, broken, ca_constraints, cn, extension, key_usage, leaf_constraints, purpose,
    read, tlv,
};
use domain::{CertificateDigest, UnixTime};
use evidence::certificate::{
    CertificateError, ChainBreak, MAX_INTERMEDIATES_SENT, MAX_ISSUERS, ReadError, Roots,
    verify_ek_certificate,
};

/// An extension nobody knows.
const STRANGE: [u8; 3] = [0x2a, 3, 4];

#[test]
fn a_good_chain_says_whose_tpm_it_is() {
    let house = House::new();
    let (der, root) = (house.ek_der(), house.root_der());
    let roots = read(&[&root, &house.ca_der()]);
    let certificate = verify_ek_certificate(&der, &[], &roots, NOW).unwrap();
    assert_eq!(certificate.digest(), CertificateDigest::of(&der));
    assert_eq!(certificate.root_digest(), CertificateDigest::of(&root));
    assert_eq!(certificate.maker().unwrap().name(), Some("Infineon"));
}

#[test]
fn an_issuer_that_nobody_has_is_named_with_where_to_look() {
    let house = House::new();
    let mut draft = house.ek_draft();
    let url = tlv(0x86, &[b"http://evil.example/\x1b[2Jca.crt"]);
    let access = tlv(0x30, &[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2], &url]);
    draft
        .extensions
        .push(extension(&AUTHORITY_INFO_ACCESS, None, &tlv(0x30, &[&access])));
    let der = draft.signed(&house.ca);
    assert!(house.judge(&der).is_ok());
    let error = verify_ek_certificate(&der, &[], &read(&[&house.root_der()]), NOW).unwrap_err();
    let issuer = "CN=EK CA".to_owned();
    assert_eq!(
        (error.depth(), error.reason()),
        (0, &ChainBreak::NoIssuer { issuer })
    );
    assert_eq!(error.issuer_urls(), ["http://evil.example/?[2Jca.crt"]);
    assert!(error.hint().unwrap().contains("http://evil.example/?[2Jca.crt"));
    assert_eq!(
        error.to_string(),
        "the chain of the EK certificate breaks at the EK certificate itself: no certificate of its issuer CN=EK CA is \
         among the roots and intermediates"
    );
    // The intermediate is there, its root is not.
    let other = House::new().root_draft();
    let stranger = Signer::new();
    let other = Draft {
        subject: cn("Other"),
        issuer: cn("Other"),
        spki: stranger.spki.clone(),
        ..other
    };
    let roots = read(&[&other.signed(&stranger), &house.ca_der()]);
    let error = verify_ek_certificate(&house.ek_der(), &[], &roots, NOW).unwrap_err();
    assert_eq!((error.depth(), error.certificate()), (1, "CN=EK CA"));
    assert!(
        error
            .to_string()
            .contains("breaks at its issuer CN=EK CA: no certificate of its issuer CN=Root CA")
    );
    assert!(error.hint().unwrap().contains("folder of roots"));
}

#[test]
fn nothing_is_trusted_without_a_root_of_the_operator() {
    let house = House::new();
    let (der, ca, root) = (house.ek_der(), house.ca_der(), house.root_der());
    let none = Roots::read([]);
    assert_eq!(
        broken(verify_ek_certificate(&der, &[&ca, &root], &none, NOW)),
        (0, ChainBreak::NoRoots)
    );
    // A whole chain that the device brought along, beside an honest root.
    let honest = Signer::new();
    let draft = Draft::new(
        &cn("Honest"),
        &cn("Honest"),
        &honest.spki,
        vec![ca_constraints(None)],
    );
    let roots = read(&[&draft.signed(&honest)]);
    let (depth, reason) = broken(verify_ek_certificate(&der, &[&ca, &root], &roots, NOW));
    assert!(matches!(reason, ChainBreak::NoIssuer { .. }), "{reason:?}");
    assert_eq!(depth, 2, "it got up to its own root and no further");
    // The same intermediates are welcome where the root is the operator's.
    assert!(verify_ek_certificate(&der, &[&ca], &read(&[&root]), NOW).is_ok());
}

#[test]
fn a_signature_by_another_key_of_that_name_breaks_it() {
    let house = House::new();
    let forged = house.ek_draft().signed(&Signer::new());
    let issuer = "CN=EK CA".to_owned();
    assert_eq!(
        broken(house.judge(&forged)),
        (0, ChainBreak::Signature { issuer })
    );
    let forged_ca = house.ca_draft().signed(&Signer::new());
    let roots = read(&[&house.root_der(), &forged_ca]);
    let issuer = "CN=Root CA".to_owned();
    let outcome = verify_ek_certificate(&house.ek_der(), &[], &roots, NOW);
    assert_eq!(broken(outcome), (1, ChainBreak::Signature { issuer }));
    // Two CAs of one name, as after a change of keys: the right one is found.
    let mut old = house.ca_draft();
    old.spki = Signer::new().spki;
    old.serial = vec![2, 1, 8];
    let roots = read(&[&house.root_der(), &old.signed(&house.root), &house.ca_der()]);
    assert!(verify_ek_certificate(&house.ek_der(), &[], &roots, NOW).is_ok());
}

#[test]
fn an_algorithm_that_is_not_checked_here_is_named() {
    let house = House::new();
    let mut draft = house.ek_draft();
    draft.algorithm[11] = 4;
    let what = "ECDSA on P256 with Sha512".to_owned();
    assert_eq!(
        broken(house.judge_ek(&draft)),
        (0, ChainBreak::Algorithm { what })
    );
    draft.algorithm = tlv(0x30, &[&[6, 3, 0x2b, 0x65, 0x70]]);
    let what = "1.3.101.112".to_owned();
    assert_eq!(
        broken(house.judge_ek(&draft)),
        (0, ChainBreak::Algorithm { what })
    );
}

#[test]
fn each_certificate_holds_only_in_its_time() {
    let house = House::new();
    let roots = house.roots();
    let der = house.ek_der();
    let at = |seconds: u64| verify_ek_certificate(&der, &[], &roots, UnixTime::from_secs(seconds));
    // 2025-01-01 and 2035-01-01, both included.
    let (first, last) = (1_735_689_600, 2_051_222_400);
    assert!(at(first).is_ok() && at(last).is_ok());
    let (depth, reason) = broken(at(first - 1));
    assert!(
        depth == 0 && matches!(reason, ChainBreak::NotYetValid { .. }),
        "{reason:?}"
    );
    let (depth, reason) = broken(at(last + 1));
    let expired = ChainBreak::Expired {
        not_after: UnixTime::from_secs(last),
        now: UnixTime::from_secs(last + 1),
    };
    assert_eq!((depth, reason), (0, expired));

    let past = tlv(0x17, &[b"251231000000Z"]);
    let ca = Draft {
        not_after: past.clone(),
        ..house.ca_draft()
    };
    let (depth, reason) = broken(house.judge_ca(&ca));
    assert!(
        depth == 1 && matches!(reason, ChainBreak::Expired { .. }),
        "{reason:?}"
    );
    let root = Draft {
        not_after: past,
        ..house.root_draft()
    };
    let roots = read(&[&root.signed(&house.root), &house.ca_der()]);
    let (depth, reason) = broken(verify_ek_certificate(&der, &[], &roots, NOW));
    assert!(
        depth == 2 && matches!(reason, ChainBreak::Expired { .. }),
        "{reason:?}"
    );
}

#[test]
fn only_a_ca_may_issue() {
    let house = House::new();
    let with = |extensions: Vec<Vec<u8>>| {
        broken(house.judge_ca(&Draft {
            extensions,
            ..house.ca_draft()
        }))
    };
    let sign = key_usage(crate::certificates::CERT_SIGN);
    assert_eq!(with(vec![sign.clone()]), (1, ChainBreak::NotACa));
    assert_eq!(
        with(vec![leaf_constraints(), sign.clone()]),
        (1, ChainBreak::NotACa)
    );
    assert_eq!(
        with(vec![ca_constraints(None), key_usage(0x80)]),
        (1, ChainBreak::KeyUsage)
    );
    let server = vec![ca_constraints(None), purpose(&SERVER_PURPOSE)];
    assert_eq!(with(server), (1, ChainBreak::Purpose));
    let names = extension(&NAME_CONSTRAINTS, None, &[0x30, 0]);
    let what = "nameConstraints";
    assert_eq!(
        with(vec![ca_constraints(None), names]),
        (1, ChainBreak::UncheckedConstraint { what })
    );
    // An EK certificate's owner makes an EK certificate of his own.
    let mut minted = house.ek_draft();
    minted.issuer = cn("Owner");
    let mut owner = house.ek_draft();
    owner.subject = cn("Owner");
    let owner = owner.signed(&house.ca);
    let outcome = verify_ek_certificate(&minted.signed(&house.ek), &[&owner], &house.roots(), NOW);
    assert_eq!(broken(outcome), (1, ChainBreak::NotACa));
    // Good ones: no key usage at all, the EK purpose, any purpose.
    let any = purpose(&[6, 4, 0x55, 0x1d, 0x25, 0]);
    for extra in [vec![], vec![purpose(&EK_PURPOSE)], vec![any]] {
        let extensions = [vec![ca_constraints(None)], extra].concat();
        assert!(
            house
                .judge_ca(&Draft {
                    extensions,
                    ..house.ca_draft()
                })
                .is_ok()
        );
    }
}

#[test]
fn a_critical_extension_that_is_not_known_breaks_it() {
    let house = House::new();
    let unknown = ChainBreak::UnknownCritical {
        oid: "1.2.3.4".to_owned(),
    };
    for critical in [0xff, 1] {
        let strange = extension(&STRANGE, Some(critical), &[5, 0]);
        let mut ek = house.ek_draft();
        ek.extensions.push(strange.clone());
        assert_eq!(broken(house.judge_ek(&ek)), (0, unknown.clone()));
        let mut ca = house.ca_draft();
        ca.extensions.push(strange);
        assert_eq!(broken(house.judge_ca(&ca)), (1, unknown.clone()));
    }
    for not_critical in [None, Some(0)] {
        let mut ek = house.ek_draft();
        ek.extensions.push(extension(&STRANGE, not_critical, &[5, 0]));
        assert!(house.judge_ek(&ek).is_ok());
    }
}

/// A root and so many CAs in a row below it, each `CA n`, by the key of the one above.
fn tower(house: &House, height: usize, path_len: Option<u8>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut root = house.root_draft();
    root.extensions[0] = ca_constraints(path_len);
    let mut chain = vec![root.signed(&house.root)];
    let (mut above, mut name) = (&house.root, cn("Root CA"));
    let signers: Vec<Signer> = (0..height).map(|_| Signer::new()).collect();
    for (index, signer) in signers.iter().enumerate() {
        let subject = cn(&format!("CA {index}"));
        let draft = Draft::new(&name, &subject, &signer.spki, vec![ca_constraints(None)]);
        chain.push(draft.signed(above));
        (above, name) = (signer, subject);
    }
    let mut ek = house.ek_draft();
    ek.issuer = name;
    (chain, ek.signed(above))
}

#[test]
fn a_chain_is_as_long_as_it_may_be_and_no_longer() {
    let house = House::new();
    let judge = |height: usize, path_len: Option<u8>| {
        let (chain, ek) = tower(&house, height, path_len);
        let files: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        verify_ek_certificate(&ek, &[], &read(&files), NOW)
    };
    let longest = judge(MAX_ISSUERS - 1, None).unwrap();
    assert_eq!(longest.chain_subjects().len(), MAX_ISSUERS + 1);
    assert_eq!(
        broken(judge(MAX_ISSUERS, None)),
        (MAX_ISSUERS, ChainBreak::TooLong)
    );
    assert!(judge(2, Some(2)).is_ok());
    assert_eq!(
        broken(judge(3, Some(2))),
        (4, ChainBreak::PathLength { allowed: 2, found: 3 })
    );
    assert_eq!(
        broken(judge(1, Some(0))),
        (2, ChainBreak::PathLength { allowed: 0, found: 1 })
    );
}

#[test]
fn what_a_device_sends_along_is_bounded_and_must_be_readable() {
    let house = House::new();
    let (der, ca, roots) = (house.ek_der(), house.ca_der(), house.roots());
    let most = vec![ca.as_slice(); MAX_INTERMEDIATES_SENT];
    assert!(verify_ek_certificate(&der, &most, &roots, NOW).is_ok());
    let more = vec![ca.as_slice(); MAX_INTERMEDIATES_SENT + 1];
    let count = MAX_INTERMEDIATES_SENT + 1;
    let outcome = verify_ek_certificate(&der, &more, &roots, NOW);
    assert_eq!(broken(outcome), (0, ChainBreak::TooManyIntermediates { count }));
    let outcome = verify_ek_certificate(&der, &[&ca, b"junk"], &roots, NOW);
    let error = CertificateError::Read(ReadError::NotDer);
    assert_eq!(
        broken(outcome),
        (0, ChainBreak::IntermediateUnreadable { number: 2, error })
    );
}

#[test]
fn the_search_ends_however_the_certificates_point_at_each_other() {
    let house = House::new();
    // Two CAs that certify each other, and nobody else them.
    let (one, two) = (Signer::new(), Signer::new());
    let cross = |issuer: &str, subject: &str, key: &Signer, by: &Signer| {
        Draft::new(&cn(issuer), &cn(subject), &key.spki, vec![ca_constraints(None)]).signed(by)
    };
    let circle = [cross("Two", "One", &one, &two), cross("One", "Two", &two, &one)];
    let mut ek = house.ek_draft();
    ek.issuer = cn("One");
    let sent: Vec<&[u8]> = circle.iter().map(Vec::as_slice).collect();
    let (_, reason) = broken(verify_ek_certificate(
        &ek.signed(&one),
        &sent,
        &house.roots(),
        NOW,
    ));
    assert!(matches!(reason, ChainBreak::NoIssuer { .. }), "{reason:?}");
    // Many intermediates of one name.
    let many: Vec<Vec<u8>> = (0..70_u8)
        .map(|serial| {
            let mut draft = house.ca_draft();
            draft.serial = vec![2, 1, serial];
            draft.spki = house.ek.spki.clone();
            draft.signed(&house.root)
        })
        .collect();
    let (root, ca) = (house.root_der(), house.ca_der());
    let files: Vec<&[u8]> = many.iter().chain([&root, &ca]).map(Vec::as_slice).collect();
    let outcome = verify_ek_certificate(&house.ek_der(), &[], &read(&files), NOW);
    assert_eq!(broken(outcome), (0, ChainBreak::TooMuchWork));
}

#[test]
fn a_folder_reports_what_it_cannot_read_by_name_and_uses_the_rest() {
    let house = House::new();
    let (root, ca) = (house.root_der(), house.ca_der());
    let mut spoilt = house.ca_draft();
    spoilt.extensions[0] = extension(&BASIC_CONSTRAINTS, Some(0xff), &[5, 0]);
    let both = [root.clone(), spoilt.signed(&house.root), ca.clone(), root.clone()].concat();
    let files: [(&str, &[u8]); 3] = [("README.txt", b"Roots"), ("maker.crt", &both), ("empty.pem", b"")];
    let roots = Roots::read(files);
    let said: Vec<String> = roots.unreadable().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "README.txt: neither PEM nor a whole DER certificate",
            "maker.crt, certificate 2: it has a broken extension: basicConstraints",
            "empty.pem: no certificate in it",
        ]
    );
    assert_eq!(roots.root_subjects().collect::<Vec<_>>(), ["CN=Root CA"]);
    assert_eq!(roots.intermediate_count(), 1);
    assert_eq!(read(&[&root]).intermediate_count(), 0);
    assert!(verify_ek_certificate(&house.ek_der(), &[], &roots, NOW).is_ok());
}

#[test]
fn a_certificate_that_only_claims_to_be_its_own_issuer_is_no_root() {
    let house = House::new();
    let false_root = house.root_draft().signed(&Signer::new());
    let roots = Roots::read([
        ("false.crt", false_root.as_slice()),
        ("ca.crt", house.ca_der().as_slice()),
    ]);
    assert_eq!(roots.root_subjects().count(), 0);
    let outcome = verify_ek_certificate(&house.ek_der(), &[], &roots, NOW);
    assert_eq!(broken(outcome), (0, ChainBreak::NoRoots));
}
