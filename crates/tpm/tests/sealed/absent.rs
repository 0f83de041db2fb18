//! Sealing to a TPM that is not here.

use std::fs;

use domain::{PcrSelection, PcrValues};
use testkit::{Canary, Swtpm};
use tpm::{
    Conditions, PinAuth, SealError, SealOptions, SealedObject, SignedPcrs, StorageTemplate, TpmError,
    UnsealError, seal_for,
};

use crate::support::{Builder, entropy, index, leftovers, open, pin, secret, select};

const TEMPLATES: [StorageTemplate; 3] = [
    StorageTemplate::SystemdEcc,
    StorageTemplate::SystemdRsa,
    StorageTemplate::TcgEcc,
];

/// A device as the factory knows it: powered off, its storage key and the values that PCR 7 will have collected before.
struct Device {
    swtpm: Swtpm,
    seven: PcrValues,
}

impl Device {
    fn new() -> Self {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"secure boot");
        let seven = open(&swtpm).read_pcrs(&select(&[7])).unwrap();
        Self { swtpm, seven }
    }

    fn seal(&self, template: StorageTemplate) -> SealedObject {
        let srk = open(&self.swtpm).storage_key(template).unwrap();
        seal_for(
            &srk,
            &secret(0x5a),
            &select(&[7]).into(),
            Some(&self.seven),
            SealOptions::default(),
            entropy(3),
        )
        .unwrap()
    }
}

#[test]
fn that_tpm_alone_imports_loads_and_releases_it() {
    let (device, other) = (Device::new(), Device::new());
    for template in TEMPLATES {
        let sealed = device.seal(template);
        Canary::new("the secret", &[0x5a; 32]).assert_absent("blob", &sealed.private_then_public);
        assert!(sealed.waits_for_import());
        let mut tpm = open(&device.swtpm);
        let imported = tpm.import(&sealed).unwrap();
        assert!(!imported.waits_for_import());
        assert_eq!(tpm.import(&imported).unwrap(), imported);
        // systemd 255 imports anew each time it opens; so can we.
        for object in [&sealed, &imported] {
            let back = tpm.unseal(object, &select(&[7])).unwrap();
            assert!(back.ct_eq(&secret(0x5a)));
        }
        drop(tpm);
        assert_eq!(leftovers(&device.swtpm), "");

        let mut elsewhere = open(&other.swtpm);
        for object in [&sealed, &imported] {
            assert_eq!(elsewhere.import(object).err(), Some(UnsealError::NotThisTpm));
            assert_eq!(
                elsewhere.unseal(object, &select(&[7])).err(),
                Some(UnsealError::NotThisTpm)
            );
        }
        drop(elsewhere);
        assert_eq!(leftovers(&other.swtpm), "");
    }
    device.swtpm.extend(7, b"another boot");
    let imported = open(&device.swtpm)
        .import(&device.seal(StorageTemplate::TcgEcc))
        .unwrap();
    assert_eq!(
        open(&device.swtpm).unseal(&imported, &select(&[7])).err(),
        Some(UnsealError::PolicyMismatch(select(&[7])))
    );
}

#[test]
fn a_touched_blob_is_refused() {
    let device = Device::new();
    let sealed = device.seal(StorageTemplate::SystemdEcc);
    let mut tpm = open(&device.swtpm);
    let blob = &sealed.private_then_public;
    // Each field once, and every sixteenth octet.
    for place in (0..blob.len()).step_by(16).chain([0, 1, 2, 3, blob.len() - 1]) {
        let mut touched = sealed.clone();
        touched.private_then_public[place] ^= 1;
        let error = tpm.import(&touched).err();
        assert!(
            matches!(error, Some(UnsealError::NotThisTpm | UnsealError::Malformed)),
            "{place}: {error:?}"
        );
        touched.private_then_public.truncate(place);
        assert_eq!(
            tpm.import(&touched).err(),
            Some(UnsealError::Malformed),
            "{place}"
        );
    }
    // The policy is inside: an object that any state opens has another Name.
    let mut open_to_all = sealed.clone();
    open_to_all.policy_hash = [0; 32];
    assert_eq!(tpm.import(&open_to_all).err(), Some(UnsealError::Malformed));
}

#[test]
fn stock_tools_import_load_and_unseal_it() {
    let device = Device::new();
    let sealed = device.seal(StorageTemplate::SystemdEcc);
    let (private, rest) = split_2b(&sealed.private_then_public);
    let (public, seed) = split_2b(rest);
    let swtpm = &device.swtpm;
    for (name, bytes) in [("dup.priv", private), ("dup.pub", public), ("dup.seed", seed)] {
        fs::write(swtpm.dir().join(name), bytes).unwrap();
    }
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
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
    swtpm.tool(
        "tpm2_import",
        &[
            "-C", "srk.ctx", "-u", "dup.pub", "-i", "dup.priv", "-r", "priv", "-s", "dup.seed",
        ],
    );
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool(
        "tpm2_load",
        &["-C", "srk.ctx", "-u", "dup.pub", "-r", "priv", "-c", "key.ctx"],
    );
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let unsealed = swtpm.tool("tpm2_unseal", &["-c", "key.ctx", "-p", "pcr:sha256:7"]);
    assert_eq!(unsealed.stdout, [0x5a; 32]);
    // Nobody takes it away to another parent.
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool(
        "tpm2_startauthsession",
        &["--policy-session", "-S", "session.ctx"],
    );
    swtpm.tool("tpm2_policypcr", &["-S", "session.ctx", "-l", "sha256:7"]);
    swtpm.tool(
        "tpm2_policycommandcode",
        &["-S", "session.ctx", "TPM2_CC_Duplicate"],
    );
    let taken = swtpm
        .command("tpm2_duplicate")
        .args([
            "-C",
            "null",
            "-c",
            "key.ctx",
            "-G",
            "null",
            "-p",
            "session:session.ctx",
        ])
        .args(["-r", "out.priv", "-s", "out.seed"])
        .output()
        .unwrap();
    assert!(!taken.status.success());
    swtpm.tool("tpm2_flushcontext", &["-l"]);
}

fn split_2b(bytes: &[u8]) -> (&[u8], &[u8]) {
    let size = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes.split_at(2 + size)
}

#[test]
fn signed_policies_and_pins_are_sealed_from_afar_too() {
    let swtpm = Swtpm::start();
    let builder = Builder::new(2048);
    let (right, wrong) = (pin("1234"), pin("4321"));
    let srk = open(&swtpm).storage_key(StorageTemplate::TcgEcc).unwrap();
    let with = |pin, signatures| Conditions {
        exact: None,
        signed: Some(SignedPcrs {
            key: &builder.public,
            pcrs: select(&[11]),
            signatures,
        }),
        pin: Some(PinAuth { pin, salt: None }),
    };
    let sealed = seal_for(
        &srk,
        &secret(1),
        &with(&right, None),
        None,
        SealOptions::default(),
        entropy(4),
    )
    .unwrap();
    swtpm.extend(11, b"release 1");
    let mut tpm = open(&swtpm);
    let signatures = builder.approve(&mut tpm, select(&[11]));
    let imported = tpm.import(&sealed).unwrap();
    let wrong = tpm.unseal_with(&imported, &with(&wrong, Some(&signatures))).err();
    assert_eq!(wrong, Some(UnsealError::WrongPin));
    let back = tpm
        .unseal_with(&imported, &with(&right, Some(&signatures)))
        .unwrap();
    assert!(back.ct_eq(&secret(1)));
}

#[test]
fn what_would_protect_nothing_is_refused_from_afar_too() {
    let swtpm = Swtpm::start();
    let srk = open(&swtpm).storage_key(StorageTemplate::TcgEcc).unwrap();
    let values = |pcrs: PcrSelection, byte| PcrValues::new(pcrs, vec![byte; 32]).unwrap();
    let seal = |conditions: &Conditions<'_>, exact: Option<&PcrValues>, options, entropy| {
        seal_for(&srk, &secret(1), conditions, exact, options, entropy).map(|_| ())
    };
    let seven = Conditions::from(select(&[7]));
    let plain = SealOptions::default();
    let zero = values(select(&[7]), 0);
    assert_eq!(
        seal(&seven, Some(&zero), plain, entropy(1)),
        Err(SealError::Uninitialised(index(7)))
    );
    let forced = SealOptions {
        force_uninitialised: true,
        ..plain
    };
    assert_eq!(seal(&seven, Some(&zero), forced, entropy(1)), Ok(()));
    assert_eq!(
        seal(&Conditions::default(), None, plain, entropy(1)),
        Err(SealError::Unprotected)
    );
    let eight = values(select(&[8]), 1);
    for exact in [None, Some(&eight)] {
        assert!(matches!(
            seal(&seven, exact, plain, entropy(1)),
            Err(SealError::Tpm(TpmError::Malformed(_)))
        ));
    }
    let good = values(select(&[7]), 1);
    assert_eq!(
        seal(&seven, Some(&good), plain, entropy(0)),
        Err(SealError::Entropy)
    );
}
