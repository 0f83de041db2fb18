//! Endorsement keys: the templates as stock tools make them, other templates, and areas that hold no key.

use std::fs;

use domain::{Sha256Digest, TpmPublic};
use evidence::{EkAlg, EndorsementKey, ek::template};

use crate::{
    keys::{Bench, no},
    station::flush,
    vector::{
        Hex,
        keys::{KeyVerdict, Maker},
    },
};

/// `PolicyA`: PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
const STORAGE: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";

impl Bench<'_> {
    pub(crate) fn good_eks(&mut self) {
        for (name, alg) in [
            ("accepted-ek-rsa-2048", "rsa"),
            ("accepted-ek-ecc-p256", "ecc"),
            ("accepted-ek-ecc-p384", "ecc384"),
        ] {
            self.tpm()
                .tool("tpm2_createek", &["-G", alg, "-c", "k.ctx", "-u", "k.pub"]);
            let read = ["-c", "k.ctx", "-n", "k.name", "-f", "der", "-o", "k.der"];
            self.tpm().tool("tpm2_readpublic", &read);
            flush(self.tpm());
            let read = |file: &str| fs::read(self.tpm().dir().join(file)).unwrap();
            let verdict = KeyVerdict::Accepted {
                name: Hex(read("k.name")),
                spki_sha256: Some(Hex(Sha256Digest::of(&read("k.der")).as_bytes().to_vec())),
            };
            let (title, area) = (format!("tpm2_createek -G {alg}"), self.area("k.pub"));
            self.ek(name, &title, Maker::Tpm, area, verdict);
        }
    }

    pub(crate) fn eks_of_other_templates(&mut self) {
        let not = |alg| no("not-the-template", Some(alg));
        for (name, alg, what) in [
            ("ek-not-the-template-rsa-2048", "rsa2048:aes128cfb", "RSA-2048"),
            ("ek-not-the-template-p256", "ecc256:aes128cfb", "ECC P-256"),
            ("ek-not-the-template-p384", "ecc384:aes256cfb", "ECC P-384"),
        ] {
            let area = self.primary(alg, STORAGE, None);
            let title = "a storage key of the endorsement hierarchy, with a password in the policy's place";
            self.ek(name, title, Maker::Tpm, area, not(what));
        }
        let attributes = format!("{STORAGE}|adminwithpolicy");
        let area = self.primary("ecc256:aes128cfb", &attributes, Some(POLICY_A));
        let title = "the template with userWithAuth set: another Name, and it still activates credentials";
        self.ek(
            "ek-not-the-template-one-bit",
            title,
            Maker::Tpm,
            area,
            not("ECC P-256"),
        );
        let (area, _) = self.createak("ecc", "sha256", "ecdsa");
        let title = "an attestation key";
        self.ek(
            "ek-not-the-template-ak",
            title,
            Maker::Tpm,
            area,
            not("ECC P-256"),
        );
        let area = self.primary("rsa3072:aes128cfb", STORAGE, None);
        let title = "an RSA key of 3072 bits";
        self.ek(
            "ek-key-rsa-3072",
            title,
            Maker::Tpm,
            area,
            no("key", Some("RSA-2048")),
        );
    }

    pub(crate) fn forged_eks(&mut self) {
        let key = |what| no("key", Some(what));
        for (name, alg, what, key_at) in [
            (
                "ek-key-p256-not-on-curve",
                EkAlg::EccP256,
                "ECC P-256",
                "accepted-ek-ecc-p256",
            ),
            (
                "ek-key-p384-not-on-curve",
                EkAlg::EccP384,
                "ECC P-384",
                "accepted-ek-ecc-p384",
            ),
            (
                "ek-key-rsa-even",
                EkAlg::Rsa2048,
                "RSA-2048",
                "accepted-ek-rsa-2048",
            ),
        ] {
            let mut area = self.vectors[key_at].public.0.clone();
            let good = EndorsementKey::new(&TpmPublic::try_from(area.clone()).unwrap()).unwrap();
            assert_eq!(good.alg(), alg);
            *area.last_mut().unwrap() ^= 1;
            let title = "the last bit of the key differs";
            self.ek(name, title, Maker::Forger, area, key(what));
        }
        for (name, alg, what) in [
            ("ek-key-rsa-zero", EkAlg::Rsa2048, "RSA-2048"),
            ("ek-key-p256-zero", EkAlg::EccP256, "ECC P-256"),
            ("ek-key-p384-empty", EkAlg::EccP384, "ECC P-384"),
        ] {
            let area = template(alg).as_bytes().to_vec();
            self.ek(name, "the template without a key", Maker::Forger, area, key(what));
        }
        let good = self.vectors["accepted-ek-ecc-p256"].public.0.clone();
        let malformed = || no("malformed", None);
        let cut = good[..good.len() - 1].to_vec();
        self.ek(
            "ek-malformed-truncated",
            "the last octet is missing",
            Maker::Forger,
            cut,
            malformed(),
        );
        let more = [&good[..], &[0]].concat();
        self.ek(
            "ek-malformed-trailing",
            "an octet follows",
            Maker::Forger,
            more,
            malformed(),
        );
    }
}
