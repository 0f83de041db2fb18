//! Event logs: what is read at all. Every count and length in a log is anybody's.

use crate::forge::{
    digest_of,
    log::{
        BANKS, IPL, agile, agile_with, boot, boot_quoted, header, header_of, le, sha1_event, spec_id,
        variable,
    },
};
use domain::HashAlg;
use evidence::eventlog::{EventLog, LogError, LogFormat, MAX_LOG_LEN, UefiVariable};
use proptest::prelude::*;

fn refused(bytes: &[u8]) -> LogError {
    EventLog::parse(bytes).unwrap_err()
}

#[test]
fn padding_is_no_event_and_alone_no_log() {
    assert_eq!(refused(&[]), LogError::Empty);
    assert_eq!(refused(&[0; 64]), LogError::Empty);
    assert_eq!(refused(&[0xff; 64]), LogError::Empty);
    for fill in [0, 0xff] {
        let bytes = [boot().concat(), vec![fill; 100]].concat();
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!((log.events().len(), log.padding()), (7, 100));
    }
    let bytes = [boot().concat(), vec![1; 100]].concat();
    assert!(EventLog::parse(&bytes).is_err());
}

#[test]
fn oversize_logs_are_not_read() {
    let mut longest = header();
    longest.resize(MAX_LOG_LEN, 0);
    assert_eq!(EventLog::parse(&longest).unwrap().events().len(), 1);
    assert_eq!(
        refused(&vec![1; MAX_LOG_LEN + 1]),
        LogError::TooLong(MAX_LOG_LEN + 1)
    );
}

/// Field note 8: oversize counts and lengths.
#[test]
fn counts_and_lengths_are_checked_against_what_is_there() {
    let mut data = header();
    data.extend(le(&[7, IPL, 0, u32::MAX]));
    let cut = LogError::Truncated {
        event: 1,
        field: "event",
    };
    assert_eq!(refused(&data), cut);

    for count in [17, u32::MAX] {
        let mut data = header();
        data.extend(le(&[7, IPL, count]));
        assert!(matches!(refused(&data), LogError::Digests { event: 1, .. }));
    }
    let mut sha1 = le(&[7, IPL]);
    sha1.extend([0; 20]);
    sha1.extend(le(&[u32::MAX]));
    assert_eq!(
        refused(&sha1),
        LogError::Truncated {
            event: 0,
            field: "event"
        }
    );
}

#[test]
fn digests_are_the_headers() {
    let digest = digest_of(HashAlg::Sha256, b"x");
    let unannounced = agile_with(7, IPL, &[(0x12, &digest)], b"x");
    let twice = agile_with(7, IPL, &[(0x0b, &digest), (0x0b, &digest)], b"x");
    for (event, text) in [
        (
            unannounced,
            "event 1 has a digest that the header does not announce",
        ),
        (twice, "event 1 has two digests of one algorithm"),
    ] {
        let error = refused(&[header(), event].concat());
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn as_many_algorithms_as_may_be_are_read() {
    let pairs: Vec<_> = (0x100..0x110).map(|id| (id, 1)).collect();
    let digests: Vec<_> = pairs.iter().map(|(id, _)| (*id, &[9_u8][..])).collect();
    let bytes = [header_of(&pairs), agile_with(7, IPL, &digests, b"x")].concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.events()[1].digests.iter().collect::<Vec<_>>(), digests);
}

#[test]
fn malformed_headers_are_refused() {
    let header = |data: &[u8]| sha1_event(0, 3, &[0; 20], data);
    let good = spec_id(&[(0x0b, 32)], b"vendor");
    assert!(EventLog::parse(&header(&good)).is_ok());
    for len in 16..good.len() {
        assert_eq!(refused(&header(&good[..len])), LogError::Header("it is cut"));
    }
    let mut version_1 = good.clone();
    version_1[21] = 1;
    assert_eq!(
        refused(&header(&version_1)),
        LogError::Header("its version is not 2")
    );
    // A header that counts as an event is none: events of the first format begin with anything.
    let measured = sha1_event(0, IPL, &[0; 20], &good);
    assert_eq!(EventLog::parse(&measured).unwrap().format(), LogFormat::Sha1);
    // A confidential VM's log (CCEL): the same form, registers of the processor.
    let registers = sha1_event(1, 3, &[0; 20], &good);
    assert_eq!(refused(&registers), LogError::OtherRegisters(1));
    let pairs: Vec<_> = (0..17).map(|id| (id + 0x100, 32)).collect();
    for wrong in [
        vec![],
        pairs,
        vec![(0x0b, 20)],
        vec![(0x0b, 0)],
        vec![(0x12, 0)],
        vec![(0x12, 65)],
        vec![(0x0b, 32), (0x0b, 32)],
    ] {
        let error = refused(&header(&spec_id(&wrong, b"")));
        assert!(matches!(error, LogError::Header(_)), "{wrong:?}");
    }
}

#[test]
fn pcrs_above_23_measure_nothing() {
    let bytes = [header(), agile(24, IPL, b"x", b"x")].concat();
    assert_eq!(refused(&bytes), LogError::Pcr { event: 1, pcr: 24 });
    let bytes = [header(), agile_with(u32::MAX, 3, &[], b"platform id")].concat();
    assert_eq!(EventLog::parse(&bytes).unwrap().events()[1].pcr, u32::MAX);
}

#[test]
fn every_cut_of_a_log_is_refused_or_does_not_replay() {
    let events = boot();
    let bytes = events.concat();
    let mut ends: Vec<usize> = Vec::new();
    for event in &events {
        ends.push(ends.last().unwrap_or(&0) + event.len());
    }
    for len in 0..bytes.len() {
        match EventLog::parse(&bytes[..len]) {
            Ok(log) => {
                // A cut within an event shows; one between events leaves PCRs that do not replay. Zeros of a cut
                // field look like padding, and leave an event out as well.
                assert!(log.events().len() < events.len(), "{len}");
                assert!(log.prove(&boot_quoted(HashAlg::Sha256)).is_err(), "{len}");
            }
            Err(error) => assert!(!ends.contains(&len) || len == 0, "{len}: {error}"),
        }
    }
}

#[test]
fn variables_and_texts_are_read() {
    let bytes = variable("SecureBoot", &[1]);
    let read = UefiVariable::parse(&bytes).unwrap();
    assert_eq!((read.name.as_str(), read.data), ("SecureBoot", &[1][..]));
    assert_eq!(read.vendor_guid(), "8be4df61-93ca-11d2-aa0d-00e098032b8c");
    for len in 0..bytes.len() {
        assert_eq!(UefiVariable::parse(&bytes[..len]), None);
    }
    let mut huge = bytes.clone();
    huge[16..24].fill(0xff);
    assert_eq!(UefiVariable::parse(&huge), None);
    let tail = [&bytes[..], b"\0\xaf"].concat();
    assert_eq!(UefiVariable::parse(&tail), None);
    let (before, behind) = UefiVariable::parse_prefix(&tail).unwrap();
    assert_eq!((before, behind), (read, &b"\0\xaf"[..]));
    let mut lone_surrogate = bytes.clone();
    lone_surrogate[32..34].copy_from_slice(&[0, 0xd8]);
    assert_eq!(UefiVariable::parse(&lone_surrogate), None);

    let text = |data: &[u8]| {
        let bytes = [header(), agile(8, IPL, data, data)].concat();
        EventLog::parse(&bytes).unwrap().events()[1]
            .text()
            .map(str::to_owned)
    };
    assert_eq!(text(b"kernel_cmdline: quiet\0").unwrap(), "kernel_cmdline: quiet");
    for no_text in [&b""[..], b"\0", b"a\x1b[2J", b"\xff\xfe"] {
        assert_eq!(text(no_text), None);
    }
}

proptest! {
    /// Whatever comes is refused or read, without a panic; what is read replays or says why not.
    #[test]
    fn no_bytes_panic(
        at in 0..1000_usize,
        noise in proptest::collection::vec(any::<u8>(), 0..40),
        cut in 0..60_usize,
        sha1: bool,
    ) {
        let mut bytes = boot().concat();
        if sha1 {
            let digest = digest_of(HashAlg::Sha1, b"x");
            bytes = [sha1_event(4, IPL, &digest, b"x"), sha1_event(7, IPL, &digest, b"y")].concat();
        }
        let at = at % bytes.len();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, noise);
        if let Ok(log) = EventLog::parse(&bytes) {
            for event in log.events() {
                prop_assert!(!event.kind.to_string().is_empty());
                let _ = (event.text(), UefiVariable::parse(event.data), event.digests.iter().count());
            }
            for bank in BANKS {
                let same = log.clone().prove(&boot_quoted(bank)).map(|proven| proven.events().len());
                prop_assert!(same.is_err() || same == Ok(6));
            }
        }
    }
}
