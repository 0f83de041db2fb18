//! Stock tpm2-tools on a real software TPM, appraised by us; and our credentials, activated by them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

#[path = "stock_tools/life.rs"]
mod life;

use std::{collections::BTreeMap, fs};

use domain::{CredentialSecret, HashAlg, PcrIndex, PcrValue, TpmName, TpmPublic};
use evidence::{
    AttestationKey, Attested, Continuity, Counters, EndorsementKey, Evidence, Expected, Failure,
    FailureClass, PcrPolicy, Rejected, Stale, ak_names, appraise, make_credential,
};
use testkit::Swtpm;

const QUALIFYING_DATA: [u8; 32] = [0xa5; 32];

/// A TPM with an EK and an AK under it, made by stock tools.
struct Station {
    tpm: Swtpm,
    ek: EndorsementKey,
    ak: AttestationKey,
    ak_public: TpmPublic,
    hash: String,
    scheme: String,
}

impl Station {
    /// `ek` and `ak` are tpm2-tools' key algorithms, `hash` and `scheme` the AK's.
    fn new(ek: &str, ak: &str, hash: &str, scheme: &str) -> Self {
        let tpm = Swtpm::start();
        tpm.extend(7, b"secure boot on");
        tpm.extend(11, b"kernel");
        tpm.tool("tpm2_createek", &["-G", ek, "-c", "ek.ctx", "-u", "ek.pub"]);
        tpm.tool("tpm2_flushcontext", &["-t"]);
        let create = [
            "-C", "ek.ctx", "-G", ak, "-g", hash, "-s", scheme, "-c", "ak.ctx", "-u", "ak.pub", "-n",
            "ak.name", "-q", "ak.qname",
        ];
        tpm.tool("tpm2_createak", &create);
        flush(&tpm);
        // A transient key ends with a TPM Reset, so the AK becomes persistent, as provisioning makes it.
        tpm.tool("tpm2_evictcontrol", &["-c", "ak.ctx", "0x81010020"]);
        flush(&tpm);
        let ek = EndorsementKey::new(&public(&tpm, "ek.pub")).unwrap();
        let ak_public = public(&tpm, "ak.pub");
        let (name, qualified) = ak_names(&ek, &ak_public).unwrap();
        assert_eq!(name.as_bytes(), read(&tpm, "ak.name"), "the TPM's own name");
        assert_eq!(
            qualified.as_bytes(),
            read(&tpm, "ak.qname"),
            "the TPM's own qualified name"
        );
        let ak = AttestationKey::new(&ak_public, &qualified).unwrap();
        Self {
            tpm,
            ek,
            ak,
            ak_public,
            hash: hash.to_owned(),
            scheme: scheme.to_owned(),
        }
    }

    fn quote(&self, selection: &str) -> StockQuote {
        let nonce = data_encoding::HEXLOWER.encode(&QUALIFYING_DATA);
        let quote = [
            "-c",
            "0x81010020",
            "-l",
            selection,
            "-q",
            &nonce,
            "-m",
            "q.msg",
            "-s",
            "q.sig",
            "-o",
            "q.pcrs",
            "-F",
            "values",
            "-g",
            &self.hash,
            "--scheme",
            &self.scheme,
        ];
        self.tpm.tool("tpm2_quote", &quote);
        flush(&self.tpm);
        StockQuote {
            quote: read(&self.tpm, "q.msg"),
            signature: read(&self.tpm, "q.sig"),
            pcrs: read(&self.tpm, "q.pcrs"),
        }
    }

    /// The policy that `quote`, over `indices`, meets.
    fn policy(quote: &StockQuote, bank: HashAlg, indices: &[u64]) -> PcrPolicy {
        let values = quote.pcrs.chunks_exact(bank.digest_len());
        assert_eq!(values.len(), indices.len());
        let values: BTreeMap<_, _> = indices
            .iter()
            .map(|i| PcrIndex::try_from(*i).unwrap())
            .zip(values.map(|v| PcrValue::new(bank, v).unwrap()))
            .collect();
        PcrPolicy::exact(bank, values).unwrap()
    }

    fn judge(
        &self,
        quote: &StockQuote,
        policy: &PcrPolicy,
        last: Option<&Counters>,
    ) -> Result<Attested, Rejected> {
        let evidence = Evidence {
            quote: &quote.quote,
            signature: &quote.signature,
            pcrs: &quote.pcrs,
        };
        let expected = Expected {
            ak: &self.ak,
            qualifying_data: &QUALIFYING_DATA,
            last,
            policy,
        };
        appraise(evidence, &expected)
    }
}

struct StockQuote {
    quote: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Vec<u8>,
}

/// swtpm has three slots and no resource manager.
fn flush(tpm: &Swtpm) {
    tpm.tool("tpm2_flushcontext", &["-t"]);
    tpm.tool("tpm2_flushcontext", &["-l"]);
    tpm.tool("tpm2_flushcontext", &["-s"]);
}

fn read(tpm: &Swtpm, file: &str) -> Vec<u8> {
    fs::read(tpm.dir().join(file)).unwrap()
}

/// A `TPM2B_PUBLIC` as the tools write it, without its size.
fn public(tpm: &Swtpm, file: &str) -> TpmPublic {
    let bytes = read(tpm, file);
    let (size, area) = bytes.split_first_chunk::<2>().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*size)), area.len());
    TpmPublic::try_from(area.to_vec()).unwrap()
}

fn attests(station: &Station) {
    let quote = station.quote("sha256:7,11");
    let policy = Station::policy(&quote, HashAlg::Sha256, &[7, 11]);
    let attested = station.judge(&quote, &policy, None).unwrap();
    assert_eq!(attested.ak_name(), station.ak.name());
    assert_eq!(attested.continuity(), Continuity::First);
    // Under the endorsement hierarchy these are the true ones.
    let clock = station.tpm.tool("tpm2_readclock", &[]);
    let clock = String::from_utf8(clock.stdout).unwrap();
    let field = |name: &str| {
        let line = clock.lines().find(|line| line.trim().starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(attested.counters().reset_count, field("reset_count"));
    assert_eq!(attested.counters().restart_count, field("restart_count"));

    let mut spoilt = station.quote("sha256:7,11");
    let last = spoilt.signature.len() - 1;
    spoilt.signature[last] ^= 1;
    let rejected = station.judge(&spoilt, &policy, None).unwrap_err();
    assert!(matches!(rejected.failures(), [Failure::Forged { .. }]));
}

#[test]
fn ecdsa_p256_under_a_p256_ek() {
    attests(&Station::new("ecc", "ecc", "sha256", "ecdsa"));
}

#[test]
fn ecdsa_p384_under_an_rsa_ek() {
    attests(&Station::new("rsa", "ecc384", "sha384", "ecdsa"));
}

#[test]
fn rsassa_2048_under_an_rsa_ek() {
    attests(&Station::new("rsa", "rsa", "sha256", "rsassa"));
}

#[test]
fn rsassa_3072_with_sha384_under_a_p256_ek() {
    attests(&Station::new("ecc", "rsa3072", "sha384", "rsassa"));
}

#[test]
fn rsapss_2048_under_an_rsa_ek() {
    attests(&Station::new("rsa", "rsa", "sha256", "rsapss"));
}

#[test]
fn a_moved_pcr_is_named() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let before = station.quote("sha256:7,11");
    let policy = Station::policy(&before, HashAlg::Sha256, &[7, 11]);
    station.tpm.extend(11, b"another kernel");
    let after = station.quote("sha256:7,11");
    let rejected = station.judge(&after, &policy, None).unwrap_err();
    assert_eq!(rejected.class(), FailureClass::Mismatch);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(
        rejected.to_string(),
        format!(
            "PCR 11 differs from the policy: the unified kernel image or the phase of the boot changed; expected {}, found {}",
            hex(&before.pcrs[32..]),
            hex(&after.pcrs[32..])
        )
    );
}

#[test]
fn other_banks_and_more_pcrs_are_told() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let quote = station.quote("sha256:7,11");
    let policy = Station::policy(&quote, HashAlg::Sha256, &[7, 11]);
    for (selection, text) in [
        ("sha256:7", "sha256:7"),
        ("sha256:0,7,11", "sha256:0,7,11"),
        ("sha384:7,11", "sha384:7,11"),
        ("sha1:0+sha256:7,11", "sha1:0+sha256:7,11"),
    ] {
        let rejected = station
            .judge(&station.quote(selection), &policy, None)
            .unwrap_err();
        assert!(
            rejected.to_string().contains(&format!(
                "the quote covers {text}, the policy wants exactly sha256:7,11"
            )),
            "{rejected}"
        );
        assert_eq!(rejected.class(), FailureClass::Mismatch, "{rejected}");
    }
    // The hash of the scheme is SHA-256 here, whatever the bank.
    let sha384 = station.quote("sha384:7,11");
    let policy = Station::policy(&sha384, HashAlg::Sha384, &[7, 11]);
    assert!(station.judge(&sha384, &policy, None).is_ok());
}

/// Field note 17: an AK under the owner hierarchy has another qualified name, so its quotes name another signer.
#[test]
fn an_owner_hierarchy_key_never_attests() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let tpm = &station.tpm;
    tpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc", "-c", "srk.ctx"]);
    flush(tpm);
    let create = [
        "-C",
        "srk.ctx",
        "-G",
        "ecc256:ecdsa-sha256:null",
        "-a",
        "restricted|sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth",
        "-u",
        "o.pub",
        "-r",
        "o.priv",
        "-c",
        "o.ctx",
    ];
    tpm.tool("tpm2_create", &create);
    flush(tpm);
    let nonce = data_encoding::HEXLOWER.encode(&QUALIFYING_DATA);
    let quote = [
        "-c", "o.ctx", "-l", "sha256:7", "-q", &nonce, "-m", "q.msg", "-s", "q.sig", "-o", "q.pcrs", "-F",
        "values",
    ];
    tpm.tool("tpm2_quote", &quote);
    flush(tpm);
    let quote = StockQuote {
        quote: read(tpm, "q.msg"),
        signature: read(tpm, "q.sig"),
        pcrs: read(tpm, "q.pcrs"),
    };
    // Enrolment computes the qualified name as that of a child of the EK, whatever the key's true parent.
    let public = public(tpm, "o.pub");
    let (_, qualified) = ak_names(&station.ek, &public).unwrap();
    let ak = AttestationKey::new(&public, &qualified).unwrap();
    let policy = Station::policy(&quote, HashAlg::Sha256, &[7]);
    let evidence = Evidence {
        quote: &quote.quote,
        signature: &quote.signature,
        pcrs: &quote.pcrs,
    };
    let expected = Expected {
        ak: &ak,
        qualifying_data: &QUALIFYING_DATA,
        last: None,
        policy: &policy,
    };
    let rejected = appraise(evidence, &expected).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Signer { .. }]),
        "{rejected}"
    );
}

/// Makes a credential for `name` and has the TPM activate it with its EK and AK. The secret that came out, or `None`.
fn activate(station: &Station, name: &TpmName, entropy: &[u8; 64]) -> Option<Vec<u8>> {
    let secret = CredentialSecret::copy_from(&SECRET).unwrap();
    let credential = make_credential(&station.ek, name, &secret, entropy).unwrap();
    // tpm2-tools' file: a magic, version 1, then the two structures.
    let blob = [
        &0xbadc_c0de_u32.to_be_bytes()[..],
        &1_u32.to_be_bytes(),
        &credential.id_object,
        &credential.encrypted_secret,
    ]
    .concat();
    let tpm = &station.tpm;
    fs::write(tpm.dir().join("credential"), blob).unwrap();
    let by_policy = station.ek.alg() != evidence::EkAlg::EccP384;
    if by_policy {
        let start = ["--policy-session", "-S", "session.ctx"];
        tpm.tool("tpm2_startauthsession", &start);
        tpm.tool("tpm2_policysecret", &["-S", "session.ctx", "-c", "e"]);
    }
    let auth: &[&str] = if by_policy {
        &["-P", "session:session.ctx"]
    } else {
        &[]
    };
    let output = tpm
        .command("tpm2_activatecredential")
        .args([
            "-c",
            "0x81010020",
            "-C",
            "ek.ctx",
            "-i",
            "credential",
            "-o",
            "secret",
        ])
        .args(auth)
        .output()
        .unwrap();
    flush(tpm);
    output.status.success().then(|| read(tpm, "secret"))
}

const SECRET: [u8; 32] = *b"released to this TPM's AK alone.";

fn activates(station: &Station) {
    let own = station.ak.name();
    for fill in [1, 0x5c, 0xfe] {
        assert_eq!(activate(station, own, &[fill; 64]).unwrap(), SECRET);
    }
    // The same EK, another object: the TPM refuses.
    let mut other = own.as_bytes().to_vec();
    other[10] ^= 1;
    assert_eq!(
        activate(station, &TpmName::try_from(other).unwrap(), &[1; 64]),
        None
    );
}

/// The high-range EK asks for no policy: its password is empty.
#[test]
fn the_tpm_activates_our_credential_with_its_p384_ek() {
    let station = Station::new("ecc384", "ecc", "sha256", "ecdsa");
    assert_eq!(station.ek.alg(), evidence::EkAlg::EccP384);
    activates(&station);
}

#[test]
fn the_tpm_activates_our_credential_with_its_rsa_ek() {
    activates(&Station::new("rsa", "ecc", "sha256", "ecdsa"));
}

#[test]
fn the_tpm_activates_our_credential_with_its_p256_ek() {
    activates(&Station::new("ecc", "ecc", "sha256", "ecdsa"));
}

#[test]
fn another_tpms_ek_activates_nothing() {
    for alg in ["rsa", "ecc"] {
        let station = Station::new(alg, "ecc", "sha256", "ecdsa");
        let stranger = Station::new(alg, "ecc", "sha256", "ecdsa");
        let mixed = Station {
            ek: stranger.ek,
            ..station
        };
        assert_eq!(activate(&mixed, mixed.ak.name(), &[1; 64]), None);
    }
}

/// The identity of an EK is that of its certificate's key: what openssl makes of the tool's PEM.
#[test]
fn the_ek_digest_is_over_the_same_der_as_the_tools() {
    for alg in ["rsa", "ecc"] {
        let station = Station::new(alg, "ecc", "sha256", "ecdsa");
        let tpm = &station.tpm;
        tpm.tool("tpm2_readpublic", &["-c", "ek.ctx", "-f", "der", "-o", "ek.der"]);
        flush(tpm);
        assert_eq!(station.ek.spki_der(), read(tpm, "ek.der"), "{alg}");
        assert_eq!(station.ek.public(), &public(tpm, "ek.pub"));
    }
}

#[test]
fn an_ek_of_another_template_is_refused() {
    let tpm = Swtpm::start();
    let create = [
        "-C",
        "e",
        "-G",
        "ecc256:aes128cfb",
        "-c",
        "p.ctx",
        "-a",
        "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth",
    ];
    tpm.tool("tpm2_createprimary", &create);
    flush(&tpm);
    tpm.tool("tpm2_readpublic", &["-c", "p.ctx", "-f", "tss", "-o", "p.pub"]);
    assert!(EndorsementKey::new(&public(&tpm, "p.pub")).is_err());
    flush(&tpm);
    // And the key that tpm2_createak leaves is a good AK, while the primary is none.
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    assert!(EndorsementKey::new(&station.ak_public).is_err());
    let ek = station.ek.public();
    assert!(AttestationKey::new(ek, station.ek.name()).is_err());
}
