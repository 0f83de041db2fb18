//! Event logs, whose structures have no encoder in the crate: it is here.

use domain::{HashAlg, PcrIndex};
use evidence::eventlog::{Digests, Event, EventLog, LogFormat, UefiVariable};

/// A whole log: it encodes to the same bytes, replays or says why not, and its events decode or not.
pub fn event_log(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else {
        return;
    };
    let mut out = Vec::with_capacity(data.len());
    for (number, event) in log.events().iter().enumerate() {
        assert_eq!(event.number, number);
        encode(&mut out, log.format(), event);
        let _text = event.text();
        if let Some(variable) = UefiVariable::parse(event.data) {
            assert_eq!(variable.vendor_guid().len(), 36);
        }
    }
    let (events, padding) = data.split_at(out.len());
    assert_eq!(out, events);
    assert_eq!(padding.len(), log.padding());
    for bank in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
        for pcr in 0..24 {
            let Ok(pcr) = PcrIndex::try_from(pcr) else {
                continue;
            };
            if let Ok(value) = log.replay(bank, pcr) {
                assert_eq!(value.bank(), bank);
            }
        }
    }
}

/// `TCG_PCClientPCREvent`, or `TCG_PCR_EVENT2` after the header.
fn encode(out: &mut Vec<u8>, format: LogFormat, event: &Event<'_>) {
    out.extend(event.pcr.to_le_bytes());
    out.extend(event.kind.0.to_le_bytes());
    let header = event.number == 0 || format == LogFormat::Sha1;
    assert_eq!(header, matches!(event.digests, Digests::Sha1(_)));
    if !header {
        let count = event.digests.iter().count();
        out.extend(u32::try_from(count).expect("few digests").to_le_bytes());
    }
    for (id, digest) in event.digests.iter() {
        if !header {
            out.extend(id.to_le_bytes());
        }
        out.extend(digest);
    }
    let len = u32::try_from(event.data.len()).expect("data fits a log");
    out.extend(len.to_le_bytes());
    out.extend(event.data);
}

/// `UEFI_VARIABLE_DATA`.
pub fn uefi_variable(data: &[u8]) {
    let Some(variable) = UefiVariable::parse(data) else {
        return;
    };
    let name: Vec<u16> = variable.name.encode_utf16().collect();
    let mut out = variable.vendor.to_vec();
    out.extend(u64::try_from(name.len()).expect("a length").to_le_bytes());
    out.extend(
        u64::try_from(variable.data.len())
            .expect("a length")
            .to_le_bytes(),
    );
    out.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
    out.extend(variable.data);
    assert_eq!(out, data);
}
