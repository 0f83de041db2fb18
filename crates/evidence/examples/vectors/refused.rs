//! What a TPM truly said, and must be refused.

use crate::{
    Key, Station, Vectors, attested, refusal,
    station::{QUALIFYING_DATA, Said},
    vector::{Hex, Vector},
};

pub(crate) fn add(vectors: &mut Vectors, station: &Station, key: &Key) {
    statements(vectors, station, key);
    bindings(vectors, station, key);
    selections(vectors, station, key);
    values(vectors, station, key);
    strangers(vectors, station, key);
}

/// Signed by the AK, and no quote.
fn statements(vectors: &mut Vectors, station: &Station, key: &Key) {
    let good = station.quote(key, "sha256:7,11");
    let policy = good.policy("sha256", &[7, 11]);
    for (name, said, title, failure) in [
        (
            "not-a-quote-certify",
            station.certify(key),
            "the AK certifies a key",
            "not-a-quote: a certification",
        ),
        (
            "not-a-quote-creation",
            station.certify_creation(key),
            "the AK certifies the creation of a key",
            "not-a-quote: a creation statement",
        ),
        (
            "quote-type-time",
            station.time(key),
            "the AK states the time: a type that no verifier of quotes needs",
            "quote",
        ),
    ] {
        let said = Said {
            pcrs: good.pcrs.clone(),
            ..said
        };
        let verdict = refusal("invalid", &[failure]);
        vectors.insert(name, key.vector(title, &said, policy.clone(), verdict));
    }
}

/// Quotes that answer something else.
fn bindings(vectors: &mut Vectors, station: &Station, key: &Key) {
    let longer = [&QUALIFYING_DATA[..], &[0]].concat();
    let mut flipped = QUALIFYING_DATA;
    flipped[31] ^= 1;
    for (name, title, data) in [
        ("qualifying-data-none", "no nonce at all", &[][..]),
        ("qualifying-data-zero", "a nonce of zeros", &[0; 32]),
        (
            "qualifying-data-last-bit",
            "one bit of the nonce differs",
            &flipped,
        ),
        (
            "qualifying-data-shorter",
            "the nonce without its last octet",
            &QUALIFYING_DATA[..31],
        ),
        ("qualifying-data-longer", "the nonce and one octet more", &longer),
    ] {
        let said = station.quote_bound(key, "sha256:7,11", data);
        let verdict = refusal("invalid", &["qualifying-data"]);
        let policy = said.policy("sha256", &[7, 11]);
        vectors.insert(name, key.vector(title, &said, policy, verdict));
    }
}

/// Other PCRs than the policy's 7 and 11 of SHA-256, truly quoted.
fn selections(vectors: &mut Vectors, station: &Station, key: &Key) {
    let policy = station.quote(key, "sha256:7,11").policy("sha256", &[7, 11]);
    for (name, selection, title, more) in [
        ("selection-none", "sha256:none", "no PCR at all", None),
        ("selection-fewer", "sha256:7", "one PCR of two", None),
        ("selection-more", "sha256:0,7,11", "one PCR more", None),
        (
            "selection-resettable",
            "sha256:7,11,16",
            "PCR 16 besides, which any software resets",
            None,
        ),
        (
            "selection-off-by-one",
            "sha256:8,12",
            "each index one higher",
            None,
        ),
        (
            "selection-bank-sha384",
            "sha384:7,11",
            "the right PCRs of another bank",
            Some(["pcr: 7", "pcr: 11"]),
        ),
        (
            "selection-bank-sha1",
            "sha1:7,11",
            "the right PCRs of the SHA-1 bank",
            Some(["pcr: 7", "pcr: 11"]),
        ),
        (
            "selection-two-banks",
            "sha256:7,11+sha1:7",
            "the right PCRs and another bank",
            None,
        ),
        (
            "selection-split",
            "sha256:7+sha256:11",
            "the right PCRs in two selections",
            None,
        ),
    ] {
        let said = station.quote(key, selection);
        let differs = format!("selection: {selection}");
        let mut failures = vec![differs.as_str()];
        failures.extend(more.into_iter().flatten());
        let verdict = refusal("mismatch", &failures);
        vectors.insert(name, key.vector(title, &said, policy.clone(), verdict));
    }
}

/// Values that are not the policy's, or not the quoted ones.
fn values(vectors: &mut Vectors, station: &Station, key: &Key) {
    let good = station.quote(key, "sha256:7,11");
    let policy = good.policy("sha256", &[7, 11]);
    let mut add = |name, title: &str, said: &Said, class, failures: &[&str]| {
        let vector = key.vector(title, said, policy.clone(), refusal(class, failures));
        vectors.insert(name, vector);
    };
    let sent = |pcrs: Vec<u8>| Said { pcrs, ..good.clone() };
    let swapped = [&good.pcrs[32..], &good.pcrs[..32]].concat();
    let mut flipped = good.pcrs.clone();
    flipped[0] ^= 1;
    let digest = ["pcr-digest"];
    add(
        "pcr-digest-swapped",
        "the values in another order",
        &sent(swapped),
        "invalid",
        &digest,
    );
    add(
        "pcr-digest-flipped",
        "one bit of a value differs",
        &sent(flipped),
        "invalid",
        &digest,
    );
    let length = ["pcr-digest", "values-length"];
    add(
        "values-length-none",
        "no values",
        &sent(Vec::new()),
        "invalid",
        &length,
    );
    add(
        "values-length-fewer",
        "one value of two",
        &sent(good.pcrs[..32].to_vec()),
        "invalid",
        &length,
    );
    let more = [&good.pcrs[..], &[0]].concat();
    add(
        "values-length-more",
        "an octet too many",
        &sent(more),
        "invalid",
        &length,
    );
    let sha1 = station.quote(key, "sha1:7,11").pcrs;
    add(
        "values-length-other-bank",
        "the values of another bank",
        &sent(sha1),
        "invalid",
        &length,
    );

    // The kernel changes after the policy was written; then a quote that hides it behind the old values.
    station.tpm.extend(11, b"another kernel");
    let moved = station.quote(key, "sha256:7,11");
    add("pcr-one", "PCR 11 was extended", &moved, "mismatch", &["pcr: 11"]);
    let hidden = Said {
        pcrs: good.pcrs.clone(),
        ..moved.clone()
    };
    add(
        "pcr-digest-hidden",
        "PCR 11 was extended, and the old values are sent",
        &hidden,
        "invalid",
        &digest,
    );
    let mut good_now = moved.policy("sha256", &[7, 11]);
    good_now.sets[0].values.get_mut(&7).unwrap().0.fill(0);
    let verdict = refusal("mismatch", &["pcr: 7"]);
    vectors.insert(
        "pcr-zero-wanted",
        key.vector(
            "a policy of zeros is not met by a measured PCR",
            &moved,
            good_now,
            verdict,
        ),
    );
}

/// Other keys than the registered one.
fn strangers(vectors: &mut Vectors, station: &Station, key: &Key) {
    let said = station.quote(key, "sha256:7,11");
    let policy = said.policy("sha256", &[7, 11]);
    let mut add = |name, vector: Vector| vectors.insert(name, vector);
    let both = || refusal("invalid", &["forged", "signer"]);

    let sibling = station.ak("ecc", "sha256", "ecdsa", "0x81010021");
    let quoted = station.quote(&sibling, "sha256:7,11");
    let title = "another AK under the same EK quotes the same PCRs";
    add(
        "forged-sibling",
        key.vector(title, &quoted, policy.clone(), both()),
    );
    let swapped = Said {
        signature: quoted.signature,
        ..said.clone()
    };
    let title = "the registered AK's quote with a sibling's signature over the sibling's quote";
    let forged = || refusal("invalid", &["forged"]);
    add(
        "forged-signature-of-sibling",
        key.vector(title, &swapped, policy.clone(), forged()),
    );

    let elder = station.quote(key, "sha256:7,11");
    let swapped = Said {
        signature: elder.signature,
        ..said.clone()
    };
    let title = "the AK's signature over another quote";
    add(
        "forged-other-quote",
        key.vector(title, &swapped, policy.clone(), forged()),
    );

    let rsa = station.ak("rsa", "sha256", "rsassa", "0x81010022");
    let quoted = station.quote(&rsa, "sha256:7,11");
    let title = "an RSA key of the same TPM quotes";
    let verdict = refusal("invalid", &["scheme", "signer"]);
    add(
        "scheme-other-key",
        key.vector(title, &quoted, policy.clone(), verdict),
    );

    let owner = station.owner_ak("0x81010023");
    let quoted = station.quote(&owner, "sha256:7,11");
    let title =
        "the key is the registered one, but under the owner hierarchy: its quotes carry obfuscated counters";
    let signer = || refusal("invalid", &["signer"]);
    add(
        "signer-owner-hierarchy",
        owner.vector(title, &quoted, policy.clone(), signer()),
    );

    let mut elsewhere = key.vector(
        "the registered qualified name is another parent's",
        &said,
        policy.clone(),
        signer(),
    );
    elsewhere.ak.qualified_name.0[33] ^= 1;
    add("signer-other-parent", elsewhere);

    let mut worst = key.vector(
        "everything is wrong at once",
        &station.quote_bound(&sibling, "sha256:0,7,11", &[]),
        policy.clone(),
        refusal(
            "invalid",
            &[
                "forged",
                "signer",
                "qualifying-data",
                "stale: clock",
                "selection: sha256:0,7,11",
                "pcr-digest",
            ],
        ),
    );
    worst.pcrs.0[95] ^= 1;
    let mut last = said.counters();
    last.clock = u64::MAX;
    worst.last = Some(last);
    add("everything", worst);

    let mut good = key.vector(
        "the quote that the spoilt ones were made from",
        &said,
        policy,
        attested("first"),
    );
    good.qualifying_data = Hex(QUALIFYING_DATA.to_vec());
    add("accepted-plain", good);
}
