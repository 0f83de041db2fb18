//! Pinned storage keys: who answers in the TPM's place is found out before a secret moves.

use testkit::{Canary, Swtpm, Tap};
use tpm::{
    Conditions, PinAuth, ReadBack, SealError, SealOptions, SignedPcrs, SrkPin, StorageTemplate, Tpm,
    TpmError, UnsealError,
};

use crate::support::{Builder, leftovers, open, pin, secret, select};

const TEMPLATES: [StorageTemplate; 3] = [
    StorageTemplate::SystemdEcc,
    StorageTemplate::SystemdRsa,
    StorageTemplate::TcgEcc,
];

#[test]
fn another_storage_key_than_the_pinned_one_gets_no_secret() {
    let (real, interposer) = (Swtpm::start(), Swtpm::start());
    for swtpm in [&real, &interposer] {
        swtpm.extend(7, b"secure boot");
    }
    for template in TEMPLATES {
        let options = SealOptions {
            parent: template,
            ..SealOptions::default()
        };
        let conditions = Conditions::from(select(&[7]));
        let mut tpm = open(&real);
        let pin = SrkPin::from(&tpm.storage_key(template).unwrap());
        tpm.pin_storage_keys([pin.clone()]);
        let (object, _) = tpm.seal_with(&secret(1), &conditions, options).unwrap();
        assert!(tpm.unseal_with(&object, &conditions).unwrap().ct_eq(&secret(1)));
        tpm.random(&mut [0; 16]).unwrap();
        // A key of another template is not the pinned one either.
        for other in TEMPLATES.into_iter().filter(|other| *other != template) {
            assert_eq!(tpm.storage_key(other).err(), Some(TpmError::AnotherSrk(other)));
        }
        drop(tpm);
        assert_eq!(leftovers(&real), "");

        let tap = Tap::on(&interposer);
        let mut tpm = Tpm::open(&tap.tcti().parse().unwrap()).unwrap();
        tpm.pin_storage_keys([pin]);
        let another = TpmError::AnotherSrk(template);
        assert_eq!(
            tpm.seal_with(&secret(0x5a), &conditions, options).err(),
            Some(SealError::Tpm(another.clone()))
        );
        assert_eq!(
            tpm.unseal_with(&object, &conditions).err(),
            Some(UnsealError::Tpm(another.clone()))
        );
        assert_eq!(tpm.random(&mut [0; 16]), Err(another.clone()));
        assert!(another.hint().is_some());
        drop(tpm);
        Canary::new("the secret", &[0x5a; 32]).assert_absent("bus", tap.heard());
    }
}

#[test]
fn a_volume_under_the_tcgs_key_opens_whether_that_is_persistent_or_not() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let options = SealOptions {
        parent: StorageTemplate::TcgEcc,
        ..SealOptions::default()
    };
    let conditions = Conditions::from(select(&[7]));
    let mut tpm = open(&swtpm);
    let (object, _) = tpm.seal_with(&secret(1), &conditions, options).unwrap();
    let key = tpm.storage_key(StorageTemplate::TcgEcc).unwrap();
    drop(tpm);
    // Another key of that template at the handle: what is under it is found, what is not is not this TPM's.
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    swtpm.tool(
        "tpm2_createprimary",
        &[
            "-C",
            "o",
            "-G",
            "ecc256:null:aes128cfb",
            "-a",
            attributes,
            "-c",
            "srk.ctx",
        ],
    );
    swtpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "srk.ctx", "0x81000001"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let mut tpm = open(&swtpm);
    let found = tpm.persistent_storage_key().unwrap().unwrap();
    assert_ne!(found.name(), key.name());
    let (under_it, _) = tpm.seal_with(&secret(2), &conditions, options).unwrap();
    assert!(tpm.unseal_with(&under_it, &conditions).unwrap().ct_eq(&secret(2)));
    assert_eq!(
        tpm.unseal_with(&object, &conditions).err(),
        Some(UnsealError::NotThisTpm)
    );
    // Pinned, the key is made from its template, whatever is at the handle.
    tpm.pin_storage_keys([SrkPin::from(&key)]);
    assert!(tpm.unseal_with(&object, &conditions).unwrap().ct_eq(&secret(1)));
    // The other one can be pinned too: systemd and tpm2-tools make it with an empty point.
    tpm.pin_storage_keys([SrkPin::from(&found)]);
    assert!(tpm.unseal_with(&under_it, &conditions).unwrap().ct_eq(&secret(2)));
    assert_eq!(
        tpm.unseal_with(&object, &conditions).err(),
        Some(UnsealError::NotThisTpm)
    );
    let listed = tpm.inventory();
    assert!(listed.is_err(), "the keys of the other templates are not pinned");
    tpm.pin_storage_keys([]);
    let listed = tpm.inventory().unwrap();
    assert_eq!(listed.storage[0].key.name(), found.name());
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");
}

#[test]
fn neither_pin_nor_secret_crosses_the_bus_in_clear() {
    let swtpm = Swtpm::start();
    swtpm.extend(11, b"release 1");
    let builder = Builder::new(2048);
    let tap = Tap::on(&swtpm);
    let mut tpm = Tpm::open(&tap.tcti().parse().unwrap()).unwrap();
    let signatures = builder.approve(&mut tpm, select(&[11]));
    let pin = pin("correct horse battery");
    let conditions = Conditions {
        exact: None,
        signed: Some(SignedPcrs {
            key: &builder.public,
            pcrs: select(&[11]),
            signatures: Some(&signatures),
        }),
        pin: Some(PinAuth {
            pin: &pin,
            salt: None,
        }),
    };
    let (object, seen) = tpm
        .seal_with(&secret(0x5a), &conditions, SealOptions::default())
        .unwrap();
    assert_eq!(seen, ReadBack::Compared);
    tpm.unseal_with(&object, &conditions).unwrap();
    let heard = tap.heard();
    // What is no secret is heard.
    let signature = Canary::new("the policy hash", &object.policy_hash);
    assert!(!signature.find_in("bus", &heard).is_empty());
    Canary::new("the secret", &[0x5a; 32]).assert_absent("bus", &heard);
    Canary::new("the PIN", b"correct horse battery").assert_absent("bus", &heard);
    let auth = domain::Sha256Digest::of(b"correct horse battery");
    Canary::new("the PIN's authValue", auth.as_bytes()).assert_absent("bus", &heard);
}
