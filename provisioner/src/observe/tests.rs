//! Which PCRs a plan warns about, on a real software TPM.

use std::collections::BTreeMap;

use domain::{HashAlg, PcrIndex, PcrSelection, Sha256Digest, UnixTime};
use testkit::Swtpm;

use super::{differing, uninitialised};
use crate::{
    adapters,
    plan::{Choice, Wanted, wanted},
    ports::Tpm,
};

/// 2026-12-01T00:00:00Z, the end of a golden set.
const END: u64 = 1_796_083_200;
const BEFORE: UnixTime = UnixTime::from_secs(END - 1);
const AFTER: UnixTime = UnixTime::from_secs(END);
const OTHER: &str = "abababababababababababababababababababababababababababababababab";

/// A PCR after one measurement, in hexadecimal.
fn measured(text: &str) -> String {
    let measurement = Sha256Digest::of(text.as_bytes());
    let extended = [&[0; 32][..], measurement.as_bytes()].concat();
    Sha256Digest::of(&extended).to_string()
}

/// A device of the example manifest whose policy asks for `evidence`, its TPM measured into: PCR 7 and 11.
struct Bench {
    _swtpm: Swtpm,
    tpm: Box<dyn Tpm>,
}

impl Bench {
    fn new() -> Self {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"seven");
        swtpm.extend(11, b"eleven");
        let tpm = adapters::real()
            .tpms
            .open(&swtpm.tcti().parse().unwrap())
            .unwrap();
        Self { _swtpm: swtpm, tpm }
    }

    /// The numbers of the PCRs that differ.
    fn differing(&mut self, evidence: Option<&str>, now: UnixTime) -> Vec<u8> {
        let found = differing(&mut *self.tpm, &asking(evidence), now).unwrap();
        found.into_iter().map(PcrIndex::get).collect()
    }
}

fn asking(evidence: Option<&str>) -> Wanted {
    let demo = include_str!("../../../manifests/examples/demo.toml");
    let fleet = manifest::parse("demo.toml", demo).unwrap();
    let choice = Choice {
        folder: "/fleet".into(),
        tcti: None,
        roots: BTreeMap::new(),
        policy_keys: BTreeMap::new(),
        certificates: BTreeMap::new(),
        read_from: "/fleet".into(),
        force: false,
        force_uninitialised: false,
    };
    let mut wanted = wanted(&fleet, &fleet.devices[0], &choice).unwrap().unwrap();
    wanted.evidence = evidence.map(|text| manifest::parse_evidence("policy.toml", text).unwrap());
    assert!(
        wanted
            .evidence_pcrs()
            .is_none_or(|pcrs| pcrs.bank() == HashAlg::Sha256)
    );
    wanted
}

fn golden(name: &str, until: &str, seven: &str, eleven: &str) -> String {
    format!("[golden.\"{name}\"]\n{until}\npcrs = {{ 7 = \"{seven}\", 11 = \"{eleven}\" }}\n")
}

#[test]
fn no_policy_and_no_values_differ_in_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.differing(None, BEFORE), [0; 0]);
    let rules = "[log]\nsecure-boot = true\nreplays = [0]\n";
    assert_eq!(bench.differing(Some(rules), BEFORE), [0; 0]);
}

#[test]
fn exact_values_that_are_not_there_are_named() {
    let mut bench = Bench::new();
    let (seven, eleven) = (measured("seven"), measured("eleven"));
    let exact = |seven: &str, eleven: &str| format!("pcrs = {{ 11 = \"{eleven}\", 7 = \"{seven}\" }}\n");
    assert_eq!(bench.differing(Some(&exact(&seven, &eleven)), BEFORE), [0; 0]);
    assert_eq!(bench.differing(Some(&exact(&seven, OTHER)), BEFORE), [11]);
    assert_eq!(bench.differing(Some(&exact(OTHER, &seven)), BEFORE), [7, 11]);
}

#[test]
fn the_nearest_golden_set_decides_wherever_it_stands() {
    let mut bench = Bench::new();
    let (seven, eleven) = (measured("seven"), measured("eleven"));
    let far = golden("far", "", OTHER, OTHER);
    let near = golden("near", "", &seven, OTHER);
    let good = golden("good", "", &seven, &eleven);
    assert_eq!(bench.differing(Some(&far), BEFORE), [7, 11]);
    for both in [format!("{far}{near}"), format!("{near}{far}")] {
        assert_eq!(bench.differing(Some(&both), BEFORE), [11], "{both}");
    }
    assert_eq!(
        bench.differing(Some(&format!("{far}{near}{good}")), BEFORE),
        [0; 0]
    );
    // Beside exact values, in the order of the PCRs.
    let mixed = format!(
        "pcrs = {{ 4 = \"{OTHER}\" }}\n{}",
        golden("a", "", OTHER, &eleven)
    );
    assert_eq!(bench.differing(Some(&mixed), BEFORE), [4, 7]);
}

#[test]
fn a_golden_set_that_ended_is_no_longer_near() {
    let mut bench = Bench::new();
    let (seven, eleven) = (measured("seven"), measured("eleven"));
    let until = "until = 2026-12-01T00:00:00Z";
    let old = golden("old", until, &seven, &eleven);
    let both = format!("{old}{}", golden("new", "", &seven, OTHER));
    assert_eq!(bench.differing(Some(&both), BEFORE), [0; 0]);
    assert_eq!(bench.differing(Some(&both), AFTER), [11]);
    // Where every set has ended, nothing that the device shows is good.
    assert_eq!(bench.differing(Some(&old), BEFORE), [0; 0]);
    assert_eq!(bench.differing(Some(&old), AFTER), [7, 11]);
}

/// As sealing judges them: PCR 15 closes the way behind a volume and is zero until then.
#[test]
fn the_pcr_that_closes_the_way_is_no_empty_one_beside_others() {
    let mut bench = Bench::new();
    let mut empty = |pcrs: &[u64]| {
        let mut wanted = asking(None).tpm.unwrap();
        let indices = pcrs.iter().map(|number| PcrIndex::try_from(*number).unwrap());
        wanted.seal.exact = Some(PcrSelection::new(HashAlg::Sha256, indices).unwrap());
        let device = "kiosk-bern-01".parse().unwrap();
        let found = uninitialised(&mut *bench.tpm, &device, &wanted).unwrap();
        found.into_iter().map(PcrIndex::get).collect::<Vec<_>>()
    };
    assert_eq!(empty(&[7, 15]), [0; 0]);
    assert_eq!(empty(&[15]), [15]);
    assert_eq!(empty(&[7, 9, 15]), [9, 15]);
}
