//! A device's life against a real software TPM: EK, AK, credential activation, quotes, sealing; and what stock tpm2-tools
//! make of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::fs;

use domain::{CredentialSecret, HashAlg, PcrIndex, PcrSelection, PcrValue, SealedSecret};
use evidence::{AttestationKey, Evidence, Expected, PcrPolicy, ek::EndorsementKey};
use testkit::Swtpm;
use tpm::{AkHandle, Cause, EkAlg, PrimaryAlg, SealError, Tpm, TpmError, UnsealError};

const AK: u32 = 0x8101_0020;

fn open(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap()
}

fn ak() -> AkHandle {
    AkHandle::try_from(AK).unwrap()
}

fn index(number: u64) -> PcrIndex {
    PcrIndex::try_from(number).unwrap()
}

fn select(numbers: &[u64]) -> PcrSelection {
    PcrSelection::new(HashAlg::Sha256, numbers.iter().copied().map(index)).unwrap()
}

fn secret(byte: u8) -> SealedSecret {
    SealedSecret::copy_from(&[byte; 32]).unwrap()
}

/// Transient objects and sessions that are in the TPM, as stock tools see them.
fn leftovers(swtpm: &Swtpm) -> String {
    [
        "handles-transient",
        "handles-loaded-session",
        "handles-saved-session",
    ]
    .map(|kind| String::from_utf8(swtpm.tool("tpm2_getcap", &[kind]).stdout).unwrap())
    .concat()
}

#[test]
fn an_ek_is_of_the_pinned_template_and_the_same_each_time() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm);
    for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
        let ek = tpm.endorsement_key(alg).unwrap();
        assert_eq!(EndorsementKey::new(&ek.public).unwrap().alg(), alg);
        assert_eq!(ek.certificate, None);
        assert_eq!(tpm.endorsement_key(alg).unwrap(), ek);
    }
}

#[test]
fn an_ek_certificate_comes_out_of_nv_without_its_padding() {
    let swtpm = Swtpm::start();
    let der = [&[0x30, 0x82, 0x05, 0x00][..], &[7; 0x500]].concat();
    fs::write(swtpm.dir().join("cert"), [&der[..], &[0xff; 100]].concat()).unwrap();
    let size = (der.len() + 100).to_string();
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate|write_stclear";
    swtpm.tool(
        "tpm2_nvdefine",
        &["-C", "p", "-s", &size, "-a", attributes, "0x01c00002"],
    );
    swtpm.tool("tpm2_nvwrite", &["-C", "p", "-i", "cert", "0x01c00002"]);
    let mut tpm = open(&swtpm);
    assert_eq!(
        tpm.endorsement_key(EkAlg::Rsa2048).unwrap().certificate,
        Some(der)
    );
    assert_eq!(tpm.endorsement_key(EkAlg::EccP256).unwrap().certificate, None);
}

#[test]
fn an_ak_is_a_child_of_the_ek_activates_and_dies_with_a_clear() {
    for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
        let swtpm = Swtpm::start();
        let mut tpm = open(&swtpm);
        assert_eq!(tpm.read_ak(ak()).unwrap(), None);
        let ek = EndorsementKey::new(&tpm.endorsement_key(alg).unwrap().public).unwrap();
        let made = tpm.create_ak(alg, ak()).unwrap();
        assert_eq!(tpm.read_ak(ak()).unwrap(), Some(made.clone()));
        assert_eq!(
            evidence::ak_names(&ek, &made.public).unwrap(),
            (made.name.clone(), made.qualified_name.clone())
        );
        AttestationKey::new(&made.public, &made.qualified_name).unwrap();

        let secret = CredentialSecret::copy_from(&[9; 32]).unwrap();
        let credential = evidence::make_credential(&ek, &made.name, &secret, &[3; 64]).unwrap();
        let opened = tpm
            .activate_credential(alg, ak(), &credential.id_object, &credential.encrypted_secret)
            .unwrap();
        assert!(opened.ct_eq(&secret));

        // The same credential for another AK of the same EK does not open.
        let second = AkHandle::try_from(AK + 1).unwrap();
        tpm.create_ak(alg, second).unwrap();
        let error = tpm
            .activate_credential(alg, second, &credential.id_object, &credential.encrypted_secret)
            .err()
            .unwrap();
        assert_eq!(error.cause(), Some(Cause::Integrity), "{error}");

        drop(tpm);
        swtpm.tool("tpm2_clear", &[]);
        assert_eq!(open(&swtpm).read_ak(ak()).unwrap(), None);
    }
}

#[test]
fn a_credential_for_another_tpm_is_refused() {
    let (ours, theirs) = (Swtpm::start(), Swtpm::start());
    let (mut tpm, mut other) = (open(&ours), open(&theirs));
    let alg = EkAlg::EccP256;
    let made = tpm.create_ak(alg, ak()).unwrap();
    let ek = EndorsementKey::new(&other.endorsement_key(alg).unwrap().public).unwrap();
    let secret = CredentialSecret::copy_from(&[9; 32]).unwrap();
    let credential = evidence::make_credential(&ek, &made.name, &secret, &[3; 64]).unwrap();
    let refused = tpm.activate_credential(alg, ak(), &credential.id_object, &credential.encrypted_secret);
    assert!(matches!(refused.err().unwrap(), TpmError::Refused { .. }));
    let cut = &credential.id_object[..credential.id_object.len() - 1];
    let malformed = tpm
        .activate_credential(alg, ak(), cut, &credential.encrypted_secret)
        .err()
        .unwrap();
    assert_eq!(malformed, TpmError::Malformed("the credential blob"));
    let cut = &credential.encrypted_secret[1..];
    let malformed = tpm
        .activate_credential(alg, ak(), &credential.id_object, cut)
        .err()
        .unwrap();
    assert_eq!(
        malformed,
        TpmError::Malformed("the credential's encrypted secret")
    );
}

#[test]
fn a_handle_in_use_is_left_alone_and_an_evicted_ak_is_gone() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.evict_ak(ak()), Err(TpmError::NoAk(ak())));
    let made = tpm.create_ak(EkAlg::EccP256, ak()).unwrap();
    assert_eq!(
        tpm.create_ak(EkAlg::EccP256, ak()),
        Err(TpmError::AkHandleInUse(ak()))
    );
    assert_eq!(tpm.read_ak(ak()).unwrap(), Some(made));
    tpm.evict_ak(ak()).unwrap();
    assert_eq!(tpm.read_ak(ak()).unwrap(), None);
    assert_eq!(
        tpm.quote(ak(), &[1; 32], &select(&[7])),
        Err(TpmError::NoAk(ak()))
    );
    let nothing = tpm
        .activate_credential(EkAlg::EccP256, ak(), &[0, 1, 1], &[0, 1, 1])
        .err()
        .unwrap();
    assert_eq!(nothing, TpmError::NoAk(ak()));
}

#[test]
fn a_quote_is_appraised_by_evidence() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let mut tpm = open(&swtpm);
    let made = tpm.create_ak(EkAlg::Rsa2048, ak()).unwrap();
    let quote = tpm.quote(ak(), &[5; 32], &select(&[7, 11])).unwrap();
    let key = AttestationKey::new(&made.public, &made.qualified_name).unwrap();
    let policy = PcrPolicy::exact(HashAlg::Sha256, quote.pcrs.iter().collect()).unwrap();
    let bytes = Evidence {
        quote: &quote.attest,
        signature: &quote.signature,
        pcrs: quote.pcrs.as_bytes(),
    };
    let expected = |qualifying_data| Expected {
        ak: &key,
        qualifying_data,
        last: None,
        policy: &policy,
    };
    let attested = evidence::appraise(bytes, &expected(&[5; 32])).unwrap();
    assert!(evidence::appraise(bytes, &expected(&[6; 32])).is_err());

    // The quote tells true counters and firmware: those that the TPM tells its owner.
    let clock = tpm.clock().unwrap();
    assert_eq!(attested.counters().reset_count, clock.reset_count);
    assert_eq!(attested.counters().restart_count, clock.restart_count);
    assert!(attested.counters().clock <= clock.clock);
    let identity = tpm.identity().unwrap();
    assert_eq!(attested.firmware_version(), identity.firmware_version);
    assert_eq!(identity.manufacturer, "IBM");
    assert!(!identity.vendor.is_empty());
}

#[test]
fn stock_tools_quote_with_our_ak_and_check_our_quote() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm);
    tpm.create_ak(EkAlg::Rsa2048, ak()).unwrap();
    let quote = tpm.quote(ak(), &[0xab; 32], &select(&[7])).unwrap();
    drop(tpm);
    let nonce = "ab".repeat(32);
    swtpm.tool(
        "tpm2_readpublic",
        &["-c", "0x81010020", "-f", "pem", "-o", "ak.pem"],
    );
    swtpm.tool(
        "tpm2_quote",
        &[
            "-c",
            "0x81010020",
            "-l",
            "sha256:7",
            "-q",
            &nonce,
            "-m",
            "m",
            "-s",
            "s",
            "-o",
            "p",
        ],
    );
    swtpm.tool(
        "tpm2_checkquote",
        &["-u", "ak.pem", "-m", "m", "-s", "s", "-f", "p", "-q", &nonce],
    );
    fs::write(swtpm.dir().join("m2"), &quote.attest).unwrap();
    fs::write(swtpm.dir().join("s2"), &quote.signature).unwrap();
    swtpm.tool(
        "tpm2_checkquote",
        &["-u", "ak.pem", "-m", "m2", "-s", "s2", "-q", &nonce],
    );
}

#[test]
fn sealed_comes_back_until_a_pcr_moves_and_again_after_a_restart() {
    let swtpm = Swtpm::start();
    let measure = |swtpm: &Swtpm| {
        swtpm.extend(7, b"secure boot");
        swtpm.extend(11, b"kernel");
    };
    measure(&swtpm);
    let pcrs = select(&[7, 11]);
    let mut tpm = open(&swtpm);
    let object = tpm.seal(&secret(0x5e), &pcrs, false).unwrap();
    assert_eq!(object.primary_alg, PrimaryAlg::Ecc);
    assert!(tpm.unseal(&object, &pcrs).unwrap().ct_eq(&secret(0x5e)));
    let one = PcrValue::new(HashAlg::Sha256, &[1; 32]).unwrap();
    tpm.extend(index(11), HashAlg::Sha256, &one).unwrap();
    let refused = tpm.unseal(&object, &pcrs).err().unwrap();
    assert_eq!(refused, UnsealError::PolicyMismatch(pcrs));
    assert!(refused.to_string().contains("sha256:7,11"));
    assert!(refused.hint().is_some());
    drop(tpm);

    swtpm.reset();
    measure(&swtpm);
    assert!(open(&swtpm).unseal(&object, &pcrs).unwrap().ct_eq(&secret(0x5e)));
}

#[test]
fn what_we_seal_stock_tools_unseal() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let object = open(&swtpm).seal(&secret(b'x'), &select(&[7]), false).unwrap();
    let blob = &object.private_then_public;
    let private = 2 + usize::from(u16::from_be_bytes([blob[0], blob[1]]));
    fs::write(swtpm.dir().join("priv"), &blob[..private]).unwrap();
    fs::write(swtpm.dir().join("pub"), &blob[private..]).unwrap();
    // systemd's primary: its template as tpm2-tools spell it.
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
    swtpm.tool(
        "tpm2_createprimary",
        &[
            "-C",
            "o",
            "-g",
            "sha256",
            "-G",
            "ecc256:aes128cfb",
            "-a",
            attributes,
            "-c",
            "primary",
        ],
    );
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool(
        "tpm2_load",
        &["-C", "primary", "-r", "priv", "-u", "pub", "-c", "sealed"],
    );
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let out = swtpm.tool("tpm2_unseal", &["-c", "sealed", "-p", "pcr:sha256:7"]);
    assert_eq!(out.stdout, [b'x'; 32]);
}

#[test]
fn what_stock_tools_seal_under_the_tcgs_srk_we_unseal() {
    for persistent in [false, true] {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"secure boot");
        fs::write(swtpm.dir().join("secret"), [0x77; 32]).unwrap();
        // x and y of 32 zero bytes; tpm2-tools want the C structure as it lies in memory.
        let zero = [&32_u16.to_ne_bytes()[..], &[0; 128]].concat();
        fs::write(swtpm.dir().join("unique"), [&zero[..], &zero].concat()).unwrap();
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
        swtpm.tool(
            "tpm2_createprimary",
            &[
                "-C",
                "o",
                "-g",
                "sha256",
                "-G",
                "ecc256:aes128cfb",
                "-a",
                attributes,
                "-u",
                "unique",
                "-c",
                "srk",
            ],
        );
        if persistent {
            swtpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "srk", "0x81000001"]);
        }
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        swtpm.tool(
            "tpm2_createpolicy",
            &["--policy-pcr", "-l", "sha256:7", "-L", "policy"],
        );
        let sealed = [
            "-C",
            "srk",
            "-g",
            "sha256",
            "-L",
            "policy",
            "-a",
            "fixedtpm|fixedparent",
        ];
        let files = ["-i", "secret", "-u", "pub", "-r", "priv"];
        swtpm.tool("tpm2_create", &[&sealed[..], &files].concat());
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        let read = |name| fs::read(swtpm.dir().join(name)).unwrap();
        let object = tpm::SealedObject {
            private_then_public: [read("priv"), read("pub")].concat(),
            policy_hash: read("policy").try_into().unwrap(),
            primary_alg: PrimaryAlg::Ecc,
        };
        let mut tpm = open(&swtpm);
        assert!(tpm.unseal(&object, &select(&[7])).unwrap().ct_eq(&secret(0x77)));
        let mut entropy = [0; 40];
        tpm.random(&mut entropy).unwrap();
        assert!(entropy[..32] != [0; 32] && entropy[32..] != [0; 8]);
    }
}

#[test]
fn pcrs_without_a_measurement_are_not_sealed_to_unless_forced() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let mut tpm = open(&swtpm);
    // 17 is all ones on a TPM that no dynamic root of trust has used.
    for (pcrs, bad) in [(select(&[7, 11]), 11), (select(&[7, 17]), 17)] {
        let refused = tpm.seal(&secret(1), &pcrs, false).err().unwrap();
        assert_eq!(refused, SealError::Uninitialised(index(bad)));
        assert!(refused.hint().is_some());
        let forced = tpm.seal(&secret(1), &pcrs, true).unwrap();
        assert!(tpm.unseal(&forced, &pcrs).unwrap().ct_eq(&secret(1)));
    }
}

#[test]
fn a_sealed_object_of_another_tpm_or_of_another_shape_is_refused() {
    let (ours, theirs) = (Swtpm::start(), Swtpm::start());
    ours.extend(7, b"same");
    theirs.extend(7, b"same");
    let pcrs = select(&[7]);
    let object = open(&theirs).seal(&secret(2), &pcrs, false).unwrap();
    let mut tpm = open(&ours);
    assert_eq!(tpm.unseal(&object, &pcrs).err(), Some(UnsealError::NotThisTpm));
    let mut malformed = object.clone();
    malformed.policy_hash = [0; 32];
    assert_eq!(tpm.unseal(&malformed, &pcrs).err(), Some(UnsealError::Malformed));
    // Under the right parent with other PCRs: the policy does not come out.
    let own = tpm.seal(&secret(2), &pcrs, false).unwrap();
    assert_eq!(
        tpm.unseal(&own, &select(&[8])).err(),
        Some(UnsealError::PolicyMismatch(select(&[8])))
    );
}

#[test]
fn every_operation_ten_times_leaves_nothing_behind() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"secure boot");
    let pcrs = select(&[7]);
    let mut tpm = open(&swtpm);
    for round in 0..10_u8 {
        for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
            let ek = EndorsementKey::new(&tpm.endorsement_key(alg).unwrap().public).unwrap();
            let made = tpm.create_ak(alg, ak()).unwrap();
            tpm.create_ak(alg, ak()).unwrap_err();
            let secret = CredentialSecret::copy_from(&[round; 32]).unwrap();
            let mut credential =
                evidence::make_credential(&ek, &made.name, &secret, &[round | 0x80; 64]).unwrap();
            tpm.activate_credential(alg, ak(), &credential.id_object, &credential.encrypted_secret)
                .unwrap();
            *credential.id_object.last_mut().unwrap() ^= 1;
            let bad = tpm.activate_credential(alg, ak(), &credential.id_object, &credential.encrypted_secret);
            assert!(bad.is_err());
            tpm.quote(ak(), &[round; 32], &pcrs).unwrap();
            tpm.read_ak(ak()).unwrap().unwrap();
            tpm.evict_ak(ak()).unwrap();
        }
        let object = tpm.seal(&secret(round), &pcrs, false).unwrap();
        assert!(tpm.seal(&secret(round), &select(&[11]), false).is_err());
        assert!(tpm.unseal(&object, &pcrs).is_ok());
        assert!(tpm.unseal(&object, &select(&[8])).is_err());
        let mut corrupt = object.clone();
        corrupt.private_then_public[10] ^= 1;
        assert_eq!(tpm.unseal(&corrupt, &pcrs).err(), Some(UnsealError::NotThisTpm));
        tpm.random(&mut [0; 100]).unwrap();
        tpm.clock().unwrap();
        tpm.identity().unwrap();
        tpm.read_pcrs(&select(&(0..24).collect::<Vec<_>>())).unwrap();
    }
    // Three slots of either kind: a single leftover would have stopped the second or third round. Closing leaves none.
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");
}
