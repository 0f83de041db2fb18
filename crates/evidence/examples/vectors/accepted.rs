//! What every verifier must accept.

use crate::{
    Key, Station, Vectors, attested, refusal,
    station::Said,
    vector::{Last, Policy, Set, Verdict},
};

const FIRST: &str = "first";

pub(crate) fn add(vectors: &mut Vectors, station: &Station, key: &Key) {
    schemes(vectors);
    banks(vectors, station, key);
    golden_sets(vectors, station, key);
    let before = station.quote(key, "sha256:7,11");
    let said = station.quote(key, "sha256:7,11");
    let policy = said.policy("sha256", &[7, 11]);
    let mut vector = key.vector(
        "the same boot goes on",
        &said,
        policy.clone(),
        attested("continued"),
    );
    vector.last = Some(before.counters());
    vectors.insert("accepted-continued", vector.clone());

    vector.title = "`safe` of either quote is recorded and decides nothing".to_owned();
    vector.last = Some(Last {
        safe: !before.counters().safe,
        ..before.counters()
    });
    vectors.insert("accepted-continued-unsafe", vector);
}

/// Every scheme, its AK under an EK of either kind.
fn schemes(vectors: &mut Vectors) {
    for (name, ek, ak, hash, scheme) in [
        ("accepted-ecdsa-p256", "ecc", "ecc", "sha256", "ecdsa"),
        ("accepted-ecdsa-p384", "rsa", "ecc384", "sha384", "ecdsa"),
        ("accepted-rsassa-2048", "rsa", "rsa", "sha256", "rsassa"),
        ("accepted-rsassa-2048-sha384", "rsa", "rsa", "sha384", "rsassa"),
        ("accepted-rsassa-3072", "ecc", "rsa3072", "sha384", "rsassa"),
        ("accepted-rsapss-2048", "rsa", "rsa", "sha256", "rsapss"),
        ("accepted-rsapss-3072", "ecc", "rsa3072", "sha256", "rsapss"),
    ] {
        let station = Station::new(ek);
        let key = station.ak(ak, hash, scheme, "0x81010020");
        let said = station.quote(&key, "sha256:7,11");
        let title = format!("{scheme} with {hash}, AK `{ak}` under an EK `{ek}`");
        let policy = said.policy("sha256", &[7, 11]);
        vectors.insert(name, key.vector(&title, &said, policy, attested(FIRST)));
    }
}

fn banks(vectors: &mut Vectors, station: &Station, key: &Key) {
    for (name, bank, title) in [
        (
            "accepted-bank-sha384",
            "sha384",
            "the bank's hash is not the scheme's: pcrDigest is by the scheme's",
        ),
        ("accepted-bank-sha1", "sha1", "SHA-1, because the policy names it"),
    ] {
        let said = station.quote(key, &format!("{bank}:7,11"));
        let policy = said.policy(bank, &[7, 11]);
        vectors.insert(name, key.vector(title, &said, policy, attested(FIRST)));
    }
    let said = station.quote(key, "sha256:0,4,7,8,11,15,22");
    let all = [0, 4, 7, 8, 11, 15, 22];
    let policy = said.policy("sha256", &all);
    let vector = key.vector(
        "PCRs in each octet of the selection",
        &said,
        policy,
        attested(FIRST),
    );
    vectors.insert("accepted-many-pcrs", vector);
}

/// Two sets overlap until second 2000.
fn golden_sets(vectors: &mut Vectors, station: &Station, key: &Key) {
    let said = station.quote(key, "sha256:7,11");
    let other = |set: &mut Set| set.values.get_mut(&11).unwrap().0.fill(0x11);
    let policy = |now: Option<u64>, ours: Option<u64>, theirs: Option<u64>| {
        let set = |name: &str, until| Set {
            name: Some(name.to_owned()),
            until,
            ..said.set(&[7, 11])
        };
        let mut next = set("2026-11", theirs);
        other(&mut next);
        Policy {
            bank: "sha256".to_owned(),
            now,
            sets: vec![next, set("2026-10", ours)],
            statement: None,
            rules: None,
        }
    };
    let ours = Verdict::Attested {
        continuity: FIRST.to_owned(),
        golden_set: Some("2026-10".to_owned()),
    };
    let mut add = |name, title: &str, policy, verdict| {
        vectors.insert(name, key.vector(title, &said, policy, verdict));
    };
    add(
        "accepted-golden-endless",
        "a golden set without an end",
        policy(None, None, None),
        ours.clone(),
    );
    add(
        "accepted-golden-last-second",
        "the last second of a golden set",
        policy(Some(1999), Some(2000), None),
        ours,
    );
    add(
        "ended",
        "the PCRs are a golden set's that ended this second",
        policy(Some(2000), Some(2000), None),
        refusal("mismatch", &["ended: 2026-10"]),
    );
    add(
        "ended-time-unknown",
        "a set with an end is never good for a verifier that was not told the time",
        policy(None, Some(2000), None),
        refusal("mismatch", &["ended: 2026-10"]),
    );
    let mut none = policy(Some(3000), Some(2000), Some(2000));
    none.sets.iter_mut().for_each(other);
    add(
        "all-ended",
        "no set is good any longer, and the PCRs are of none",
        none,
        refusal("mismatch", &["all-ended"]),
    );
    let mut near = policy(None, None, None);
    near.sets[0].values.get_mut(&7).unwrap().0.fill(0x22);
    other(&mut near.sets[1]);
    add(
        "pcr-nearest-golden-set",
        "the PCRs are of no set: one differs from the nearer, two from the other",
        near,
        refusal("mismatch", &["pcr: 11 of 2026-10"]),
    );
}

/// The TPM is restarted, then reset: continuity, and staleness the other way round.
pub(crate) fn add_boots(vectors: &mut Vectors, station: &Station, key: &Key) {
    let quote = || {
        station.tpm.extend(7, b"secure boot on");
        station.tpm.extend(11, b"kernel");
        station.quote(key, "sha256:7,11")
    };
    station.tpm.reset();
    let booted = quote();
    station.tpm.restart();
    let restarted = quote();
    station.tpm.reset();
    let reset = quote();
    let mut add = |name, title: &str, before: Last, now: &Said, verdict| {
        let mut vector = key.vector(title, now, now.policy("sha256", &[7, 11]), verdict);
        vector.last = Some(before);
        vectors.insert(name, vector);
    };
    let (first, second, third) = (booted.counters(), restarted.counters(), reset.counters());
    add(
        "accepted-resumed",
        "the TPM was restarted",
        first,
        &restarted,
        attested("resumed"),
    );
    add(
        "accepted-rebooted",
        "the TPM was reset",
        second,
        &reset,
        attested("rebooted"),
    );
    let back = Last {
        clock: u64::MAX,
        ..second
    };
    let title = "the TPM was reset; its clock may go back then";
    add(
        "accepted-rebooted-clock-back",
        title,
        back,
        &reset,
        attested("rebooted"),
    );
    let stale = |what| refusal("stale", &[what]);
    let title = "a quote from before the reset";
    add(
        "stale-reset-count",
        title,
        third,
        &restarted,
        stale("stale: reset-count"),
    );
    let title = "a quote from before the restart";
    add(
        "stale-restart-count",
        title,
        second,
        &booted,
        stale("stale: restart-count"),
    );
    let ahead = Last {
        clock: second.clock + 1,
        ..first
    };
    let title = "the clock went back across a restart: TPM2_Clear";
    add(
        "stale-clock-across-restart",
        title,
        ahead,
        &restarted,
        stale("stale: clock-across-restart"),
    );
    let title = "the same quote again";
    add("stale-clock", title, second, &restarted, stale("stale: clock"));
    let ahead = Last {
        clock: second.clock + 1,
        ..second
    };
    let title = "a quote that is older than the last one";
    add(
        "stale-clock-older",
        title,
        ahead,
        &restarted,
        stale("stale: clock"),
    );
    let last = Last {
        reset_count: u32::MAX,
        ..second
    };
    let title = "no wrap-around: the reset count went back";
    add(
        "stale-reset-count-no-wrap",
        title,
        last,
        &reset,
        stale("stale: reset-count"),
    );
}
