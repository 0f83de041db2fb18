//! Examination by hand of what RSA keys signed, all made by openssl: by every scheme, in every form of a file, with SHA-1
//! only where it is asked for.

use std::fs;

use crate::{
    forge::{AK_ATTRIBUTES, Forge, area, digest_of, rsa},
    offline::Files,
    pss::openssl,
};
use domain::{HashAlg, TpmPublic};
use evidence::{
    offline::{Examination, Key, NotAKey, NotEvidence, Outcome, Subject},
    wire::{Curve, Scheme, Signature, SignatureAlg},
};

const RSASSA: SignatureAlg = SignatureAlg::Rsassa;
const RSAPSS: SignatureAlg = SignatureAlg::Rsapss;
const REFUSED: &str = "the signature over the quote is not this key's";

struct RsaKey {
    dir: tempfile::TempDir,
    bits: u16,
    modulus: Vec<u8>,
}

impl RsaKey {
    fn new(bits: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("rsa_keygen_bits:{bits}");
        let arguments = ["genpkey", "-algorithm", "RSA", "-pkeyopt", &size, "-out", "key"];
        openssl(dir.path(), &arguments);
        let modulus = openssl(dir.path(), &["rsa", "-in", "key", "-noout", "-modulus"]);
        let modulus = String::from_utf8(modulus).unwrap();
        let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
        let modulus = data_encoding::HEXUPPER.decode(digits.as_bytes()).unwrap();
        Self { dir, bits, modulus }
    }

    fn area(&self, alg: SignatureAlg, hash: HashAlg) -> TpmPublic {
        self.area_with(alg, hash, 0)
    }

    fn area_with(&self, alg: SignatureAlg, hash: HashAlg, exponent: u32) -> TpmPublic {
        area(AK_ATTRIBUTES, rsa(alg, hash, self.bits, exponent, &self.modulus))
    }

    /// The key alone, in `PEM` or `DER`.
    fn bare(&self, form: &str) -> Vec<u8> {
        openssl(
            self.dir.path(),
            &["pkey", "-in", "key", "-pubout", "-outform", form],
        )
    }

    /// The signature as a number.
    fn sign(&self, alg: SignatureAlg, hash: HashAlg, message: &[u8]) -> Vec<u8> {
        fs::write(self.dir.path().join("message"), message).unwrap();
        let digest = format!("-{hash}");
        let mut arguments = vec!["dgst", &digest, "-sign", "key"];
        if alg == RSAPSS {
            arguments.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"]);
        }
        arguments.push("message");
        openssl(self.dir.path(), &arguments)
    }

    /// The forge's evidence by hand, with this key's signature in place of its own.
    fn files(&self, forge: &Forge, alg: SignatureAlg, hash: HashAlg) -> Files {
        let mut case = forge.case();
        case.digest = Some(digest_of(hash, &case.pcrs));
        let mut files = Files::signed(forge, case.quote(), case.pcrs);
        files.key = self.key(&self.area(alg, hash), forge);
        let number = self.sign(alg, hash, &files.quote);
        files.signature = tpmt(alg, hash, &number);
        files
    }

    fn key(&self, area: &TpmPublic, forge: &Forge) -> Key {
        let key = Key::read(area.as_bytes()).unwrap();
        key.with_qualified_name(forge.qualified_name.clone())
    }
}

fn tpmt(alg: SignatureAlg, hash: HashAlg, bytes: &[u8]) -> Vec<u8> {
    let scheme = Scheme { alg, hash };
    Signature::Rsa { scheme, bytes }.encode()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

fn passed(found: &Examination, subject: Subject) -> &str {
    let check = found.checks().iter().find(|check| check.subject == subject);
    match &check.unwrap().outcome {
        Outcome::Passed(said) => said,
        other => panic!("{subject:?}: {other:?}"),
    }
}

#[test]
fn an_rsa_quote_passes_in_every_form() {
    let forge = Forge::new(Curve::P256);
    for (bits, hash) in [(2048, HashAlg::Sha256), (3072, HashAlg::Sha384)] {
        let own = RsaKey::new(bits);
        for (alg, scheme) in [(RSASSA, "RSASSA"), (RSAPSS, "RSAPSS")] {
            let mut files = own.files(&forge, alg, hash);
            let (quote, signature) = (files.quote.clone(), files.signature.clone());
            // sigAlg, hash and size come before the number.
            let number = signature[6..].to_vec();
            for (quote, signature) in [(quote.clone(), signature), (sized(&quote), number)] {
                (files.quote, files.signature) = (quote, signature);
                files.key = own.key(&own.area(alg, hash), &forge);
                assert_eq!(files.failed(), []);
                let found = files.examine().unwrap();
                assert_eq!(
                    passed(&found, Subject::Quote),
                    "a TPM's quote over sha256:7,11; reset count 3, restart count 2, clock 5000 ms"
                );
                assert_eq!(
                    passed(&found, Subject::Signature),
                    format!("the key made the signature over the quote ({scheme} with {hash})")
                );
                files.key = Key::read(&sized(own.area(alg, hash).as_bytes())).unwrap();
                assert_eq!(files.failed(), []);
                assert!(!files.key.is_bare());
                for form in ["PEM", "DER"] {
                    files.key = Key::read(&own.bare(form)).unwrap();
                    assert!(files.key.is_bare());
                    assert_eq!(files.failed(), []);
                    assert_eq!(
                        passed(&files.examine().unwrap(), Subject::Signature),
                        format!(
                            "the key made the signature over the quote ({scheme} with {hash}, as the signature says)"
                        )
                    );
                }
            }
        }
    }
}

#[test]
fn a_signature_by_another_scheme_or_key_is_refused() {
    let forge = Forge::new(Curve::P256);
    let (own, other) = (RsaKey::new(2048), RsaKey::new(2048));
    let mut files = own.files(&forge, RSAPSS, HashAlg::Sha256);
    files.key = own.key(&own.area(RSASSA, HashAlg::Sha256), &forge);
    let reason = "the signature is RSAPSS with sha256, the key signs RSASSA with sha256";
    assert_eq!(files.failed(), [(Subject::Signature, reason.to_owned())]);

    files.key = other.key(&other.area(RSAPSS, HashAlg::Sha256), &forge);
    let reason = format!("{REFUSED} (RSAPSS with sha256)");
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
    files.key = Key::read(&other.bare("PEM")).unwrap();
    files.signature.drain(..6);
    let reason = format!("{REFUSED} (RSASSA with sha256); {REFUSED} (RSAPSS with sha256)");
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
}

#[test]
fn a_plain_signature_is_as_long_as_the_modulus() {
    let forge = Forge::new(Curve::P256);
    let own = RsaKey::new(2048);
    let mut files = own.files(&forge, RSASSA, HashAlg::Sha256);
    let number = files.signature[6..].to_vec();
    for wrong in [&number[1..], &[&[0], &number[..]].concat(), b""] {
        files.signature = wrong.to_vec();
        assert!(matches!(files.examine(), Err(NotEvidence::Signature(_))));
    }
}

#[test]
fn a_plain_signature_over_a_digest_of_no_hash_fits_nothing() {
    let forge = Forge::new(Curve::P256);
    let own = RsaKey::new(2048);
    let mut case = forge.case();
    case.digest = Some(vec![1; 33]);
    let mut files = Files::signed(&forge, case.quote(), case.pcrs);
    files.key = Key::read(&own.bare("PEM")).unwrap();
    files.signature = own.sign(RSASSA, HashAlg::Sha256, &files.quote);
    let reason = "no signature scheme fits this key and this quote".to_owned();
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
    assert!(files.examine().unwrap().quoted_values().is_empty());
}

#[test]
fn sha1_is_believed_only_where_it_is_asked_for() {
    let forge = Forge::new(Curve::P256);
    let own = RsaKey::new(2048);
    let mut files = own.files(&forge, RSASSA, HashAlg::Sha1);
    let not_asked = "RSASSA with sha1 is not accepted unless SHA-1 is asked for";
    let found = files.failed();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, Subject::Key);
    assert!(found[0].1.contains("RSA-2048 RSASSA with sha1"), "{}", found[0].1);
    assert_eq!(found[1], (Subject::Signature, not_asked.to_owned()));

    files.allow_sha1 = true;
    assert_eq!(files.failed(), []);
    assert_eq!(
        passed(&files.examine().unwrap(), Subject::Key),
        "RSA-2048 RSASSA with sha1 is accepted because SHA-1 was asked for"
    );
    // So is the key alone, whose scheme the length of the quoted digest tells.
    files.key = Key::read(&own.bare("PEM")).unwrap();
    files.signature.drain(..6);
    let refused = "RSAPSS with sha1 is not accepted unless SHA-1 is asked for";
    assert_eq!(files.failed(), []);
    files.allow_sha1 = false;
    let reason = format!("{not_asked}; {refused}");
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
}

#[test]
fn asking_for_sha1_excuses_nothing_else() {
    let forge = Forge::new(Curve::P256);
    let (own, other) = (RsaKey::new(2048), RsaKey::new(2048));
    let mut files = own.files(&forge, RSASSA, HashAlg::Sha1);
    files.allow_sha1 = true;
    let good = files.signature.clone();
    files.signature = tpmt(
        RSASSA,
        HashAlg::Sha1,
        &other.sign(RSASSA, HashAlg::Sha1, &files.quote),
    );
    let reason = format!("{REFUSED} (RSASSA with sha1)");
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
    files.signature = good;

    // 0 stands for 65537, which may be written out too; nothing else is an exponent.
    files.key = own.key(&own.area_with(RSASSA, HashAlg::Sha1, 65_537), &forge);
    assert_eq!(files.failed(), []);
    files.key = own.key(&own.area_with(RSASSA, HashAlg::Sha1, 3), &forge);
    let reason = "RSASSA with sha1 is not supported".to_owned();
    assert_eq!(files.failed(), [(Subject::Signature, reason)]);
    let mut strong = own.files(&forge, RSASSA, HashAlg::Sha256);
    strong.allow_sha1 = true;
    strong.key = own.key(&own.area_with(RSASSA, HashAlg::Sha256, 3), &forge);
    assert_eq!(strong.failed()[0].0, Subject::Key);

    let mut salted = own.files(&forge, RSAPSS, HashAlg::Sha1);
    salted.allow_sha1 = true;
    let reason = "RSAPSS with sha1 is not supported".to_owned();
    assert_eq!(salted.failed(), [(Subject::Signature, reason)]);
}

#[test]
fn small_keys_are_refused_whatever_their_hash() {
    let forge = Forge::new(Curve::P256);
    let own = RsaKey::new(1024);
    for hash in [HashAlg::Sha1, HashAlg::Sha256] {
        let mut files = own.files(&forge, RSASSA, hash);
        files.allow_sha1 = true;
        let subjects = |files: &Files| -> Vec<_> { files.failed().into_iter().map(|(s, _)| s).collect() };
        assert!(subjects(&files).contains(&Subject::Signature), "{hash}");
        files.key = Key::read(&own.bare("DER")).unwrap();
        assert_eq!(subjects(&files), [Subject::Signature], "{hash}");
    }
}

#[test]
fn a_file_holds_one_public_key() {
    let own = RsaKey::new(2048);
    let public = own.bare("PEM");
    let private = fs::read(own.dir.path().join("key")).unwrap();
    assert!(
        Key::read(&[private.clone(), public.clone()].concat())
            .unwrap()
            .is_bare()
    );
    let twice = [public.clone(), public].concat();
    for wrong in [private, twice] {
        assert_eq!(Key::read(&wrong).unwrap_err(), NotAKey::Spki);
    }
}
