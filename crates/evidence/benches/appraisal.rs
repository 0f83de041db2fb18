//! What an appraisal costs above the signature check that it cannot do without, and what an event log costs.
//!
//! Measures the thread's processor time in turns of a few milliseconds, so that a busy machine slows both sides alike; the
//! ratio is the median over all turns. Prints one JSON object; `ci/bench evidence` makes a table of it. Without `--bench` (as `cargo test` calls
//! it) it runs each side once and prints nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for development"
)]

#[path = "../tests/it/forge/mod.rs"]
mod forge;
#[path = "../tests/it/vector/mod.rs"]
mod vector;

use std::{hint::black_box, time::Duration};

use domain::{HashAlg, PcrValues, TpmName, TpmPublic};
use evidence::{
    AttestationKey, EventLog, Evidence, Expected, appraise,
    wire::{Parameters, Public, Signature, SignatureAlg},
};
use forge::log::{SEPARATOR, VARIABLE, agile, header, quoted, variable};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use vector::Vector;

/// How long one side runs before it is the other's turn.
const TURN: Duration = Duration::from_millis(4);

fn main() {
    let turns = if std::env::args().any(|a| a == "--bench") {
        401
    } else {
        1
    };
    let schemes = [
        "accepted-ecdsa-p256",
        "accepted-rsassa-2048",
        "accepted-ecdsa-p384",
        "accepted-rsassa-3072",
    ];
    let schemes: Vec<_> = schemes.iter().map(|name| appraisal(name, turns)).collect();
    let found =
        json!({"turns": turns, "turn_ms": TURN.as_millis(), "appraisals": schemes, "log": log(turns)});
    if turns > 1 {
        println!("{found}");
    }
}

/// One vector, whole and bare.
fn appraisal(name: &str, turns: usize) -> serde_json::Value {
    let vector = vector::all().remove(name).unwrap();
    let public = TpmPublic::try_from(vector.ak.public.0.clone()).unwrap();
    let qualified = TpmName::try_from(vector.ak.qualified_name.0.clone()).unwrap();
    let ak = AttestationKey::new(&public, &qualified).unwrap();
    let policy = vector.policy.read();
    let expected = Expected {
        ak: &ak,
        qualifying_data: vector.qualifying_data.0.first_chunk().unwrap(),
        last: None,
        policy: &policy,
    };
    let evidence = Evidence {
        quote: &vector.quote.0,
        signature: &vector.signature.0,
        pcrs: &vector.pcrs.0,
    };
    let whole = || appraise(black_box(evidence), black_box(&expected)).is_ok();
    let bare = bare(&vector);
    let (bare_rate, whole_rate, ratio) = in_turns(turns, &bare, &whole);
    json!({
        "vector": name,
        "scheme": ak.scheme().to_string(),
        "bare_per_second": bare_rate,
        "whole_per_second": whole_rate,
        "ratio": ratio,
        "bare_allocations": allocations(&bare),
        "whole_allocations": allocations(&whole),
    })
}

/// `ring` alone, on a signature and a key that are already in its form.
fn bare(vector: &Vector) -> Box<dyn Fn() -> bool> {
    let message = vector.quote.0.clone();
    let public = Public::parse(&vector.ak.public.0).unwrap();
    match (public.parameters, Signature::parse(&vector.signature.0).unwrap()) {
        (Parameters::Ecc { x, y, curve, .. }, Signature::Ecdsa { hash, r, s }) => {
            let algorithm: &'static EcdsaVerificationAlgorithm = match hash {
                HashAlg::Sha384 => &ECDSA_P384_SHA384_FIXED,
                _ => &ECDSA_P256_SHA256_FIXED,
            };
            let wide = |n: &[u8]| [&vec![0; curve.coordinate_len() - n.len()], n].concat();
            let key = UnparsedPublicKey::new(algorithm, [vec![4], wide(x), wide(y)].concat());
            let signature = [wide(r), wide(s)].concat();
            Box::new(move || key.verify(black_box(&message), black_box(&signature)).is_ok())
        }
        (Parameters::Rsa { modulus, .. }, Signature::Rsa { scheme, bytes }) => {
            let parameters: &'static RsaParameters = match (scheme.alg, scheme.hash) {
                (SignatureAlg::Rsapss, _) => &RSA_PSS_2048_8192_SHA256,
                (_, HashAlg::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
                _ => &RSA_PKCS1_2048_8192_SHA256,
            };
            let (n, e) = (modulus.to_vec(), vec![1, 0, 1]);
            let key = RsaPublicKeyComponents { n, e };
            let signature = bytes.to_vec();
            Box::new(move || {
                key.verify(parameters, black_box(&message), black_box(&signature))
                    .is_ok()
            })
        }
        _ => panic!("a key and a signature of one kind"),
    }
}

/// Rates per second of both, and the median of the second's over the first's, each turn against its neighbour.
fn in_turns(turns: usize, bare: &dyn Fn() -> bool, whole: &dyn Fn() -> bool) -> (f64, f64, f64) {
    let mut rates: [Vec<f64>; 3] = Default::default();
    for turn in 0..turns {
        // Who goes first alternates too.
        let (first, second) = if turn % 2 == 0 {
            (bare, whole)
        } else {
            (whole, bare)
        };
        let (first, second) = (rate(first), rate(second));
        let (bare, whole) = if turn % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        for (list, rate) in rates.iter_mut().zip([bare, whole, whole / bare]) {
            list.push(rate);
        }
    }
    let [bare, whole, ratio] = rates.map(median);
    (bare, whole, ratio)
}

fn rate(side: &dyn Fn() -> bool) -> f64 {
    let mut count = 0;
    let began = spent();
    loop {
        for _ in 0..8 {
            assert!(side(), "accepted");
        }
        count += 8;
        let spent = spent() - began;
        if spent >= TURN {
            return f64::from(count) / spent.as_secs_f64();
        }
    }
}

/// The processor time that this thread had: what others take does not count.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn allocations(side: &dyn Fn() -> bool) -> u64 {
    let mut accepted = false;
    let counted = allocation_counter::measure(|| accepted = side());
    assert!(accepted);
    counted.count_total
}

/// A log of 70 kB as a PC with Secure Boot writes it: large key databases, then many events, in three banks.
fn log(turns: usize) -> serde_json::Value {
    let mut bytes = header();
    let mut measured: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut add = |pcr: u64, kind, data: Vec<u8>| {
        bytes.extend(agile(u32::try_from(pcr).unwrap(), kind, &data, &data));
        measured.push((pcr, data));
    };
    for (name, len) in [
        ("SecureBoot", 1),
        ("PK", 1500),
        ("KEK", 3000),
        ("db", 6000),
        ("dbx", 28_000),
    ] {
        add(7, VARIABLE, variable(name, &vec![0x5a; len]));
    }
    for pcr in 0..8 {
        add(pcr, SEPARATOR, vec![0; 4]);
    }
    for number in 0..140_u8 {
        let pcr = u64::from(number % 10);
        add(pcr, 13, vec![number; 96]);
    }
    let pcrs: Vec<u64> = (0..10).collect();
    let events: Vec<_> = measured.iter().map(|(pcr, data)| (*pcr, &data[..])).collect();
    let values: PcrValues = quoted(HashAlg::Sha256, &pcrs, &events);
    let parse = || EventLog::parse(black_box(&bytes)).is_ok();
    let whole = || {
        let log = EventLog::parse(black_box(&bytes)).unwrap();
        log.prove(black_box(&values)).is_ok()
    };
    let with_data = || {
        let log = EventLog::parse(black_box(&bytes)).unwrap();
        log.prove(&values).unwrap().with_proven_data().count() == events.len()
    };
    let (parsed, replayed, _) = in_turns(turns / 4 + 1, &parse, &whole);
    let (_, decoded, _) = in_turns(turns / 4 + 1, &parse, &with_data);
    json!({
        "bytes": bytes.len(),
        "events": events.len() + 1,
        "pcrs": pcrs.len(),
        "parsed_us": 1e6 / parsed,
        "replayed_us": 1e6 / replayed,
        "data_proven_us": 1e6 / decoded,
    })
}
