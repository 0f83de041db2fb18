//! Image statements: the file, what was signed in it, and the keys.

use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use domain::Sha256Digest;
use evidence::{ImageKey, SignedStatement};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

/// A key that signs whatever it is given: only behind its signature is a statement read.
struct Signer {
    pair: EcdsaKeyPair,
    key: ImageKey,
}

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let (rng, signing) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).expect("a key");
    let key = ImageKey::from_spki_der(&spki(pair.public_key().as_ref())).expect("a key");
    Signer { pair, key }
});

/// Takes a file, what was signed, or a key: each reader looks at all of `data`.
pub fn image_statement(data: &[u8]) {
    let signer = &*SIGNER;
    if let Ok(file) = SignedStatement::parse(data) {
        let text = file.to_json();
        assert_eq!(SignedStatement::parse(text.as_bytes()).as_ref(), Ok(&file));
        assert!(
            file.verify(&signer.key).is_err(),
            "this key signs below, and nothing else"
        );
    }
    let signature = signer.pair.sign(&SystemRandom::new(), data).expect("a signature");
    let file = format!(
        r#"{{"statement":"{}","signature":"{}","key":"{}"}}"#,
        BASE64.encode(data),
        BASE64.encode(signature.as_ref()),
        signer.key.digest()
    );
    if let Ok(file) = SignedStatement::parse(file.as_bytes())
        && let Ok(statement) = file.verify(&signer.key)
    {
        assert_eq!(statement.to_be_signed(), data, "a statement has one spelling");
    }
    if let Ok(key) = ImageKey::from_spki_der(data) {
        assert_eq!(*key.digest(), Sha256Digest::of(data));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = ImageKey::from_pem(text)
    {
        assert!(text.contains("PUBLIC KEY"), "{key:?}");
    }
}

/// SubjectPublicKeyInfo of a P-256 point.
fn spki(point: &[u8]) -> Vec<u8> {
    let head = b"3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let mut out = HEXLOWER.decode(head).expect("hex");
    out.extend(point);
    out
}
