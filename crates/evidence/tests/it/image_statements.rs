//! Image statements: every reason against one, the one spelling, and stock openssl as the signer.

use std::{collections::BTreeSet, fs, process::Command};

use crate::forge::{Forge, case_of, index};
use data_encoding::{BASE64, HEXLOWER};
use domain::{HashAlg, PcrSelection, PcrValues, Sha256Digest};
use evidence::{
    Attachments, Attested, Failure, FailureClass, ImageKey, ImageStatement, Mix, PcrPolicy, PolicyError,
    Rejected, Release, SignedStatement, StatementPolicy, StatementRefused,
    statement::{KeyError, MAX_STATEMENT_LEN, StatementError},
    wire::Curve,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

const SPKI_HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

struct Builder {
    pair: EcdsaKeyPair,
    key: ImageKey,
}

impl Builder {
    fn new() -> Self {
        let rng = SystemRandom::new();
        let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).unwrap();
        let mut spki = HEXLOWER.decode(SPKI_HEAD.as_bytes()).unwrap();
        spki.extend(pair.public_key().as_ref());
        let key = ImageKey::from_spki_der(&spki).unwrap();
        Self { pair, key }
    }

    fn sign(&self, statement: &ImageStatement) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), &statement.to_be_signed());
        SignedStatement::new(statement, signature.unwrap().as_ref().to_vec(), &self.key).to_json()
    }

    /// The file of any bytes, truly signed.
    fn sign_raw(&self, bytes: &[u8]) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).unwrap();
        file(bytes, signature.as_ref(), &self.key.digest().to_string())
    }
}

fn file(statement: &[u8], signature: &[u8], key: &str) -> String {
    let (statement, signature) = (BASE64.encode(statement), BASE64.encode(signature));
    format!(r#"{{"statement":"{statement}","signature":"{signature}","key":"{key}"}}"#)
}

fn release(number: u64) -> Release {
    Release::try_from(number).unwrap()
}

/// PCRs 4, 7 and 11 of the device: 4s, 7s and bs.
fn values(pcrs: &[u64]) -> PcrValues {
    let selection = PcrSelection::new(HashAlg::Sha256, pcrs.iter().map(|i| index(*i))).unwrap();
    let fill = |pcr: &u64| match pcr {
        4 => [0x44; 32],
        7 => [0x77; 32],
        _ => [0xbb; 32],
    };
    PcrValues::new(selection, pcrs.iter().flat_map(fill).collect()).unwrap()
}

fn statement() -> ImageStatement {
    ImageStatement::of(
        "kiosk-vm".parse().unwrap(),
        release(7),
        "ready",
        &values(&[4, 11]),
    )
}

/// A statement over 4 and 11 beside an exact 7.
fn mix(key: &ImageKey) -> Mix {
    Mix {
        exact: values(&[7]).iter().collect(),
        statement: Some(StatementPolicy {
            keys: vec![key.clone()],
            profile: "kiosk-vm".parse().unwrap(),
            least_release: release(7),
            revoked: BTreeSet::new(),
            pcrs: [4, 11].map(index).into(),
        }),
        ..Mix::default()
    }
}

fn judge(mix: Mix, sent: Option<&str>) -> Result<Attested, Rejected> {
    let forge = Forge::new(Curve::P256);
    let policy = PcrPolicy::mixed(HashAlg::Sha256, mix).unwrap();
    assert!(policy.wants_image_statement() && !policy.wants_event_log());
    let case = case_of(&forge, policy, values(&[4, 7, 11]).as_bytes().to_vec());
    case.judge_with(Attachments {
        image_statement: sent.map(str::as_bytes),
        ..Attachments::default()
    })
}

fn refused(mix: Mix, sent: Option<&str>, class: FailureClass) -> Vec<StatementRefused> {
    let rejected = judge(mix, sent).unwrap_err();
    assert_eq!(rejected.class(), class, "{rejected}");
    let failures = rejected.failures().iter().map(|failure| match failure {
        Failure::Statement(refused) => refused.clone(),
        other => panic!("{other}"),
    });
    failures.collect()
}

const MISMATCH: FailureClass = FailureClass::Mismatch;
const INVALID: FailureClass = FailureClass::Invalid;

/// The vector of `docs/image-statements.md`.
#[test]
fn the_canonical_form_is_this() {
    let digest = "ae59f07d38e81b32be23c3da0e550651836da8a8a2bec0b9b04ac10156926a56";
    let expected = r#"{"bank":"sha256","digest":"DIGEST","pcrs":[4,11],"phase":"ready","profile":"kiosk-vm","release":7}"#;
    let found = String::from_utf8(statement().to_be_signed()).unwrap();
    assert_eq!(found, expected.replace("DIGEST", digest));
    assert_eq!(statement().digest().to_string(), digest);
    let docs = include_str!("../../../../docs/image-statements.md");
    assert!(docs.contains(&found), "the page shows it");
}

#[test]
fn a_good_statement_is_taken_and_its_release_told() {
    let builder = Builder::new();
    let sent = builder.sign(&statement());
    let attested = judge(mix(&builder.key), Some(&sent)).unwrap();
    assert_eq!(attested.release(), Some(release(7)));
    assert_eq!(attested.golden_set(), None);
    let older = Mix {
        statement: mix(&builder.key).statement.map(|policy| StatementPolicy {
            keys: vec![Builder::new().key, builder.key.clone()],
            least_release: release(0),
            ..policy
        }),
        ..mix(&builder.key)
    };
    assert!(
        judge(older, Some(&sent)).is_ok(),
        "two keys while a fleet changes over"
    );
}

#[test]
fn without_a_statement_nothing_is_good() {
    let key = Builder::new().key;
    assert_eq!(refused(mix(&key), None, MISMATCH), [StatementRefused::Missing]);
}

#[test]
fn a_key_that_is_not_the_fleets_is_refused() {
    let (ours, other) = (Builder::new(), Builder::new());
    let found = *other.key.digest();
    let sent = other.sign(&statement());
    assert_eq!(
        refused(mix(&ours.key), Some(&sent), INVALID),
        [StatementRefused::Key { found }]
    );
    // Another's signature under our key's name.
    let renamed = sent.replace(&found.to_string(), &ours.key.digest().to_string());
    let key = *ours.key.digest();
    assert_eq!(
        refused(mix(&ours.key), Some(&renamed), INVALID),
        [StatementRefused::Forged { key }]
    );
}

#[test]
fn what_was_signed_cannot_be_changed() {
    let builder = Builder::new();
    let json: serde_json::Value = serde_json::from_str(&builder.sign(&statement())).unwrap();
    let signature = BASE64
        .decode(json["signature"].as_str().unwrap().as_bytes())
        .unwrap();
    let newer = ImageStatement::of(
        "kiosk-vm".parse().unwrap(),
        release(8),
        "ready",
        &values(&[4, 11]),
    );
    let key = *builder.key.digest();
    let forged = file(&newer.to_be_signed(), &signature, &key.to_string());
    let expected = [StatementRefused::Forged { key }];
    assert_eq!(refused(mix(&builder.key), Some(&forged), INVALID), expected);
    for at in 0..signature.len() {
        let mut flipped = signature.clone();
        flipped[at] ^= 1;
        let forged = file(&statement().to_be_signed(), &flipped, &key.to_string());
        assert_eq!(
            refused(mix(&builder.key), Some(&forged), INVALID),
            expected,
            "byte {at}"
        );
    }
}

#[test]
fn another_profile_phase_and_release_are_all_told() {
    let builder = Builder::new();
    let other = ImageStatement::of(
        "signage".parse().unwrap(),
        release(6),
        "enter-initrd",
        &values(&[4, 11]),
    );
    let found = refused(mix(&builder.key), Some(&builder.sign(&other)), MISMATCH);
    assert_eq!(
        found,
        [
            StatementRefused::Profile {
                expected: "kiosk-vm".parse().unwrap(),
                found: "signage".parse().unwrap(),
            },
            StatementRefused::Phase {
                found: "enter-initrd".into()
            },
            StatementRefused::Release {
                least: release(7),
                found: release(6)
            },
        ]
    );
    assert_eq!(
        found[2].to_string(),
        "the image is release 6, the policy wants 7 at least"
    );
}

#[test]
fn a_revoked_digest_is_refused_in_any_release() {
    let builder = Builder::new();
    let mut mix = mix(&builder.key);
    mix.statement
        .as_mut()
        .unwrap()
        .revoked
        .insert(*statement().digest());
    let found = refused(mix, Some(&builder.sign(&statement())), MISMATCH);
    let digest = *statement().digest();
    assert_eq!(
        found,
        [StatementRefused::Revoked {
            release: release(7),
            digest
        }]
    );
}

/// Field note 7: a statement about fewer PCRs must not stand for all of them.
#[test]
fn other_pcrs_or_another_bank_are_refused() {
    let builder = Builder::new();
    let sha384 = PcrSelection::new(HashAlg::Sha384, [4, 11].map(index)).unwrap();
    let wide = PcrValues::new(sha384, vec![0x44; 96]).unwrap();
    for (about, found) in [
        (values(&[4]), "sha256:4"),
        (values(&[11]), "sha256:11"),
        (values(&[4, 7, 11]), "sha256:4,7,11"),
        (wide, "sha384:4,11"),
    ] {
        let statement = ImageStatement::of("kiosk-vm".parse().unwrap(), release(7), "ready", &about);
        assert_eq!(
            refused(mix(&builder.key), Some(&builder.sign(&statement)), MISMATCH),
            [StatementRefused::Pcrs {
                expected: "sha256:4,11".to_owned(),
                found: found.to_owned(),
            }]
        );
    }
}

#[test]
fn the_digest_is_of_the_quoted_values() {
    let builder = Builder::new();
    let selection = *values(&[4, 11]).selection();
    let other = PcrValues::new(selection, vec![0x45; 64]).unwrap();
    let other = ImageStatement::of("kiosk-vm".parse().unwrap(), release(7), "ready", &other);
    assert_eq!(
        refused(mix(&builder.key), Some(&builder.sign(&other)), MISMATCH),
        [StatementRefused::Digest {
            release: release(7),
            expected: Sha256Digest::of(&[0x45; 64]),
            found: *statement().digest(),
        }]
    );
}

#[test]
fn the_exact_values_beside_a_statement_still_hold() {
    let builder = Builder::new();
    let mut mix = mix(&builder.key);
    mix.exact = values(&[11]).iter().map(|(_, value)| (index(7), value)).collect();
    let rejected = judge(mix, Some(&builder.sign(&statement()))).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Pcr { set: None, .. }]),
        "{rejected}"
    );
}

#[test]
fn what_the_tpm_did_not_quote_makes_no_statement_true() {
    let builder = Builder::new();
    let forge = Forge::new(Curve::P256);
    let policy = PcrPolicy::mixed(HashAlg::Sha256, mix(&builder.key)).unwrap();
    let mut case = case_of(&forge, policy, values(&[4, 7, 11]).as_bytes().to_vec());
    case.digest = Some(vec![1; 32]);
    let sent = builder.sign(&statement());
    let rejected = case
        .judge_with(Attachments {
            image_statement: Some(sent.as_bytes()),
            ..Attachments::default()
        })
        .unwrap_err();
    assert_eq!(rejected.failures(), [Failure::PcrDigest]);
    // A selection that lacks PCR 4, truly quoted.
    case.digest = None;
    case.selection = evidence::wire::PcrSelections::encode_single(values(&[7, 11]).selection());
    case.pcrs = values(&[7, 11]).as_bytes().to_vec();
    let rejected = case
        .judge_with(Attachments {
            image_statement: Some(sent.as_bytes()),
            ..Attachments::default()
        })
        .unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Selection { .. }]),
        "{rejected}"
    );
}

fn unreadable(sent: &str, key: &ImageKey) -> StatementError {
    match &refused(mix(key), Some(sent), INVALID)[..] {
        [StatementRefused::Unreadable(error)] => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_is_one_object_of_three_fields() {
    let builder = Builder::new();
    let good = builder.sign(&statement());
    let json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let array = serde_json::json!([json["statement"], json["signature"], json["key"]]).to_string();
    for bad in [
        String::new(),
        "{}".to_owned(),
        array,
        good.replacen('{', r#"{"more":1,"#, 1),
        good.replacen('{', r#"{"key":"00","#, 1),
        format!("{good}{good}"),
        good.replace("\"statement\":\"", "\"statement\":\"="),
        good.strip_suffix('}').unwrap().to_owned(),
    ] {
        assert!(
            matches!(unreadable(&bad, &builder.key), StatementError::File(_)),
            "{bad}"
        );
    }
    let longest = format!("{good:MAX_STATEMENT_LEN$}");
    assert!(judge(mix(&builder.key), Some(&longest)).is_ok());
    let long = format!("{longest} ");
    assert_eq!(
        unreadable(&long, &builder.key),
        StatementError::TooLong(long.len())
    );
}

#[test]
fn only_the_canonical_spelling_is_read() {
    let builder = Builder::new();
    let good = String::from_utf8(statement().to_be_signed()).unwrap();
    assert!(judge(mix(&builder.key), Some(&builder.sign_raw(good.as_bytes()))).is_ok());
    for (from, to) in [
        (",", ", "),
        ("}", "}\n"),
        ("ready", "\\u0072eady"),
        (
            r#""phase":"ready","profile":"kiosk-vm""#,
            r#""profile":"kiosk-vm","phase":"ready""#,
        ),
        (r#""digest":"ae59"#, r#""digest":"AE59"#),
    ] {
        let sent = builder.sign_raw(good.replacen(from, to, 1).as_bytes());
        assert_ne!(good.replacen(from, to, 1), good);
        assert_eq!(
            unreadable(&sent, &builder.key),
            StatementError::NotCanonical,
            "{to}"
        );
    }
    for (from, to) in [
        (":7}", ":7,\"more\":1}"),
        (":7}", ":7,\"release\":8}"),
        (":7}", ":-7}"),
        (":7}", ":9007199254740992}"),
        (":7}", ":7.0}"),
        ("[4,11]", "[4,24]"),
        ("sha256", "sha512"),
        ("kiosk-vm", "Kiosk"),
    ] {
        let sent = builder.sign_raw(good.replacen(from, to, 1).as_bytes());
        assert!(
            matches!(unreadable(&sent, &builder.key), StatementError::Statement(_)),
            "{to}"
        );
    }
    for pcrs in ["[]", "[11,4]", "[4,4,11]"] {
        let sent = builder.sign_raw(good.replacen("[4,11]", pcrs, 1).as_bytes());
        assert_eq!(unreadable(&sent, &builder.key), StatementError::Pcrs, "{pcrs}");
    }
}

#[test]
fn image_keys_are_p256_points() {
    let good = Builder::new();
    let head = HEXLOWER.decode(SPKI_HEAD.as_bytes()).unwrap();
    let spki = [head, good.pair.public_key().as_ref().to_vec()].concat();
    assert_eq!(ImageKey::from_spki_der(&spki).unwrap(), good.key);
    assert_eq!(*good.key.digest(), Sha256Digest::of(&spki));
    let mut off_curve = spki.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(ImageKey::from_spki_der(&off_curve), Err(KeyError::Point));
    let mut compressed = spki.clone();
    compressed[26] = 2;
    let longer = [&spki[..], &[0]].concat();
    for bad in [&spki[..90], &longer, &compressed, &[][..]] {
        assert_eq!(ImageKey::from_spki_der(bad), Err(KeyError::NotP256));
    }
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let body = BASE64.encode(&spki);
    assert_eq!(ImageKey::from_pem(&pem("PUBLIC KEY", &body)).unwrap(), good.key);
    let twice = pem("PUBLIC KEY", &body).repeat(2);
    for bad in ["", &pem("CERTIFICATE", &body), &pem("PUBLIC KEY", "?"), &twice] {
        assert_eq!(ImageKey::from_pem(bad), Err(KeyError::Pem));
    }
}

#[test]
fn policies_name_a_key_and_pcrs() {
    let key = Builder::new().key;
    let error = |change: fn(&mut StatementPolicy)| {
        let mut mix = mix(&key);
        change(mix.statement.as_mut().unwrap());
        PcrPolicy::mixed(HashAlg::Sha256, mix).unwrap_err()
    };
    assert_eq!(error(|policy| policy.keys.clear()), PolicyError::NoImageKey);
    assert_eq!(error(|policy| policy.pcrs.clear()), PolicyError::Empty);
    let sixteen = index(16);
    assert_eq!(
        error(|policy| policy.pcrs = [index(16)].into()),
        PolicyError::Resettable(sixteen)
    );
    assert!(Release::try_from((1 << 53) - 1).is_ok());
    assert_eq!(
        Release::try_from(1 << 53).unwrap_err().to_string(),
        "release 9007199254740992 is above 2^53 - 1"
    );
}

/// An image builder needs openssl alone.
#[test]
fn openssl_signs_what_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(dir.path())
            .output();
        let output = output.expect("openssl (Debian package openssl) is needed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "image.key",
    ]);
    openssl(&["pkey", "-in", "image.key", "-pubout", "-out", "image.pem"]);
    fs::write(dir.path().join("statement.json"), statement().to_be_signed()).unwrap();
    openssl(&[
        "dgst",
        "-sha256",
        "-sign",
        "image.key",
        "-out",
        "signature",
        "statement.json",
    ]);
    let key = ImageKey::from_pem(&fs::read_to_string(dir.path().join("image.pem")).unwrap()).unwrap();
    let signature = fs::read(dir.path().join("signature")).unwrap();
    let sent = SignedStatement::new(&statement(), signature, &key).to_json();
    assert_eq!(judge(mix(&key), Some(&sent)).unwrap().release(), Some(release(7)));
}
