//! What is collected of a TPM, compared with what stock tools read.

use std::fs;

use testkit::Swtpm;
use tpm::{EkAlg, SRK_HANDLE, StorageTemplate, srk_from_token, srk_to_token};

use crate::support::{leftovers, open};

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The TCG's storage root key, made persistent by stock tools; its serialized handle.
fn persist_srk(swtpm: &Swtpm) -> Vec<u8> {
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    // The TCG's template has a point of zeros.
    // tpm2-tools read the point as a C structure: each coordinate has its size and room for 128 bytes.
    let coordinate = [&[32, 0][..], &[0; 128]].concat();
    fs::write(swtpm.dir().join("unique"), coordinate.repeat(2)).unwrap();
    swtpm.tool(
        "tpm2_createprimary",
        &[
            "-C",
            "o",
            "-G",
            "ecc256:null:aes128cfb",
            "-g",
            "sha256",
            "-a",
            attributes,
            "-u",
            "unique",
            "-c",
            "srk.ctx",
        ],
    );
    swtpm.tool(
        "tpm2_evictcontrol",
        &["-C", "o", "-c", "srk.ctx", "-o", "srk.handle", "0x81000001"],
    );
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    fs::read(swtpm.dir().join("srk.handle")).unwrap()
}

#[test]
fn the_inventory_is_what_stock_tools_read() {
    let swtpm = Swtpm::start();
    let serialized = persist_srk(&swtpm);
    let mut tpm = open(&swtpm);
    let inventory = tpm.inventory().unwrap();
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");
    assert_eq!(inventory.identity.manufacturer, "IBM");
    let algs: Vec<_> = inventory.endorsement.iter().map(|ek| ek.alg).collect();
    assert_eq!(algs, [EkAlg::Rsa2048, EkAlg::EccP256]);
    for ek in &inventory.endorsement {
        let alg = if ek.alg == EkAlg::Rsa2048 { "rsa" } else { "ecc" };
        swtpm.tool(
            "tpm2_createek",
            &["-G", alg, "-c", "ek.ctx", "-u", "ek.der", "-f", "der"],
        );
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        let der = fs::read(swtpm.dir().join("ek.der")).unwrap();
        assert_eq!(ek.digest, domain::EkDigest::of(&der));
        assert_eq!(ek.info.certificate, None);
    }
    let templates: Vec<_> = inventory
        .storage
        .iter()
        .map(|srk| (srk.key.template(), srk.handle))
        .collect();
    assert_eq!(
        templates,
        [
            (StorageTemplate::TcgEcc, Some(SRK_HANDLE)),
            (StorageTemplate::SystemdEcc, None),
            (StorageTemplate::SystemdRsa, None)
        ]
    );
    swtpm.tool("tpm2_readpublic", &["-c", "0x81000001", "-n", "srk.name"]);
    let name = fs::read(swtpm.dir().join("srk.name")).unwrap();
    let srk = &inventory.storage[0].key;
    assert_eq!(hex(srk.name().as_bytes()), hex(&name));
    assert_eq!(
        open(&swtpm).persistent_storage_key().unwrap().unwrap().name(),
        srk.name()
    );

    // Not pinned to what is at the handle, the key of the template is the same.
    assert_eq!(
        open(&swtpm).storage_key(StorageTemplate::TcgEcc).unwrap().name(),
        srk.name()
    );

    // A token's tpm2_srk is the handle as tpm2-tss serializes it, which tpm2-tools write.
    assert_eq!(hex(&srk_to_token(srk).unwrap()), hex(&serialized));
    assert_eq!(srk_from_token(&serialized).unwrap().name(), srk.name());
    assert!(srk_to_token(&inventory.storage[1].key).is_err());
    for place in 0..serialized.len() {
        let mut bad = serialized.clone();
        bad[place] ^= 1;
        assert!(srk_from_token(&bad).is_err(), "{place}");
        assert!(srk_from_token(&serialized[..place]).is_err(), "{place}");
    }
}
