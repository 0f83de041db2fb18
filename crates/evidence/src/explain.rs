//! Why a PCR differs, in words: what it measures, and which event of a proven log is to blame.
//!
//! Owns: the words (TCG PC Client Platform Firmware Profile, 3.3.4, and what Linux boot loaders and systemd do), and the search.
//! Explains only what was refused anyway; nothing here can accept anything. A log is used for the PCRs to which it replays.

use std::{collections::BTreeSet, fmt};

use domain::{HashAlg, PcrIndex, PcrValue};

use crate::{
    eventlog::{Event, EventLog, UefiVariable},
    failure::Failure,
    policy::PcrPolicy,
    quoted::Quoted,
    rules::At,
};

/// The most events that are tried one by one, in all PCRs together: real PCRs have under 200, and the time is quadratic.
const MAX_TRIED: usize = 256;
/// The most characters of a log's text in a sentence.
const MAX_TEXT: usize = 80;

/// What a proven event log says of a PCR that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The first event that is not the golden set's.
    Changed(Named),
    /// An event without which the value would be the expected one, or the first after it was.
    Added(Named),
    /// All events are the golden set's, and then some are missing.
    Missing {
        /// How many the log has.
        have: usize,
        /// How many the golden set has.
        want: usize,
    },
}

/// An event, with what its measured data tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Which event.
    pub at: At,
    /// The name of a variable, or a text; out of measured data only.
    pub what: Option<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(what) = &self.what else {
            return fmt::Display::fmt(&self.at, f);
        };
        let escaped: String = what.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect();
        write!(f, "{} {escaped}", self.at)
    }
}

/// `event 14, EV_EFI_VARIABLE_DRIVER_CONFIG db`
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(named) => fmt::Display::fmt(named, f),
            Self::Added(named) => write!(f, "{named} was added"),
            Self::Missing { have, want } => write!(f, "{want} events were expected, only {have} happened"),
        }
    }
}

/// What it means that a PCR has another value.
#[must_use]
pub const fn meaning(pcr: PcrIndex) -> &'static str {
    match pcr.get() {
        0 => "the firmware changed",
        1 => "firmware settings or hardware changed",
        2 => "drivers on add-in cards changed",
        3 => "settings of add-in cards changed",
        4 => "the boot loader or kernel changed",
        5 => "the partition table or the boot loader's configuration changed",
        6 => "what the machine's maker measures changed",
        7 => "Secure Boot state or keys changed",
        8 => "boot loader commands or the kernel command line changed",
        9 => "files that the boot loader read, or the initrd, changed",
        10 => "files that IMA measures changed",
        11 => "the unified kernel image or the phase of the boot changed",
        12 => "the kernel command line or credentials changed",
        13 => "system extensions changed",
        14 => "shim's keys changed",
        15 => "the machine's identity or its volume keys changed",
        17..=22 => "the dynamic launch changed",
        _ => "what software measured into it changed",
    }
}

/// Adds causes to the PCRs that differ, where the log that was sent replays to them.
pub(crate) fn explain(failures: &mut [Failure], policy: &PcrPolicy, quoted: Quoted<'_>, log: Option<&[u8]>) {
    let Some(log) = log.and_then(|bytes| EventLog::parse(bytes).ok()) else {
        return;
    };
    let mut tries = MAX_TRIED;
    for failure in failures {
        if let Failure::Pcr {
            index,
            set,
            expected,
            cause,
            ..
        } = failure
        {
            let index = *index;
            let quoted = quoted.only(&BTreeSet::from([index]));
            let proven = quoted.and_then(|quoted| log.clone().prove(&quoted).ok());
            let golden = set.as_ref().and_then(|set| policy.golden_events(set, index));
            let expected = golden.map_or(Search::Value(expected), Search::Digests);
            *cause = proven.and_then(|proven| search(&log, proven.events(), index, &expected, &mut tries));
        }
    }
}

/// What was expected: a value, or all digests that give it.
enum Search<'a> {
    Value(&'a PcrValue),
    Digests(&'a [PcrValue]),
}

fn search(
    log: &EventLog<'_>,
    events: &[Event<'_>],
    index: PcrIndex,
    expected: &Search<'_>,
    tries: &mut usize,
) -> Option<Cause> {
    match expected {
        Search::Digests(golden) => first_difference(events, golden),
        Search::Value(value) => {
            let added = added_to(log, events, index, value, tries)?;
            Some(Cause::Added(named(added, value.bank())))
        }
    }
}

fn first_difference(events: &[Event<'_>], golden: &[PcrValue]) -> Option<Cause> {
    let bank = golden.first()?.bank();
    let same = |(event, golden): &(&Event<'_>, &PcrValue)| event.digests.of(bank) == Some(golden.as_bytes());
    let agree = events.iter().zip(golden).take_while(same).count();
    Some(match (events.get(agree), golden.get(agree)) {
        (Some(event), Some(_)) => Cause::Changed(named(event, bank)),
        (Some(event), None) => Cause::Added(named(event, bank)),
        (None, _) => Cause::Missing {
            have: events.len(),
            want: golden.len(),
        },
    })
}

/// The first event after the value was reached, or the one without which it would be.
fn added_to<'l, 'a>(
    log: &EventLog<'_>,
    events: &'l [Event<'a>],
    index: PcrIndex,
    value: &PcrValue,
    tries: &mut usize,
) -> Option<&'l Event<'a>> {
    let bank = value.bank();
    let reached = log.true_up_to(value, index);
    let untouched = log.first_value(bank, index) == *value;
    let is_after = |event: &&Event<'_>| reached.map_or(untouched, |number| event.number > number);
    let is_alone = |event: &&Event<'_>| log.without(event.number, bank, index) == Some(*value);
    if let Some(after) = events.iter().find(is_after) {
        return Some(after);
    }
    *tries = tries.checked_sub(events.len())?;
    events.iter().find(is_alone)
}

fn named(event: &Event<'_>, bank: HashAlg) -> Named {
    let what = event.data_is_measured(bank).then(|| {
        let variable = UefiVariable::parse(event.data).map(|variable| variable.name);
        variable.or_else(|| event.text().map(str::to_owned))
    });
    Named {
        at: event.into(),
        what: what.flatten(),
    }
}
