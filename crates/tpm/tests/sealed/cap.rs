//! A PCR is extended after opening, and after failing, so that nothing unseals a second time.

use testkit::{Canary, Swtpm};
use tpm::{Conditions, SealOptions, UnsealError};

use crate::support::{index, leftovers, open, secret, select};

#[test]
fn a_volume_opens_once_in_a_boot_and_a_failed_opening_counts() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let pcrs = select(&[7, 15]);
    let conditions = Conditions::from(pcrs);
    let options = SealOptions {
        cap: Some(index(15)),
        ..SealOptions::default()
    };
    let mut tpm = open(&swtpm);
    let (object, _) = tpm.seal_with(&secret(1), &conditions, options).unwrap();
    let back = tpm.unseal_and_cap(&object, &conditions, index(15)).unwrap();
    assert!(back.ct_eq(&secret(1)));
    let opened = tpm.read_pcrs(&select(&[15])).unwrap();
    let again = tpm.unseal_with(&object, &conditions).err();
    assert_eq!(again, Some(UnsealError::PolicyMismatch(pcrs)));
    drop(tpm);

    // The next boot: a foreign object in its place fails, and then the right one does too.
    swtpm.reset();
    swtpm.extend(7, b"secure boot");
    let mut foreign = object.clone();
    foreign.private_then_public[20] ^= 1;
    let mut tpm = open(&swtpm);
    let refused = tpm.unseal_and_cap(&foreign, &conditions, index(15)).err();
    assert_eq!(refused, Some(UnsealError::NotThisTpm));
    let failed = tpm.read_pcrs(&select(&[15])).unwrap();
    assert_ne!(failed.as_bytes(), opened.as_bytes());
    let refused = tpm.unseal_with(&object, &conditions).err();
    assert_eq!(refused, Some(UnsealError::PolicyMismatch(pcrs)));
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");

    swtpm.reset();
    swtpm.extend(7, b"secure boot");
    assert!(open(&swtpm).unseal_with(&object, &conditions).is_ok());
}

#[test]
fn every_bank_is_extended() {
    let swtpm = Swtpm::start();
    open(&swtpm).cap(index(15), tpm::Opening::Released).unwrap();
    let read = swtpm.tool("tpm2_pcrread", &["sha1:15+sha256:15+sha384:15+sha512:15"]);
    let text = String::from_utf8(read.stdout).unwrap();
    // Only a bank without the PCR would have zeros.
    assert_eq!(text.matches("0x").count(), text.matches("15:").count(), "{text}");
    Canary::new("an untouched PCR", b"0x0000000000000000").assert_absent("tpm2_pcrread", &text);
}
