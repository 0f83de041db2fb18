//! A whole log: as a tree in the shape of `tpm2_eventlog`, or as a table for a person.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use domain::{HashAlg, PcrIndex};
use evidence::eventlog::{Event, EventLog, LogFormat};

use super::{
    decode::{algorithm, data, spec_id},
    node::Node,
    summary::summary,
};

/// Number, PCR, type, digests and decoded data of each event, and the replayed PCRs of each bank.
pub(crate) fn as_node(log: &EventLog<'_>) -> Node {
    let events = log.events().iter().map(|event| event_node(event, log.format()));
    let banks = log.banks().iter().map(|bank| {
        let values = replayed(log, *bank);
        let values = values.map(|(pcr, value)| (pcr.to_string(), Node::Pcr(value)));
        (bank.to_string(), Node::Map(values.collect()))
    });
    Node::map([
        ("version", Node::Number(2)),
        ("events", Node::List(events.collect())),
        ("pcrs", Node::Map(banks.collect())),
    ])
}

/// A line for each event, then the replayed PCRs.
pub(crate) fn as_table(log: &EventLog<'_>) -> String {
    let format = match log.format() {
        LogFormat::CryptoAgile => "crypto-agile",
        LogFormat::Sha1 => "SHA-1",
    };
    let banks: Vec<_> = log.banks().iter().map(ToString::to_string).collect();
    let mut out = format!(
        "{format} log, {} events, {}\n\n",
        log.events().len(),
        banks.join(", ")
    );
    out.push_str("  No  PCR  type                              what\n");
    for event in log.events() {
        let pcr = if event.is_measured() {
            event.pcr.to_string()
        } else {
            "-".to_owned()
        };
        let line = format!(
            "{:>4}  {pcr:>3}  {:<32}  {}",
            event.number,
            event.kind,
            summary(event)
        );
        let _never_fails = writeln!(out, "{}", line.trim_end());
    }
    for bank in log.banks() {
        let _never_fails = writeln!(out, "\n{bank} PCRs after it");
        for (pcr, value) in replayed(log, *bank) {
            let _never_fails = writeln!(out, "{:>4}  {value}", pcr.to_string());
        }
    }
    out.push_str(
        "\nthis is what the log says; `evidence check --event-log` tells whether a quote bears it out\n",
    );
    out
}

/// The PCRs that the log extends, with their values after it.
fn replayed<'a>(log: &'a EventLog<'_>, bank: HashAlg) -> impl Iterator<Item = (PcrIndex, String)> + use<'a> {
    let all = (0..24).filter_map(|index: u64| PcrIndex::try_from(index).ok());
    let extended = move |pcr: &PcrIndex| {
        let extends = |event: &Event<'_>| event.is_measured() && event.pcr == u32::from(pcr.get());
        log.events().iter().any(extends)
    };
    all.filter(extended)
        .filter_map(move |pcr| Some((pcr, log.replay(bank, pcr).ok()?.to_string())))
}

fn event_node(event: &Event<'_>, format: LogFormat) -> Node {
    let mut fields = vec![
        ("EventNum".to_owned(), Node::Number(number(event.number))),
        ("PCRIndex".to_owned(), Node::Number(event.pcr.into())),
        ("EventType".to_owned(), Node::Text(event.kind.to_string())),
    ];
    let digests: Vec<(u16, String)> = event
        .digests
        .iter()
        .map(|(id, digest)| (id, HEXLOWER.encode(digest)))
        .collect();
    let size = ("EventSize".to_owned(), Node::Number(number(event.data.len())));
    let header = (format == LogFormat::CryptoAgile && event.number == 0)
        .then(|| spec_id(event))
        .flatten();
    if let (Some(header), [(_, digest)]) = (header, digests.as_slice()) {
        fields.push(("Digest".to_owned(), Node::text(digest.as_str())));
        fields.push(size);
        fields.push(("SpecID".to_owned(), header));
        return Node::Map(fields);
    }
    fields.push(("DigestCount".to_owned(), Node::Number(number(digests.len()))));
    let digests = digests.into_iter().map(|(id, digest)| {
        Node::map([
            ("AlgorithmId", Node::Text(algorithm(id))),
            ("Digest", Node::Text(digest)),
        ])
    });
    fields.push(("Digests".to_owned(), Node::List(digests.collect())));
    fields.push(size);
    if let Some(data) = data(event) {
        fields.push(("Event".to_owned(), data));
    }
    Node::Map(fields)
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
