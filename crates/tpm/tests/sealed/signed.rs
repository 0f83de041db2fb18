//! Signed PCR policies.

use testkit::Swtpm;
use tpm::{
    Conditions, KeyForm, PolicySignatures, ReadBack, SealError, SealOptions, SignedPcrs, UnsealError,
    approval,
};

use crate::support::{Builder, index, leftovers, open, secret, select};

const IMAGE: &[u64] = &[11];

fn signed<'a>(builder: &'a Builder, signatures: Option<&'a PolicySignatures>) -> Conditions<'a> {
    Conditions {
        signed: Some(SignedPcrs {
            key: &builder.public,
            pcrs: select(IMAGE),
            signatures,
        }),
        ..Conditions::default()
    }
}

#[test]
fn an_update_that_the_key_approves_of_opens_without_sealing_anew() {
    for (bits, form) in [
        (2048, KeyForm::Explicit),
        (2048, KeyForm::Default),
        (3072, KeyForm::Explicit),
    ] {
        let swtpm = Swtpm::start();
        let builder = Builder::new(bits);
        swtpm.extend(11, b"release 1");
        let mut tpm = open(&swtpm);
        let first = builder.approve(&mut tpm, select(IMAGE));
        let options = SealOptions {
            form,
            ..SealOptions::default()
        };
        let (object, seen) = tpm
            .seal_with(&secret(1), &signed(&builder, Some(&first)), options)
            .unwrap();
        assert_eq!(seen, ReadBack::Compared);
        drop(tpm);
        swtpm.reset();
        swtpm.extend(11, b"release 2");
        let mut tpm = open(&swtpm);
        let refused = tpm.unseal_with(&object, &signed(&builder, Some(&first))).err();
        assert_eq!(refused, Some(UnsealError::NotApproved(select(IMAGE))));
        let second = builder.approve(&mut tpm, select(IMAGE));
        let back = tpm
            .unseal_with(&object, &signed(&builder, Some(&second)))
            .unwrap();
        assert!(back.ct_eq(&secret(1)));
        drop(tpm);
        assert_eq!(leftovers(&swtpm), "");
    }
}

#[test]
fn what_the_key_did_not_sign_releases_nothing() {
    let swtpm = Swtpm::start();
    swtpm.extend(11, b"release 1");
    let (builder, other) = (Builder::new(2048), Builder::new(2048));
    let mut tpm = open(&swtpm);
    let good = builder.approve(&mut tpm, select(IMAGE));
    let (object, _) = tpm
        .seal_with(&secret(1), &signed(&builder, Some(&good)), SealOptions::default())
        .unwrap();

    // No file; a file by another key; another key's policy.
    let refused = tpm.unseal_with(&object, &signed(&builder, None)).err();
    assert_eq!(refused, Some(UnsealError::NotApproved(select(IMAGE))));
    let theirs = other.approve(&mut tpm, select(IMAGE));
    let refused = tpm.unseal_with(&object, &signed(&builder, Some(&theirs))).err();
    assert_eq!(refused, Some(UnsealError::NotApproved(select(IMAGE))));
    let refused = tpm.unseal_with(&object, &signed(&other, Some(&theirs))).err();
    assert_eq!(refused, Some(UnsealError::Malformed));

    // An entry in the right key's name with another's signature; and one that is cut.
    let values = tpm.read_pcrs(&select(IMAGE)).unwrap();
    let approval = approval(&values, false).unwrap();
    for (signature, error) in [
        (other.sign(approval.message()), UnsealError::BadSignature),
        (
            builder.sign(approval.message())[..255].to_vec(),
            UnsealError::NotApproved(select(IMAGE)),
        ),
    ] {
        let mut forged = PolicySignatures::default();
        forged.add(select(IMAGE), &builder.public, &approval, &signature);
        let refused = tpm.unseal_with(&object, &signed(&builder, Some(&forged))).err();
        assert_eq!(refused, Some(error));
        let refused = tpm.seal_with(
            &secret(1),
            &signed(&builder, Some(&forged)),
            SealOptions::default(),
        );
        assert_eq!(
            matches!(refused, Err(SealError::ReadBack(Some(UnsealError::BadSignature)))),
            signature.len() == 256
        );
    }
    assert!(UnsealError::BadSignature.hint().is_some());
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");
}

#[test]
fn exact_pcrs_and_a_signature_are_both_wanted() {
    let swtpm = Swtpm::start();
    swtpm.extend(11, b"release 1");
    swtpm.extend(7, b"secure boot");
    let builder = Builder::new(2048);
    let mut tpm = open(&swtpm);
    let signatures = builder.approve(&mut tpm, select(IMAGE));
    let both = Conditions {
        exact: Some(select(&[7])),
        ..signed(&builder, Some(&signatures))
    };
    let (object, seen) = tpm.seal_with(&secret(1), &both, SealOptions::default()).unwrap();
    assert_eq!(seen, ReadBack::Compared);
    let refused = tpm
        .unseal_with(&object, &signed(&builder, Some(&signatures)))
        .err();
    assert_eq!(refused, Some(UnsealError::Malformed));
    let refused = tpm.unseal(&object, &select(&[7])).err();
    assert_eq!(refused, Some(UnsealError::PolicyMismatch(select(&[7]))));
    drop(tpm);
    swtpm.extend(7, b"another boot");
    let refused = open(&swtpm).unseal_with(&object, &both).err();
    assert_eq!(refused, Some(UnsealError::PolicyMismatch(select(&[7]))));
}

#[test]
fn a_factory_seals_before_the_image_ever_ran_and_is_told_what_was_not_seen() {
    let swtpm = Swtpm::start();
    let builder = Builder::new(2048);
    // Nothing was measured into PCR 11 here, and that does not matter: nothing approves of it.
    let (object, seen) = open(&swtpm)
        .seal_with(&secret(1), &signed(&builder, None), SealOptions::default())
        .unwrap();
    assert_eq!(seen, ReadBack::NotApprovedNow);
    swtpm.extend(11, b"release 1");
    let mut tpm = open(&swtpm);
    let signatures = builder.approve(&mut tpm, select(IMAGE));
    let back = tpm
        .unseal_with(&object, &signed(&builder, Some(&signatures)))
        .unwrap();
    assert!(back.ct_eq(&secret(1)));
}

#[test]
fn approved_values_that_nobody_measured_are_not_sealed_to_unless_forced() {
    let swtpm = Swtpm::start();
    let builder = Builder::new(2048);
    let mut tpm = open(&swtpm);
    let zero = tpm.read_pcrs(&select(IMAGE)).unwrap();
    let approval = approval(&zero, true).unwrap();
    let mut signatures = PolicySignatures::default();
    signatures.add(
        select(IMAGE),
        &builder.public,
        &approval,
        &builder.sign(approval.message()),
    );
    let conditions = signed(&builder, Some(&signatures));
    let refused = tpm
        .seal_with(&secret(1), &conditions, SealOptions::default())
        .err();
    assert_eq!(refused, Some(SealError::Uninitialised(index(11))));
    let forced = SealOptions {
        force_uninitialised: true,
        ..SealOptions::default()
    };
    let (_, seen) = tpm.seal_with(&secret(1), &conditions, forced).unwrap();
    assert_eq!(seen, ReadBack::Compared);
}
