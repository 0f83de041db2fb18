//! Good evidence, spoilt on the way.

use evidence::wire::Signature;

use crate::{
    Key, Station, Vectors, refusal,
    station::{QUALIFYING_DATA, Said},
};

/// Offsets within a quote by an AK with a SHA-256 Name: magic 0, type 4, qualifiedSigner 6, extraData 42, clock 76.
const EXTRA_DATA: usize = 44;
const CLOCK: usize = 76;
const RESET_COUNT: usize = 84;
const SAFE: usize = 92;
const FIRMWARE: usize = 93;

pub(crate) fn add(vectors: &mut Vectors, station: &Station, key: &Key) {
    quotes(vectors, station, key);
    signatures(vectors, station, key);
    rsa_signatures(vectors);
}

fn quotes(vectors: &mut Vectors, station: &Station, key: &Key) {
    let good = station.quote(key, "sha256:7,11");
    let policy = good.policy("sha256", &[7, 11]);
    let end = good.quote.len();
    // Cut off, then overwritten at an offset.
    let mut add = |name, title: &str, failures: &[&str], spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut said = good.clone();
        spoil(&mut said.quote);
        let vector = key.vector(title, &said, policy.clone(), refusal("invalid", failures));
        vectors.insert(name, vector);
    };
    let unreadable = ["quote"];
    add("quote-empty", "no quote", &unreadable, &|q| q.clear());
    add(
        "quote-truncated",
        "the last octet is missing",
        &unreadable,
        &|q| q.truncate(end - 1),
    );
    add("quote-trailing", "an octet follows", &unreadable, &|q| q.push(0));
    add(
        "quote-tpm2b",
        "with the size of a TPM2B_ATTEST before it",
        &unreadable,
        &|q| {
            let size = u16::try_from(end).unwrap().to_be_bytes();
            q.splice(..0, size);
        },
    );
    add(
        "quote-magic",
        "the magic is not TPM_GENERATED_VALUE",
        &unreadable,
        &|q| q[0] = 0xfe,
    );
    add(
        "quote-type-unknown",
        "a type that does not exist",
        &unreadable,
        &|q| q[4..6].fill(0),
    );
    add("quote-safe", "`safe` is neither yes nor no", &unreadable, &|q| {
        q[SAFE] = 2;
    });
    add(
        "quote-oversize-name",
        "qualifiedSigner is longer than any name",
        &unreadable,
        &|q| {
            q[6..8].copy_from_slice(&67_u16.to_be_bytes());
        },
    );
    // Count of selections: magic, type, two TPM2Bs, clock info, firmware version before it.
    add(
        "quote-many-selections",
        "more selections than a TPM has banks",
        &unreadable,
        &|q| {
            q[FIRMWARE + 8..FIRMWARE + 12].fill(0xff);
        },
    );
    add(
        "quote-unknown-bank",
        "a bank of an unknown hash",
        &unreadable,
        &|q| {
            q[FIRMWARE + 12..FIRMWARE + 14].copy_from_slice(&[0, 0x27]);
        },
    );
    add(
        "forged-clock",
        "the clock is set forward after signing",
        &["forged"],
        &|q| q[CLOCK] ^= 1,
    );
    add(
        "forged-reset-count",
        "the reset count is raised after signing",
        &["forged"],
        &|q| {
            q[RESET_COUNT] ^= 1;
        },
    );
    add(
        "forged-firmware",
        "the firmware version is raised after signing",
        &["forged"],
        &|q| {
            q[FIRMWARE] ^= 1;
        },
    );
    let other = station.quote_bound(key, "sha256:7,11", &[0x5a; 32]);
    let mut rebound = other.clone();
    rebound.quote[EXTRA_DATA..EXTRA_DATA + 32].copy_from_slice(&QUALIFYING_DATA);
    let title = "another challenge's quote, the wanted qualifying data written into it";
    vectors.insert(
        "forged-qualifying-data",
        key.vector(title, &rebound, policy.clone(), refusal("invalid", &["forged"])),
    );
}

fn signatures(vectors: &mut Vectors, station: &Station, key: &Key) {
    let good = station.quote(key, "sha256:7,11");
    let policy = good.policy("sha256", &[7, 11]);
    let end = good.signature.len();
    let mut add = |name, title: &str, failure: &str, signature: Vec<u8>| {
        let said = Said {
            signature,
            ..good.clone()
        };
        let vector = key.vector(title, &said, policy.clone(), refusal("invalid", &[failure]));
        vectors.insert(name, vector);
    };
    let with = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut signature = good.signature.clone();
        spoil(&mut signature);
        signature
    };
    let unreadable = "signature";
    add("signature-empty", "no signature", unreadable, Vec::new());
    add(
        "signature-truncated",
        "the last octet is missing",
        unreadable,
        with(&|s| s.truncate(end - 1)),
    );
    add(
        "signature-trailing",
        "an octet follows",
        unreadable,
        with(&|s| s.push(0)),
    );
    let null = vec![0, 0x10];
    add(
        "signature-null",
        "TPM_ALG_NULL, the signature that is none",
        unreadable,
        null,
    );
    add(
        "signature-hmac",
        "an HMAC's algorithm",
        unreadable,
        with(&|s| s[1] = 0x05),
    );
    add(
        "signature-ecdaa",
        "an anonymous signature's algorithm",
        unreadable,
        with(&|s| s[1] = 0x1a),
    );
    add(
        "signature-hash-unknown",
        "an unknown hash",
        unreadable,
        with(&|s| s[3] = 0x27),
    );
    add(
        "scheme-hash",
        "labelled with another hash",
        "scheme",
        with(&|s| s[3] = 0x0c),
    );
    add(
        "scheme-sha1",
        "labelled with SHA-1",
        "scheme",
        with(&|s| s[3] = 0x04),
    );
    add(
        "forged-last-bit",
        "one bit of s differs",
        "forged",
        with(&|s| s[end - 1] ^= 1),
    );

    let Ok(Signature::Ecdsa { hash, r, s }) = Signature::parse(&good.signature) else {
        panic!("an ECDSA signature");
    };
    let ecdsa = |r: &[u8], s: &[u8]| Signature::Ecdsa { hash, r, s }.encode();
    add(
        "forged-zero",
        "r and s are zero (CVE-2022-21449)",
        "forged",
        ecdsa(&[0; 32], &[0; 32]),
    );
    add(
        "forged-order",
        "r and s are the order of the curve",
        "forged",
        ecdsa(&ORDER, &ORDER),
    );
    add(
        "forged-swapped",
        "r and s in each other's place",
        "forged",
        ecdsa(s, r),
    );
    let wide = [&[0], r].concat();
    add(
        "forged-wide-r",
        "r is longer than the curve",
        "forged",
        ecdsa(&wide, s),
    );
}

/// The order of P-256 (SEC 2, 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn rsa_signatures(vectors: &mut Vectors) {
    let station = Station::new("rsa");
    let key = station.ak("rsa", "sha256", "rsassa", "0x81010020");
    let good = station.quote(&key, "sha256:7,11");
    let policy = good.policy("sha256", &[7, 11]);
    let mut add = |name, title: &str, failure: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut said = good.clone();
        spoil(&mut said.signature);
        let vector = key.vector(title, &said, policy.clone(), refusal("invalid", &[failure]));
        vectors.insert(name, vector);
    };
    add(
        "scheme-rsapss",
        "an RSASSA signature labelled as RSAPSS",
        "scheme",
        &|s| s[1] = 0x16,
    );
    add("forged-rsa-zero", "the number 0", "forged", &|s| s[6..].fill(0));
    add(
        "forged-rsa-one",
        "the number 1, its own 65537th power",
        "forged",
        &|s| {
            s[6..261].fill(0);
            s[261] = 1;
        },
    );
    add(
        "forged-rsa-too-large",
        "a number greater than the modulus",
        "forged",
        &|s| s[6..].fill(0xff),
    );
    add(
        "forged-rsa-shorter",
        "the number without its last octet",
        "forged",
        &|s| {
            s.truncate(261);
            s[4..6].copy_from_slice(&255_u16.to_be_bytes());
        },
    );
}
