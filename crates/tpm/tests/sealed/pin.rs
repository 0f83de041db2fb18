//! PINs.

use testkit::Swtpm;
use tpm::{Cause, Conditions, PinAuth, PinSalt, ReadBack, SealError, SealOptions, TpmError, UnsealError};

use crate::support::{leftovers, open, pin, secret, select};

#[test]
fn the_right_pin_opens_and_a_wrong_one_is_counted_until_the_tpm_locks() {
    for salt in [None, Some(PinSalt([9; 32]))] {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"secure boot");
        let (right, wrong) = (pin("1234"), pin("4321"));
        let with = |pin, salt| Conditions {
            exact: Some(select(&[7])),
            pin: Some(PinAuth { pin, salt }),
            ..Conditions::default()
        };
        let mut tpm = open(&swtpm);
        let (object, seen) = tpm
            .seal_with(&secret(1), &with(&right, salt), SealOptions::default())
            .unwrap();
        assert_eq!(seen, ReadBack::Compared);
        drop(tpm);
        // After sealing: the setup refuses the owner's password for a while otherwise.
        swtpm.tool(
            "tpm2_dictionarylockout",
            &["-s", "-n", "3", "-t", "1000", "-l", "1000"],
        );
        let mut tpm = open(&swtpm);
        assert_eq!(
            tpm.unseal_with(&object, &with(&wrong, salt)).err(),
            Some(UnsealError::WrongPin)
        );
        assert!(UnsealError::WrongPin.hint().is_some());
        // Without the PIN's policy nothing is tried, and nothing counted.
        assert_eq!(
            tpm.unseal(&object, &select(&[7])).err(),
            Some(UnsealError::PolicyMismatch(select(&[7])))
        );
        let other = salt.map_or(Some(PinSalt([1; 32])), |_| None);
        assert_eq!(
            tpm.unseal_with(&object, &with(&right, other)).err(),
            Some(UnsealError::WrongPin)
        );
        let back = tpm.unseal_with(&object, &with(&right, salt)).unwrap();
        assert!(back.ct_eq(&secret(1)));
        let mut last = None;
        for _ in 0..3 {
            last = tpm.unseal_with(&object, &with(&wrong, salt)).err();
        }
        let Some(UnsealError::Tpm(error)) = last else {
            panic!("{last:?}")
        };
        assert_eq!(error.cause(), Some(Cause::Lockout), "{error}");
        assert!(error.hint().unwrap().contains("wait until it ends by itself"));
        drop(tpm);
        assert_eq!(leftovers(&swtpm), "");
    }
}

#[test]
fn a_pin_alone_is_enough_and_nothing_at_all_is_not() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm);
    let refused = tpm.seal_with(&secret(1), &Conditions::default(), SealOptions::default());
    assert_eq!(refused.err(), Some(SealError::Unprotected));
    let (right, wrong) = (pin("1234"), pin("4321"));
    let with = |pin| Conditions {
        pin: Some(PinAuth { pin, salt: None }),
        ..Conditions::default()
    };
    let (object, _) = tpm
        .seal_with(&secret(1), &with(&right), SealOptions::default())
        .unwrap();
    assert_eq!(
        tpm.unseal_with(&object, &with(&wrong)).err(),
        Some(UnsealError::WrongPin)
    );
    assert_eq!(
        tpm.unseal_with(&object, &Conditions::default()).err(),
        Some(UnsealError::Malformed)
    );
    let message = TpmError::Malformed("x").to_string();
    assert!(!message.contains("1234"));
}
