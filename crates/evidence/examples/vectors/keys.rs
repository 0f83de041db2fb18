//! Keys shown at enrolment: areas of keys that a TPM truly has, and areas that somebody wrote.

use std::{collections::BTreeMap, fs};

use domain::{HashAlg, TpmName, TpmPublic};
use evidence::{
    ak_names,
    wire::{Attributes, Parameters, Public, Symmetric},
};
use testkit::Swtpm;

use crate::{
    station::{Station, flush, public},
    vector::{
        Hex,
        keys::{KeyVector, KeyVerdict, Maker, Role},
    },
};

/// The vectors of keys by file name.
pub(crate) type KeyVectors = BTreeMap<&'static str, KeyVector>;

/// A TPM, and where the vectors go.
pub(crate) struct Bench<'v> {
    station: Station,
    pub(crate) vectors: &'v mut KeyVectors,
}

pub(crate) fn make() -> KeyVectors {
    let mut vectors = KeyVectors::new();
    let mut bench = Bench {
        station: Station::new("ecc"),
        vectors: &mut vectors,
    };
    bench.good_aks();
    bench.aks_of_other_kinds();
    bench.aks_with_other_attributes();
    bench.forged_aks();
    bench.misread_aks();
    bench.good_eks();
    bench.eks_of_other_templates();
    bench.forged_eks();
    vectors
}

pub(crate) fn no(reason: &str, detail: Option<&str>) -> KeyVerdict {
    KeyVerdict::Refused {
        reason: reason.to_owned(),
        detail: detail.map(str::to_owned),
    }
}

impl Bench<'_> {
    pub(crate) fn tpm(&self) -> &Swtpm {
        &self.station.tpm
    }

    fn add(
        &mut self,
        name: &'static str,
        title: &str,
        role: Role,
        made_by: Maker,
        area: Vec<u8>,
        verdict: KeyVerdict,
    ) {
        let qualified = (role == Role::AttestationKey).then(|| self.qualified(&area));
        let vector = KeyVector {
            title: title.to_owned(),
            role,
            public: Hex(area),
            qualified_name: qualified.map(|name| Hex(name.as_bytes().to_vec())),
            made_by,
            verdict,
        };
        assert!(self.vectors.insert(name, vector).is_none(), "{name} twice");
    }

    /// The name that enrolment computes; for what is no area, one of the right kind.
    fn qualified(&self, area: &[u8]) -> TpmName {
        let public = TpmPublic::try_from(area.to_vec()).unwrap();
        let name = ak_names(&self.station.ek, &public).map(|(_, qualified)| qualified);
        name.unwrap_or_else(|_| TpmName::try_from([&[0, 0x0b][..], &[0x9a; 32]].concat()).unwrap())
    }

    fn ak(&mut self, name: &'static str, title: &str, made_by: Maker, area: Vec<u8>, verdict: KeyVerdict) {
        self.add(name, title, Role::AttestationKey, made_by, area, verdict);
    }

    pub(crate) fn ek(
        &mut self,
        name: &'static str,
        title: &str,
        made_by: Maker,
        area: Vec<u8>,
        verdict: KeyVerdict,
    ) {
        self.add(name, title, Role::EndorsementKey, made_by, area, verdict);
    }

    /// What `tpm2_createak` makes, with the Name that the tool tells.
    pub(crate) fn createak(&self, alg: &str, hash: &str, scheme: &str) -> (Vec<u8>, Hex) {
        let arguments = [
            "-C", "ek.ctx", "-G", alg, "-g", hash, "-s", scheme, "-c", "k.ctx", "-u", "k.pub", "-n", "k.name",
        ];
        self.tpm().tool("tpm2_createak", &arguments);
        flush(self.tpm());
        let name = fs::read(self.tpm().dir().join("k.name")).unwrap();
        (self.area("k.pub"), Hex(name))
    }

    pub(crate) fn area(&self, file: &str) -> Vec<u8> {
        public(self.tpm(), file).as_bytes().to_vec()
    }

    /// A child of a storage key of the owner hierarchy.
    fn create(&self, alg: &str, attributes: &str) -> Vec<u8> {
        let primary = ["-C", "o", "-G", "ecc", "-c", "p.ctx"];
        self.tpm().tool("tpm2_createprimary", &primary);
        let create = [
            "-C", "p.ctx", "-G", alg, "-a", attributes, "-u", "k.pub", "-r", "k.priv",
        ];
        self.tpm().tool("tpm2_create", &create);
        flush(self.tpm());
        self.area("k.pub")
    }

    /// A primary key of the endorsement hierarchy.
    pub(crate) fn primary(&self, alg: &str, attributes: &str, policy: Option<&str>) -> Vec<u8> {
        let mut arguments = vec!["-C", "e", "-G", alg, "-a", attributes, "-c", "k.ctx"];
        if let Some(policy) = policy {
            let bytes = data_encoding::HEXLOWER.decode(policy.as_bytes()).unwrap();
            fs::write(self.tpm().dir().join("policy"), bytes).unwrap();
            arguments.extend(["-L", "policy"]);
        }
        self.tpm().tool("tpm2_createprimary", &arguments);
        self.tpm()
            .tool("tpm2_readpublic", &["-c", "k.ctx", "-o", "k.pub"]);
        flush(self.tpm());
        self.area("k.pub")
    }

    fn good_aks(&mut self) {
        for (name, alg, hash, scheme) in [
            ("accepted-ak-ecdsa-p256", "ecc", "sha256", "ecdsa"),
            ("accepted-ak-ecdsa-p384", "ecc384", "sha384", "ecdsa"),
            ("accepted-ak-rsassa-2048", "rsa", "sha256", "rsassa"),
            ("accepted-ak-rsapss-3072", "rsa3072", "sha384", "rsapss"),
        ] {
            let (area, tools) = self.createak(alg, hash, scheme);
            let verdict = KeyVerdict::Accepted {
                name: tools,
                spki_sha256: None,
            };
            let title = format!("tpm2_createak -G {alg} -g {hash} -s {scheme}");
            self.ak(name, &title, Maker::Tpm, area, verdict);
        }
    }

    fn aks_of_other_kinds(&mut self) {
        for (name, alg, hash, scheme, reason, title) in [
            (
                "ak-algorithm-sha1",
                "rsa",
                "sha1",
                "rsassa",
                "algorithm",
                "signs with SHA-1",
            ),
            (
                "ak-algorithm-p384-sha256",
                "ecc384",
                "sha256",
                "ecdsa",
                "algorithm",
                "P-384 with SHA-256",
            ),
            (
                "ak-algorithm-p256-sha384",
                "ecc",
                "sha384",
                "ecdsa",
                "algorithm",
                "P-256 with SHA-384",
            ),
            (
                "ak-malformed-sha512",
                "rsa",
                "sha512",
                "rsassa",
                "malformed",
                "a hash that no verifier needs",
            ),
        ] {
            let (area, _) = self.createak(alg, hash, scheme);
            self.ak(name, title, Maker::Tpm, area, no(reason, None));
        }
        let area = self.create(
            "hmac:sha256",
            "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth",
        );
        let title = "an HMAC key";
        self.ak(
            "ak-malformed-hmac",
            title,
            Maker::Tpm,
            area,
            no("malformed", None),
        );
    }

    fn aks_with_other_attributes(&mut self) {
        const ECDSA: &str = "ecc256:ecdsa-sha256:null";
        let common = "sensitivedataorigin|userwithauth";
        let lacks = |what| no("lacks", Some(what));
        let area = self.create(ECDSA, &format!("sign|fixedtpm|fixedparent|{common}"));
        let title = "not restricted: it signs whatever it is given, a forged quote too";
        self.ak(
            "ak-lacks-restricted",
            title,
            Maker::Tpm,
            area,
            lacks("restricted"),
        );
        let area = self.create(ECDSA, &format!("restricted|sign|{common}"));
        let title = "may be moved to another TPM, or to software";
        self.ak(
            "ak-lacks-fixed",
            title,
            Maker::Tpm,
            area,
            lacks("fixedTPM|fixedParent"),
        );
        let area = self.area("ek.pub");
        let title = "the endorsement key itself";
        self.ak("ak-lacks-sign", title, Maker::Tpm, area, lacks("sign"));

        let (good, _) = self.createak("ecc", "sha256", "ecdsa");
        let with = |change: &dyn Fn(u32) -> u32| {
            let mut area = Public::parse(&good).unwrap();
            area.attributes = Attributes(change(area.attributes.0));
            area.encode()
        };
        for (name, title, bit, what) in [
            (
                "ak-lacks-fixed-tpm",
                "fixedTPM taken off",
                Attributes::FIXED_TPM,
                "fixedTPM",
            ),
            (
                "ak-lacks-sensitive-data-origin",
                "sensitiveDataOrigin taken off: the key was somewhere else before",
                Attributes::SENSITIVE_DATA_ORIGIN,
                "sensitiveDataOrigin",
            ),
        ] {
            self.ak(
                name,
                title,
                Maker::Forger,
                with(&|bits| bits & !bit.0),
                lacks(what),
            );
        }
        let area = with(&|bits| bits | Attributes::DECRYPT.0);
        let title = "decrypts too: it could be made to answer a credential as an EK does";
        self.ak("ak-decrypts", title, Maker::Forger, area, no("decrypts", None));
        let area = with(&|bits| bits | 1 << 19);
        let unknown = no("unknown-attributes", Some("0x80000"));
        self.ak(
            "ak-unknown-attributes-x509sign",
            "signs certificates",
            Maker::Forger,
            area,
            unknown,
        );
        let area = with(&|bits| bits | 1 << 31);
        let unknown = no("unknown-attributes", Some("0x80000000"));
        self.ak(
            "ak-unknown-attributes-reserved",
            "a reserved bit",
            Maker::Forger,
            area,
            unknown,
        );
    }

    fn forged_aks(&mut self) {
        let (ecc, _) = self.createak("ecc", "sha256", "ecdsa");
        let (rsa, _) = self.createak("rsa", "sha256", "rsassa");
        let (ecc, rsa) = (Public::parse(&ecc).unwrap(), Public::parse(&rsa).unwrap());
        let Parameters::Ecc {
            symmetric,
            scheme,
            curve,
            x,
            y,
        } = ecc.parameters
        else {
            panic!("an ECC key");
        };
        let Parameters::Rsa {
            symmetric: none,
            scheme: rsassa,
            modulus,
            ..
        } = rsa.parameters
        else {
            panic!("an RSA key");
        };
        let of_ecc = |symmetric, scheme, x: &[u8], y: &[u8]| {
            let parameters = Parameters::Ecc {
                symmetric,
                scheme,
                curve,
                x,
                y,
            };
            Public { parameters, ..ecc }.encode()
        };
        let of_rsa = |key_bits, exponent, modulus: &[u8]| {
            let parameters = Parameters::Rsa {
                symmetric: none,
                scheme: rsassa,
                key_bits,
                exponent,
                modulus,
            };
            Public { parameters, ..rsa }.encode()
        };
        let mut even = modulus.to_vec();
        *even.last_mut().unwrap() &= 0xfe;
        let wide = [&[0], x].concat();
        let cipher = Symmetric::AesCfb { key_bits: 128 };
        let sha1_name = Public {
            name_alg: HashAlg::Sha1,
            ..ecc
        }
        .encode();
        let algorithm = "algorithm";
        for (name, title, reason, area) in [
            (
                "ak-no-scheme",
                "no signature scheme of its own",
                "no-scheme",
                of_ecc(symmetric, None, x, y),
            ),
            (
                "ak-algorithm-exponent-3",
                "the exponent is 3",
                algorithm,
                of_rsa(2048, 3, modulus),
            ),
            (
                "ak-algorithm-rsa-1024",
                "RSA of 1024 bits",
                algorithm,
                of_rsa(1024, 0, &modulus[..128]),
            ),
            (
                "ak-algorithm-sha1-name",
                "its Name is by SHA-1",
                algorithm,
                sha1_name,
            ),
            (
                "ak-key-even-modulus",
                "the modulus is even",
                "key",
                of_rsa(2048, 0, &even),
            ),
            (
                "ak-key-short-modulus",
                "keyBits says 3072, the modulus has 2048",
                "key",
                of_rsa(3072, 0, modulus),
            ),
            (
                "ak-key-cipher",
                "a signing key with a cipher",
                "key",
                of_ecc(cipher, scheme, x, y),
            ),
            (
                "ak-key-wide-coordinate",
                "x is longer than the curve",
                "key",
                of_ecc(symmetric, scheme, &wide, y),
            ),
        ] {
            self.ak(name, title, Maker::Forger, area, no(reason, None));
        }
    }

    /// A good key, misread or misnamed.
    fn misread_aks(&mut self) {
        let (good, _) = self.createak("ecc", "sha256", "ecdsa");
        let size = u16::try_from(good.len()).unwrap().to_be_bytes();
        for (name, title, area) in [
            (
                "ak-malformed-truncated",
                "the last octet is missing",
                good[..good.len() - 1].to_vec(),
            ),
            (
                "ak-malformed-trailing",
                "an octet follows",
                [&good[..], &[0]].concat(),
            ),
            (
                "ak-malformed-tpm2b",
                "with the size of a TPM2B_PUBLIC before it",
                [&size[..], &good].concat(),
            ),
        ] {
            self.ak(name, title, Maker::Forger, area, no("malformed", None));
        }
        let title = "a good key, and a qualified name by another hash than its nameAlg";
        self.ak(
            "ak-qualified-name",
            title,
            Maker::Tpm,
            good,
            no("qualified-name", None),
        );
        let other = Hex([&[0, 0x0c][..], &[0x9a; 48]].concat());
        self.vectors.get_mut("ak-qualified-name").unwrap().qualified_name = Some(other);
    }
}
