//! What someone who listens on the bus between CPU and TPM learns: not the secrets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use domain::{CredentialSecret, HashAlg, PcrIndex, PcrSelection, SealedSecret};
use evidence::ek::EndorsementKey;
use testkit::{Canary, Swtpm, Tap};
use tpm::{AkHandle, EkAlg, Tpm};

#[test]
fn secrets_cross_the_bus_encrypted() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let tap = Tap::on(&swtpm);
    let mut tpm = Tpm::open(&tap.tcti().parse().unwrap()).unwrap();
    let pcrs = PcrSelection::new(HashAlg::Sha256, [PcrIndex::try_from(7).unwrap()]).unwrap();

    let sealed = *b"the sealed secret of 32 bytes...";
    let object = tpm
        .seal(&SealedSecret::copy_from(&sealed).unwrap(), &pcrs, false)
        .unwrap();
    tpm.unseal(&object, &pcrs)
        .unwrap()
        .expose(|back| assert_eq!(*back, sealed));

    let credential = *b"the credential of 32 bytes.....!";
    for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
        let ek = EndorsementKey::new(&tpm.endorsement_key(alg).unwrap().public).unwrap();
        let ak = tpm.create_ak(alg, AkHandle::default()).unwrap();
        let secret = CredentialSecret::copy_from(&credential).unwrap();
        let made = evidence::make_credential(&ek, &ak.name, &secret, &[0x42; 64]).unwrap();
        let opened = tpm
            .activate_credential(alg, AkHandle::default(), &made.id_object, &made.encrypted_secret)
            .unwrap();
        opened.expose(|back| assert_eq!(*back, credential));
        tpm.evict_ak(AkHandle::default()).unwrap();
    }
    let mut random = [0; 32];
    tpm.random(&mut random).unwrap();

    let heard = tap.heard();
    // The tap works: what is no secret is heard.
    let public = tpm.read_pcrs(&pcrs).unwrap();
    assert!(
        !Canary::new("a PCR", public.as_bytes())
            .find_in("bus", &heard)
            .is_empty()
    );
    for (name, secret) in [
        ("sealed secret", sealed),
        ("credential", credential),
        ("random bytes", random),
    ] {
        Canary::new(name, &secret).assert_absent("bus", &heard);
    }
}
