//! Event logs: what replays and what a proof covers; against stock tpm2_eventlog and a real software TPM.

use std::fs;

use crate::forge::{
    digest_of, index,
    log::{
        BANKS, IMAGE_LOAD, IPL, SEPARATOR, VARIABLE, agile, agile_with, boot, boot_quoted, header, header_of,
        quoted, sha1_event, variable,
    },
};
use domain::{HashAlg, PcrSelection, PcrValue, PcrValues};
use evidence::eventlog::{Broken, EventLog, EventType, LogFormat, Unproven};
use testkit::Swtpm;

#[test]
fn a_true_log_replays_in_every_bank() {
    let bytes = boot().concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.format(), LogFormat::CryptoAgile);
    assert_eq!(log.banks(), BANKS);
    assert_eq!(log.events().len(), 7);
    assert_eq!(log.padding(), 0);
    for bank in BANKS {
        let proven = log.clone().prove(&boot_quoted(bank)).unwrap();
        assert_eq!(proven.bank(), bank);
        assert_eq!(proven.events().len(), 6);
        let numbers: Vec<_> = proven.with_proven_data().map(|e| e.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4], "the kernel's and .linux's data are claims");
    }
}

#[test]
fn a_sha1_log_replays_too() {
    let event = |pcr, kind, data: &[u8]| sha1_event(pcr, kind, &digest_of(HashAlg::Sha1, data), data);
    let bytes = [event(7, VARIABLE, b"x"), event(7, SEPARATOR, &[0; 4])].concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(
        (log.format(), log.banks()),
        (LogFormat::Sha1, &[HashAlg::Sha1][..])
    );
    let events: [(u64, &[u8]); 2] = [(7, b"x"), (7, &[0; 4])];
    let proven = log.clone().prove(&quoted(HashAlg::Sha1, &[7], &events)).unwrap();
    assert_eq!(proven.with_proven_data().count(), 2);
    let sha256 = quoted(HashAlg::Sha256, &[7], &events);
    assert_eq!(log.prove(&sha256).unwrap_err(), Unproven::NoBank(HashAlg::Sha256));
}

#[test]
fn a_sha1_log_with_an_older_header_is_still_one() {
    let header = sha1_event(0, 3, &[0; 20], b"Spec ID Event02\0........");
    let digest = digest_of(HashAlg::Sha1, b"x");
    let bytes = [header, sha1_event(4, 0xd, &digest, b"x")].concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.format(), LogFormat::Sha1);
    log.prove(&quoted(HashAlg::Sha1, &[4], &[(4, b"x")])).unwrap();
}

fn broken(found: Result<evidence::ProvenLog<'_>, Unproven>) -> Vec<Broken> {
    match found.expect_err("this log must prove nothing") {
        Unproven::Broken(broken) => broken,
        other => panic!("{other}"),
    }
}

#[test]
fn an_added_event_is_found() {
    let mut events = boot();
    events.push(agile(7, SEPARATOR, b"later", b"later"));
    let bytes = events.concat();
    let broken = broken(
        EventLog::parse(&bytes)
            .unwrap()
            .prove(&boot_quoted(HashAlg::Sha256)),
    );
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].pcr.get(), 7);
    assert_eq!((broken[0].true_up_to, broken[0].events), (Some(3), 3));
    let text = broken[0].to_string();
    assert!(
        text.contains("PCR 7 does not replay: the log's 3 events give ")
            && text.ends_with("true up to event 3, what it adds for this PCR after that was not measured"),
        "{text}"
    );
}

#[test]
fn missing_changed_and_swapped_events_are_found() {
    let without = |at: usize| {
        let mut events = boot();
        events.remove(at);
        events.concat()
    };
    let mut changed = boot();
    changed[5] = agile(4, 0x8000_0003, b"another kernel image", IMAGE_LOAD);
    let mut swapped = boot();
    swapped.swap(2, 3);
    for (bytes, pcr) in [
        (without(2), 7),
        (without(6), 11),
        (changed.concat(), 4),
        (swapped.concat(), 7),
    ] {
        let broken = broken(
            EventLog::parse(&bytes)
                .unwrap()
                .prove(&boot_quoted(HashAlg::Sha256)),
        );
        assert_eq!((broken.len(), broken[0].pcr.get()), (1, pcr));
        assert_eq!(broken[0].true_up_to, None);
    }
    let two = broken(
        EventLog::parse(&[without(2), agile(11, IPL, b"x", b"x")].concat())
            .unwrap()
            .prove(&boot_quoted(HashAlg::Sha256)),
    );
    let pcrs: Vec<_> = two.iter().map(|b| b.pcr.get()).collect();
    assert_eq!(pcrs, [7, 11], "all that broke are told");
}

/// Field note 8: what a proof does not cover.
#[test]
fn types_data_and_unquoted_pcrs_are_claims() {
    let mut events = boot();
    // Another type for the same digest; other data for the same digest; an event of a PCR that is not quoted.
    events[3] = agile(7, IPL, &[0; 4], &[0; 4]);
    events[4] = agile(0, SEPARATOR, &[0; 4], b"a lie");
    events.push(agile(5, IPL, b"grub.cfg", b"grub.cfg"));
    events.push(agile_with(7, 3, &[], b"said, not measured"));
    let bytes = events.concat();
    let proven = EventLog::parse(&bytes)
        .unwrap()
        .prove(&boot_quoted(HashAlg::Sha256))
        .unwrap();
    assert!(proven.events().iter().all(|e| e.pcr != 5));
    assert!(proven.events().iter().all(|e| e.kind != EventType::NO_ACTION));
    let proven_data: Vec<_> = proven.with_proven_data().map(|e| e.number).collect();
    assert_eq!(proven_data, [1, 2, 3]);
}

#[test]
fn the_locality_of_startup_is_pcr_0s_first_value() {
    let locality = |value: u8| agile_with(0, 3, &[], &[&b"StartupLocality\0"[..], &[value]].concat());
    let mut first = [0; 32];
    first[31] = 3;
    let value = digest_of(
        HashAlg::Sha256,
        &[&first[..], &digest_of(HashAlg::Sha256, b"v1.0")].concat(),
    );
    let replayed = |events: &[Vec<u8>]| {
        let bytes = [&[header()], events].concat().concat();
        let log = EventLog::parse(&bytes).unwrap();
        log.replay(HashAlg::Sha256, index(0)).unwrap()
    };
    let measured = agile(0, 8, b"v1.0", b"v1.0");
    let expected = PcrValue::new(HashAlg::Sha256, &value).unwrap();
    assert_eq!(replayed(&[locality(3), measured.clone()]), expected);
    let plain = replayed(std::slice::from_ref(&measured));
    assert_ne!(plain, expected);
    // Too late, or a locality that the TPM does not have at startup.
    assert_eq!(replayed(&[measured.clone(), locality(3)]), plain);
    assert_eq!(replayed(&[locality(7), measured.clone()]), plain);
    let four = replayed(&[locality(4), measured]);
    assert_ne!(four, plain);
    let hardware = agile(0, 0x8000_0010, b"v1.0", b"HCRTM");
    assert_eq!(replayed(std::slice::from_ref(&hardware)), four);
    assert_eq!(replayed(&[locality(3), hardware]), expected);
}

#[test]
fn pcrs_of_a_dynamic_launch_begin_with_ones() {
    let bytes = [header(), agile(18, IPL, b"x", b"x")].concat();
    let log = EventLog::parse(&bytes).unwrap();
    let value = |pcr| log.replay(HashAlg::Sha256, index(pcr)).unwrap();
    assert_eq!(value(17).as_bytes(), [0xff; 32]);
    assert_eq!(value(16).as_bytes(), [0; 32]);
    assert_eq!(value(23).as_bytes(), [0; 32]);
    let quoted = quoted(HashAlg::Sha256, &[18], &[(18, b"x")]);
    assert_eq!(Some(value(18)), quoted.iter().next().map(|(_, v)| v));
}

#[test]
fn an_event_without_the_quoted_banks_digest_proves_nothing() {
    let sha1 = digest_of(HashAlg::Sha1, b"x");
    let mut events = boot();
    events.push(agile_with(7, IPL, &[(0x04, &sha1)], b"x"));
    let bytes = events.concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(
        log.prove(&boot_quoted(HashAlg::Sha256)).unwrap_err(),
        Unproven::NoDigest {
            event: 7,
            bank: HashAlg::Sha256
        }
    );
}

#[test]
fn banks_that_are_not_ours_are_passed_over() {
    let header = header_of(&[(0x0b, 32), (0x0d, 64), (0x12, 32)]);
    let sha256 = digest_of(HashAlg::Sha256, b"x");
    let event = agile_with(
        7,
        IPL,
        &[(0x0d, &[9; 64]), (0x12, &[8; 32]), (0x0b, &sha256)],
        b"x",
    );
    let bytes = [header, event].concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks(), [HashAlg::Sha256]);
    let ids: Vec<_> = log.events()[1]
        .digests
        .iter()
        .map(|(id, d)| (id, d.len()))
        .collect();
    assert_eq!(ids, [(0x0d, 64), (0x12, 32), (0x0b, 32)]);
    log.prove(&quoted(HashAlg::Sha256, &[7], &[(7, b"x")])).unwrap();
}

/// Our replay is tpm2_eventlog's, PCR by PCR, and so is the number and type of every event.
#[test]
fn stock_tpm2_eventlog_reads_the_same() {
    // Without a StartupLocality: tpm2-tools replay one only from 5.6 on.
    let bytes = boot().concat();
    let tpm = Swtpm::start();
    fs::write(tpm.dir().join("log"), &bytes).unwrap();
    let output = tpm.tool("tpm2_eventlog", &["log"]);
    let yaml = String::from_utf8(output.stdout).unwrap();

    let log = EventLog::parse(&bytes).unwrap();
    let theirs: Vec<_> = yaml
        .lines()
        .filter_map(|line| line.trim().strip_prefix("EventType: "))
        .collect();
    let ours: Vec<_> = log.events().iter().map(|e| e.kind.to_string()).collect();
    assert_eq!(ours, theirs);

    let (_, pcrs) = yaml.split_once("\npcrs:\n").unwrap();
    let mut bank = HashAlg::Sha1;
    let mut compared = 0;
    for line in pcrs.lines().map(str::trim) {
        if let Some(found) = BANKS.iter().find(|bank| line == format!("{bank}:")) {
            bank = *found;
        } else if let Some((pcr, value)) = line.split_once(": 0x") {
            let pcr = index(pcr.trim().parse().unwrap());
            assert_eq!(log.replay(bank, pcr).unwrap().to_string(), value, "{bank} {pcr}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12, "{yaml}");
}

/// The log of what was extended into a TPM replays to what that TPM says.
#[test]
fn a_real_tpm_holds_what_the_log_replays_to() {
    let tpm = Swtpm::start();
    let secure_boot = variable("SecureBoot", &[1]);
    let measured: [(u8, &[u8]); 6] = [
        (0, b"v1.0"),
        (7, &secure_boot),
        (7, &[0; 4]),
        (0, &[0; 4]),
        (4, b"the kernel image"),
        (11, b".linux"),
    ];
    for (pcr, data) in measured {
        tpm.extend(pcr, data);
    }
    tpm.tool("tpm2_pcrread", &["sha256:0,4,7,8,11,17", "-o", "pcrs"]);
    let selection = PcrSelection::new(HashAlg::Sha256, [0, 4, 7, 8, 11, 17].map(index)).unwrap();
    let quoted = PcrValues::new(selection, fs::read(tpm.dir().join("pcrs")).unwrap()).unwrap();
    let bytes = boot().concat();
    let proven = EventLog::parse(&bytes).unwrap().prove(&quoted).unwrap();
    assert_eq!(proven.events().len(), 6);
    tpm.extend(4, b"something that is in no log");
    tpm.tool("tpm2_pcrread", &["sha256:0,4,7,8,11,17", "-o", "pcrs"]);
    let quoted = PcrValues::new(selection, fs::read(tpm.dir().join("pcrs")).unwrap()).unwrap();
    let broken = broken(EventLog::parse(&bytes).unwrap().prove(&quoted));
    assert_eq!((broken.len(), broken[0].pcr.get()), (1, 4));
}
