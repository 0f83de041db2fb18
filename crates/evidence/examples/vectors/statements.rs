//! Image statements over PCR 11, beside an exact PCR 7.

use data_encoding::HEXLOWER;
use domain::{HashAlg, PcrIndex, PcrSelection, PcrValues};
use evidence::{ImageKey, ImageStatement, Release, SignedStatement, statement::READY};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use crate::{
    Key, Station, Vectors, attested, refusal,
    vector::{Hex, Verdict, mixed::Statement},
};

/// SubjectPublicKeyInfo of a P-256 key, before the point.
const SPKI_HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// An image builder.
struct Builder {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        let (rng, signing) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).unwrap();
        let mut spki = HEXLOWER.decode(SPKI_HEAD.as_bytes()).unwrap();
        spki.extend(pair.public_key().as_ref());
        Self { pair, spki }
    }

    /// `statement` with a signature over `signed`.
    fn file(&self, statement: &ImageStatement, signed: &[u8]) -> Vec<u8> {
        let key = ImageKey::from_spki_der(&self.spki).unwrap();
        let signature = self.pair.sign(&SystemRandom::new(), signed).unwrap();
        let file = SignedStatement::new(statement, signature.as_ref().to_vec(), &key);
        file.to_json().into_bytes()
    }

    fn sign(&self, statement: &ImageStatement) -> Vec<u8> {
        self.file(statement, &statement.to_be_signed())
    }
}

fn statement(profile: &str, release: u64, phase: &str, pcrs: &[u64], values: &[u8]) -> ImageStatement {
    let indices = pcrs.iter().map(|i| PcrIndex::try_from(*i).unwrap());
    let selection = PcrSelection::new(HashAlg::Sha256, indices).unwrap();
    let values = PcrValues::new(selection, values.to_vec()).unwrap();
    let release = Release::try_from(release).unwrap();
    ImageStatement::of(profile.parse().unwrap(), release, phase, &values)
}

pub(crate) fn add(vectors: &mut Vectors, station: &Station, key: &Key) {
    let (builder, stranger) = (Builder::new(), Builder::new());
    let said = station.quote(key, "sha256:7,11");
    let image = &said.pcrs[32..];
    let good = statement("kiosk-vm", 7, READY, &[11], image);
    let mut policy = said.policy("sha256", &[7, 11]);
    policy.sets[0].values.remove(&11);
    policy.statement = Some(Statement {
        keys: vec![Hex(builder.spki.clone())],
        profile: "kiosk-vm".to_owned(),
        least_release: 7,
        revoked: vec![Hex(vec![0x11; 32])],
        pcrs: vec![11],
    });
    let mut add = |name, title: &str, file: Option<Vec<u8>>, verdict: Verdict| {
        let mut vector = key.vector(title, &said, policy.clone(), verdict);
        vector.image_statement = file.map(Hex);
        vectors.insert(name, vector);
    };
    let (invalid, mismatch) = ("invalid", "mismatch");
    let no = |class, detail: &str| refusal(class, &[&format!("statement: {detail}")]);
    let signed = |profile, release, phase| {
        let other = statement(profile, release, phase, &[11], image);
        Some(builder.sign(&other))
    };
    let accepted = attested("first");
    add(
        "accepted-statement",
        "the image is of the least release",
        Some(builder.sign(&good)),
        accepted.clone(),
    );
    let title = "the image is of a later release";
    add(
        "accepted-statement-later",
        title,
        signed("kiosk-vm", 8, READY),
        accepted,
    );
    add(
        "statement-missing",
        "no image statement was sent",
        None,
        no(mismatch, "missing"),
    );
    add(
        "statement-unreadable",
        "the file is no statement",
        Some(b"{}".to_vec()),
        no(invalid, "unreadable"),
    );
    let title = "signed by a key that is not the fleet's";
    add(
        "statement-key",
        title,
        Some(stranger.sign(&good)),
        no(invalid, "key"),
    );
    let forged = builder.file(&good, &stranger.spki);
    add(
        "statement-forged",
        "the image key signed something else",
        Some(forged),
        no(invalid, "forged"),
    );
    let title = "an image of another profile";
    add(
        "statement-profile",
        title,
        signed("kiosk-pi", 7, READY),
        no(mismatch, "profile"),
    );
    let title = "the boot was not over";
    add(
        "statement-phase",
        title,
        signed("kiosk-vm", 7, "initrd"),
        no(mismatch, "phase"),
    );
    let title = "an old release, truly signed";
    add(
        "statement-release",
        title,
        signed("kiosk-vm", 6, READY),
        no(mismatch, "release"),
    );
    let about = statement("kiosk-vm", 7, READY, &[7, 11], &said.pcrs);
    let title = "about more PCRs than the policy wants";
    add(
        "statement-pcrs",
        title,
        Some(builder.sign(&about)),
        no(mismatch, "pcrs"),
    );
    let other = statement("kiosk-vm", 7, READY, &[11], &[0x22; 32]);
    let title = "the PCR is not what the statement says";
    add(
        "statement-digest",
        title,
        Some(builder.sign(&other)),
        no(mismatch, "digest"),
    );

    policy.statement.as_mut().unwrap().revoked = vec![Hex(good.digest().as_bytes().to_vec())];
    let mut revoked = key.vector("the image was revoked", &said, policy, no(mismatch, "revoked"));
    revoked.image_statement = Some(Hex(builder.sign(&good)));
    vectors.insert("statement-revoked", revoked);
}
