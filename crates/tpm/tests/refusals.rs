//! What a TPM that is absent, locked, disabled, full or busy makes of our operations, and in which words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{
    thread,
    time::{Duration, Instant},
};

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue, SealedSecret};
use testkit::Swtpm;
use tpm::{AkHandle, Cause, EkAlg, SealError, Tcti, Tpm, TpmError};

fn open(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap()
}

fn select(bank: HashAlg, numbers: &[u64]) -> PcrSelection {
    PcrSelection::new(bank, numbers.iter().map(|n| PcrIndex::try_from(*n).unwrap())).unwrap()
}

#[test]
fn a_tpm_that_is_not_there_is_told_after_a_little_patience() {
    let mut swtpm = Swtpm::start();
    let tcti: Tcti = swtpm.tcti().parse().unwrap();
    swtpm.kill();
    let start = Instant::now();
    let error = Tpm::open(&tcti).unwrap_err();
    assert!(matches!(error, TpmError::Absent { .. }), "{error}");
    assert!(error.to_string().contains(&swtpm.tcti()), "{error}");
    assert!(error.hint().is_some());
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&start.elapsed()));
}

#[test]
fn a_device_that_is_missing_or_forbidden_is_told_at_once() {
    let start = Instant::now();
    let missing = Tpm::open(&"device:/dev/no-such-tpm".parse().unwrap()).unwrap_err();
    assert!(
        missing.to_string().contains("device:/dev/no-such-tpm"),
        "{missing}"
    );
    assert!(missing.to_string().contains("No such file"), "{missing}");
    // A device that is no TPM.
    let folder = Tpm::open(&"device:/tmp".parse().unwrap()).unwrap_err();
    assert!(matches!(folder, TpmError::Absent { .. }), "{folder}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_tpm_that_comes_up_late_or_is_busy_with_another_program_is_waited_for() {
    let mut swtpm = Swtpm::start();
    let tcti: Tcti = swtpm.tcti().parse().unwrap();
    swtpm.kill();
    let late = thread::spawn(move || Tpm::open(&tcti).and_then(|mut tpm| tpm.identity()));
    thread::sleep(Duration::from_millis(700));
    swtpm.revive();
    late.join().unwrap().unwrap();

    let mut first = open(&swtpm);
    first.identity().unwrap();
    let tcti: Tcti = swtpm.tcti().parse().unwrap();
    let second = thread::spawn(move || Tpm::open(&tcti).and_then(|mut tpm| tpm.identity()));
    thread::sleep(Duration::from_millis(500));
    drop(first);
    second.join().unwrap().unwrap();
}

#[test]
fn a_tpm_that_dies_in_between_is_told() {
    let mut swtpm = Swtpm::start();
    let mut tpm = open(&swtpm);
    swtpm.kill();
    let error = tpm.endorsement_key(EkAlg::EccP256).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Connection), "{error}");
}

#[test]
fn lockout_is_reached_and_explained() {
    let swtpm = Swtpm::start();
    // A stock AK without noDA and with a password, at a handle of its own; then enough wrong passwords.
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc", "-c", "primary"]);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    let key = [
        "-C",
        "primary",
        "-G",
        "ecc:ecdsa-sha256:null",
        "-a",
        attributes,
        "-p",
        "right",
    ];
    swtpm.tool("tpm2_create", &[&key[..], &["-u", "pub", "-r", "priv"]].concat());
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool(
        "tpm2_load",
        &["-C", "primary", "-u", "pub", "-r", "priv", "-c", "key"],
    );
    swtpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "key", "0x81010021"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool(
        "tpm2_dictionarylockout",
        &["-s", "-n", "3", "-t", "1000", "-l", "1000"],
    );
    swtpm.extend(7, b"measured");
    let pcrs = select(HashAlg::Sha256, &[7]);
    let mut tpm = open(&swtpm);
    let guarded = AkHandle::try_from(0x8101_0021).unwrap();
    let mut causes = Vec::new();
    for _ in 0..6 {
        let error = tpm.quote(guarded, &[1; 32], &pcrs).unwrap_err();
        causes.push(error.cause().unwrap());
        if error.cause() == Some(Cause::Lockout) {
            assert!(
                error.to_string().contains("0x921: the TPM is in lockout"),
                "{error}"
            );
            assert!(error.hint().unwrap().contains("tpm2_dictionarylockout"));
        }
    }
    assert_eq!(causes.first(), Some(&Cause::AuthFailed));
    assert_eq!(causes.last(), Some(&Cause::Lockout));
    // Our own AK has nothing to guess: it quotes on.
    tpm.create_ak(EkAlg::EccP256, AkHandle::default()).unwrap();
    tpm.quote(AkHandle::default(), &[1; 32], &pcrs).unwrap();
    // A sealed secret is under systemd's primary, which is under lockout's law.
    let secret = SealedSecret::copy_from(&[1; 32]).unwrap();
    let error = tpm.seal(&secret, &pcrs, false).unwrap_err();
    let SealError::Tpm(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.cause(), Some(Cause::Lockout));
    drop(tpm);
    swtpm.tool("tpm2_dictionarylockout", &["-c"]);
    open(&swtpm).seal(&secret, &pcrs, false).unwrap();
}

#[test]
fn a_disabled_hierarchy_and_one_with_a_password_are_explained() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_changeauth", &["-c", "e", "secret"]);
    let error = open(&swtpm).endorsement_key(EkAlg::EccP256).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::AuthFailed), "{error}");
    assert!(error.hint().unwrap().contains("endorsementAuthSet"));
    swtpm.tool("tpm2_changeauth", &["-c", "e", "-p", "secret"]);
    swtpm.tool("tpm2_hierarchycontrol", &["-C", "p", "ehEnable", "clear"]);
    let error = open(&swtpm).endorsement_key(EkAlg::EccP256).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::HierarchyDisabled), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("cannot make the endorsement key: 0x"),
        "{error}"
    );
}

#[test]
fn a_bank_that_the_tpm_does_not_keep_is_told() {
    let swtpm = Swtpm::start();
    swtpm.tool(
        "tpm2_pcrallocate",
        &["sha256:all+sha1:none+sha384:none+sha512:none"],
    );
    swtpm.reset();
    let mut tpm = open(&swtpm);
    let all: Vec<u64> = (0..24).collect();
    tpm.read_pcrs(&select(HashAlg::Sha256, &all)).unwrap();
    let error = tpm.read_pcrs(&select(HashAlg::Sha384, &[7])).unwrap_err();
    assert_eq!(error, TpmError::NoPcrBank(HashAlg::Sha384));
    let seven = PcrIndex::try_from(7).unwrap();
    let long = PcrValue::new(HashAlg::Sha384, &[1; 48]).unwrap();
    assert!(matches!(
        tpm.extend(seven, HashAlg::Sha256, &long),
        Err(TpmError::Malformed(_))
    ));
}
