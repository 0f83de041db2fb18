//! EK certificates by other people's tools: the openssl command line, and swtpm with its local CA on a real software TPM.

use std::{collections::BTreeSet, fs, process::Command, time::SystemTime};

use crate::certificates::{
    House, KEY_AGREEMENT, broken, key_usage,
    openssl::{CA, EK, Workshop},
    tlv,
};
use domain::{TpmPublic, UnixTime};
use evidence::{
    EndorsementKey,
    certificate::{
        ChainBreak, DenyList, DenyRule, EkRefused, EkTrustPolicy, FirmwareVersion, NotAnEk, Presented, Roots,
        TrustBasis, certificates_in, verify_ek_certificate,
    },
};
use testkit::Swtpm;

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_secs(since.as_secs())
}

/// A root of one kind that signs an intermediate of another, which signs the certificate of an RSA EK.
fn chain(workshop: &Workshop, root: (&str, &[&str]), ca: (&str, &[&str])) -> (Roots, Vec<u8>) {
    workshop.key("root", root.0);
    workshop.key("ca", ca.0);
    workshop.key("ek", "RSA:2048");
    let files = [
        workshop.certify("root", "/CN=Root/O=Maker", "root", CA, root.1),
        workshop.certify("ca", "/CN=CA/O=Maker", "root", CA, root.1),
    ];
    let roots = Roots::read(files.iter().map(|pem| ("maker.pem", pem.as_slice())));
    assert_eq!(roots.unreadable(), &[]);
    (roots, workshop.certify("ek", "/", "ca", EK, ca.1))
}

#[test]
fn every_signature_algorithm_is_checked_as_openssl_makes_it() {
    const PSS: [&str; 2] = ["-sigopt", "rsa_padding_mode:pss"];
    let pss256 = [&["-sha256"][..], &PSS, &["-sigopt", "rsa_pss_saltlen:32"]].concat();
    let pss384 = [&["-sha384"][..], &PSS, &["-sigopt", "rsa_pss_saltlen:48"]].concat();
    let pss512 = [&["-sha512"][..], &PSS, &["-sigopt", "rsa_pss_saltlen:64"]].concat();
    for (root, ca) in [
        (("RSA:4096", &["-sha512"][..]), ("RSA:2048", &["-sha256"][..])),
        (("RSA:3072", &["-sha384"]), ("RSA:2048", &pss256)),
        (("RSA-PSS:2048", &pss384), ("EC:P-256", &["-sha384"])),
        (("EC:P-384", &["-sha384"]), ("EC:P-256", &["-sha256"])),
        (("RSA:3072", &pss512), ("EC:P-256", &["-sha256"])),
        (("EC:P-521", &["-sha512"]), ("EC:P-384", &["-sha384"])),
        (("EC:P-256", &["-sha384"]), ("EC:P-384", &["-sha256"])),
    ] {
        let (roots, ek) = chain(&Workshop::new(), root, ca);
        let certificate = verify_ek_certificate(&ek, &[], &roots, now())
            .unwrap_or_else(|error| panic!("{root:?} {ca:?}: {error}"));
        assert_eq!(
            certificate.to_string(),
            "Nuvoton Technology (NTC) NPCT75x, firmware 7.2, by CN=Root, O=Maker"
        );
        assert_eq!(
            certificate.chain_subjects(),
            ["(no name)", "CN=CA, O=Maker", "CN=Root, O=Maker"]
        );
    }
}

#[test]
fn what_is_not_checked_or_too_weak_is_named() {
    let judge = |root: (&str, &[&str])| {
        let (roots, ek) = chain(&Workshop::new(), root, ("EC:P-256", &["-sha256"]));
        broken(verify_ek_certificate(&ek, &[], &roots, now()))
    };
    let what = "ECDSA on P521 with Sha256".to_owned();
    assert_eq!(
        judge(("EC:P-521", &["-sha256"])),
        (1, ChainBreak::Algorithm { what })
    );
    let what = "the curve 1.3.132.0.10".to_owned();
    assert_eq!(
        judge(("EC:secp256k1", &["-sha256"])),
        (1, ChainBreak::Algorithm { what })
    );
    assert_eq!(
        judge(("RSA:1024", &["-sha256"])),
        (1, ChainBreak::KeySize { bits: 1024 })
    );
    let odd_salt = [
        "-sha256",
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:20",
    ];
    let (depth, reason) = judge(("RSA:2048", &odd_salt));
    assert!(
        depth == 1 && matches!(&reason, ChainBreak::Algorithm { what } if what.contains("PSS")),
        "{reason:?}"
    );
}

#[test]
fn a_wrong_signature_on_p521_is_wrong() {
    let workshop = Workshop::new();
    let (_, ek) = chain(&workshop, ("EC:P-521", &["-sha512"]), ("EC:P-256", &["-sha256"]));
    let [root, mut ca] = ["root.crt", "ca.crt"].map(|file| {
        let pem = fs::read(workshop.path(file)).unwrap();
        certificates_in(&pem).unwrap().remove(0)
    });
    let judge = |ca: &[u8]| {
        let roots = Roots::read([("root", root.as_slice()), ("ca", ca)]);
        verify_ek_certificate(&ek, &[], &roots, now())
    };
    assert!(judge(&ca).is_ok());
    *ca.last_mut().unwrap() ^= 1;
    let issuer = "CN=Root, O=Maker".to_owned();
    assert_eq!(broken(judge(&ca)), (1, ChainBreak::Signature { issuer }));
}

#[test]
fn sha1_signs_intermediates_only_where_the_operator_says_so_and_never_an_ek() {
    let (roots, ek) = chain(
        &Workshop::new(),
        ("RSA:2048", &["-sha1"]),
        ("RSA:2048", &["-sha256"]),
    );
    let error = verify_ek_certificate(&ek, &[], &roots, now()).unwrap_err();
    assert_eq!((error.depth(), error.reason()), (1, &ChainBreak::Sha1));
    assert!(error.hint().unwrap().contains("SHA-1"));
    assert!(verify_ek_certificate(&ek, &[], &roots.allowing_sha1_intermediates(), now()).is_ok());
    let (roots, ek) = chain(
        &Workshop::new(),
        ("RSA:2048", &["-sha256"]),
        ("RSA:2048", &["-sha1"]),
    );
    let outcome = verify_ek_certificate(&ek, &[], &roots.allowing_sha1_intermediates(), now());
    assert_eq!(broken(outcome), (0, ChainBreak::Sha1));
}

#[test]
fn the_key_of_a_certificate_is_the_one_that_openssl_sees() {
    let workshop = Workshop::new();
    let (roots, ek) = chain(&workshop, ("EC:P-256", &["-sha256"]), ("EC:P-256", &["-sha256"]));
    let certificate = verify_ek_certificate(&ek, &[], &roots, now()).unwrap();
    workshop.run(&[
        "pkey", "-in", "ek.key", "-pubout", "-outform", "DER", "-out", "ek.spki",
    ]);
    assert_eq!(
        certificate.spki_der(),
        fs::read(workshop.path("ek.spki")).unwrap()
    );
}

/// A software TPM that swtpm's own tools gave an EK certificate, and the folder of their CA.
struct Station {
    tpm: Swtpm,
    roots: Roots,
    ek: EndorsementKey,
}

impl Station {
    fn new() -> Self {
        let mut tpm = Swtpm::start();
        tpm.kill();
        let dir = tpm.dir();
        let path = |file: &str| dir.join(file).display().to_string();
        let ca = format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            path("ca"),
            path("ca/signkey.pem"),
            path("ca/issuercert.pem"),
            path("ca/certserial")
        );
        fs::create_dir(dir.join("ca")).unwrap();
        fs::create_dir(dir.join("out")).unwrap();
        fs::write(dir.join("ca.conf"), ca).unwrap();
        fs::write(dir.join("ca.options"), "").unwrap();
        let setup = format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n\
             active_pcr_banks = sha256\n",
            path("ca.conf"),
            path("ca.options")
        );
        fs::write(dir.join("setup.conf"), setup).unwrap();
        let output = Command::new("swtpm_setup")
            .args(["--tpm2", "--overwrite", "--create-ek-cert", "--lock-nvram"])
            .args([
                "--tpmstate",
                &dir.display().to_string(),
                "--config",
                &path("setup.conf"),
            ])
            .args([
                "--write-ek-cert-files",
                &path("out"),
                "--logfile",
                &path("setup.log"),
            ])
            .args(if is_root() { &["--runas", "root"][..] } else { &[] })
            .output()
            .expect("swtpm_setup cannot run: apt-get install swtpm-tools");
        let log = fs::read_to_string(dir.join("setup.log")).unwrap_or_default();
        assert!(output.status.success(), "swtpm_setup: {output:?}\n{log}");
        tpm.revive();
        tpm.tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
        tpm.tool("tpm2_flushcontext", &["-t"]);
        // A TPM2B: two bytes of length first.
        let public = fs::read(dir.join("ek.pub")).unwrap()[2..].to_vec();
        let files: Vec<(String, Vec<u8>)> = fs::read_dir(dir.join("ca"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().ends_with("cert.pem"))
            .map(|entry| {
                (
                    entry.file_name().display().to_string(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        assert_eq!(files.len(), 2, "swtpm's root and its CA");
        let roots = Roots::read(
            files
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        );
        assert_eq!(roots.unreadable(), &[]);
        Self {
            roots,
            ek: EndorsementKey::new(&TpmPublic::try_from(public).unwrap()).unwrap(),
            tpm,
        }
    }

    /// The whole NV index.
    fn certificate(&self, index: &str) -> Vec<u8> {
        self.tpm.tool("tpm2_nvread", &[index, "-o", "nv.crt"]);
        fs::read(self.tpm.dir().join("nv.crt")).unwrap()
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

#[test]
fn a_software_tpms_certificates_chain_to_its_local_ca() {
    let station = Station::new();
    // EK Credential Profile, 2.2.1.4: where the certificates of RSA-2048 and of ECC keys are.
    let rsa = station.certificate("0x01c00002");
    let certificate = verify_ek_certificate(&rsa, &[], &station.roots, now()).unwrap();
    certificate.matches(&station.ek).unwrap();
    assert_eq!(certificate.ek_digest(), station.ek.digest());
    assert_eq!(certificate.maker().unwrap().name(), Some("swtpm, a software TPM"));
    assert_eq!(certificate.model().unwrap(), "swtpm");
    assert!(
        certificate.firmware().is_some(),
        "{:?}",
        certificate.firmware_text()
    );
    assert_eq!(
        certificate.chain_subjects()[1..],
        ["CN=swtpm-localca", "CN=swtpm-localca-rootca"]
    );

    // swtpm's ECC EK is on P-384, and it is another key than the RSA one.
    let ecc = station.certificate("0x01c00016");
    let certificate = verify_ek_certificate(&ecc, &[], &station.roots, now()).unwrap();
    let other = certificate.matches(&station.ek).unwrap_err();
    assert_eq!(
        (other.ek, other.certified),
        (station.ek.digest(), certificate.ek_digest())
    );

    // The same certificates under somebody else's local CA of the same names.
    let stranger = Station::new();
    let (depth, reason) = broken(verify_ek_certificate(&rsa, &[], &stranger.roots, now()));
    assert!(
        depth == 0 && matches!(reason, ChainBreak::Signature { .. }),
        "{reason:?}"
    );

    odd_parameters(&station);
    policies(&station, &rsa, &ecc, &stranger);
}

/// A maker's certificate for the TPM's own RSA key that names id-RSAES-OAEP, or leaves out the NULL.
fn odd_parameters(station: &Station) {
    let house = House::new();
    let bits = &station.ek.spki_der()[19..];
    let rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let oaep = [&rsa[..10], &[7, 0x30, 0]].concat();
    for algorithm in [&rsa[..], &oaep] {
        let mut draft = house.ek_draft();
        draft.spki = tlv(0x30, &[&tlv(0x30, &[algorithm]), bits]);
        draft.extensions[2] = key_usage(0x20);
        let certificate = house.judge_ek(&draft).unwrap();
        certificate.matches(&station.ek).unwrap();
        assert_eq!(certificate.ek_digest(), station.ek.digest());
        // An RSA EK decrypts by keyEncipherment alone.
        draft.extensions[2] = key_usage(KEY_AGREEMENT);
        assert_eq!(
            broken(house.judge_ek(&draft)),
            (0, ChainBreak::NotAnEk(NotAnEk::KeyUsage))
        );
    }
}

/// What an operator may choose, and what the verdict says.
fn policies(station: &Station, rsa: &[u8], ecc: &[u8], stranger: &Station) {
    let presented = |certificate| {
        Some(Presented {
            certificate,
            intermediates: &[],
        })
    };
    let chain = |rules: Vec<DenyRule>| EkTrustPolicy::Chain {
        roots: station.roots.clone(),
        deny: DenyList::new(rules),
    };
    let open = chain(vec![]);
    let trusted = open.judge(&station.ek, presented(rsa), now()).unwrap();
    assert!(matches!(trusted.basis(), TrustBasis::Chain(_)));
    assert_eq!(trusted.ek(), station.ek.digest());
    let said = trusted.to_string();
    assert!(
        said.contains("is a genuine TPM's: swtpm, a software TPM (00001014) swtpm, firmware "),
        "{said}"
    );
    assert!(said.ends_with("by CN=swtpm-localca-rootca"), "{said}");

    assert_eq!(
        open.judge(&station.ek, None, now()),
        Err(EkRefused::NoCertificate)
    );
    let refused = open.judge(&station.ek, presented(ecc), now()).unwrap_err();
    assert!(matches!(refused, EkRefused::OtherKey(_)), "{refused:?}");
    // Somebody else's good certificate does not help.
    let refused = open.judge(&stranger.ek, presented(rsa), now()).unwrap_err();
    assert!(matches!(refused, EkRefused::OtherKey(_)), "{refused:?}");
    let refused = open.judge(&station.ek, presented(b"none"), now()).unwrap_err();
    assert!(matches!(refused, EkRefused::Chain(_)), "{refused:?}");
    let rule = DenyRule::new(
        "00001014".parse().unwrap(),
        FirmwareVersion::MIN,
        FirmwareVersion::MAX,
        "software",
    );
    let refused = chain(vec![rule.unwrap()])
        .judge(&station.ek, presented(rsa), now())
        .unwrap_err();
    assert!(matches!(refused, EkRefused::Denied(_)), "{refused:?}");

    let listed = EkTrustPolicy::Allow(BTreeSet::from([station.ek.digest()]));
    let trusted = listed.judge(&station.ek, None, now()).unwrap();
    assert_eq!(trusted.basis(), &TrustBasis::Allowed);
    assert!(
        trusted
            .to_string()
            .ends_with("is on the allow-list; its maker is not checked")
    );
    let refused = listed.judge(&stranger.ek, presented(rsa), now());
    assert_eq!(refused, Err(EkRefused::NotListed(stranger.ek.digest())));

    let trusted = EkTrustPolicy::FirstUse.judge(&stranger.ek, None, now()).unwrap();
    assert_eq!(trusted.basis(), &TrustBasis::FirstUse);
    assert!(
        trusted
            .to_string()
            .contains("trusted on first use: nothing vouches for it")
    );
}
