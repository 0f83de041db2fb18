//! The replay: what the PCRs would hold if the log were true, against what the TPM quoted.
//!
//! Owns: the PCRs' first values (Firmware Profile, 3.3.4 and 10.4.5.3: zeros, the locality of startup in PCR 0, ones in the PCRs of
//! a dynamic launch) and the extension `H(old || digest)`.
//! [`EventLog::prove`] is the only maker of a [`ProvenLog`], which holds the events of quoted PCRs alone.

use domain::{HashAlg, PcrIndex, PcrValue, PcrValues};

use super::{
    event::{Event, EventType},
    parse::EventLog,
};
use crate::hash;

/// What an `EV_NO_ACTION` says that gives the locality of TPM2_Startup.
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// A PCR to which the log does not replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub pcr: PcrIndex,
    /// What the log gives.
    pub replayed: PcrValue,
    /// What the TPM quoted.
    pub quoted: PcrValue,
    /// The last event up to which the log gives the quoted value, if it does so anywhere: what follows it in this PCR
    /// was never measured.
    pub true_up_to: Option<usize>,
    /// How many events of the log extend this PCR.
    pub events: usize,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pcr,
            replayed,
            quoted,
            ..
        } = self;
        write!(
            f,
            "PCR {pcr} does not replay: the log's {} events give {replayed}, the TPM quoted {quoted}",
            self.events
        )?;
        match self.true_up_to {
            Some(number) => write!(
                f,
                "; the log is true up to event {number}, what it adds for this PCR after that was not measured"
            ),
            None => f.write_str("; an event is missing, changed or made up from the start on"),
        }
    }
}

/// Why a log proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The log has no digests of the quoted bank.
    #[error("the log has no {0} digests, the quote is over that bank")]
    NoBank(HashAlg),
    /// An event extends a quoted PCR without a digest of the quoted bank.
    #[error("event {event} has no {bank} digest")]
    NoDigest {
        /// Its number.
        event: usize,
        /// The bank.
        bank: HashAlg,
    },
    /// Quoted PCRs are not what the log gives: every one of them, ascending.
    #[error("{}", sentences(.0))]
    Broken(Vec<Broken>),
}

fn sentences(broken: &[Broken]) -> String {
    let all: Vec<_> = broken.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// A log that replays to quoted PCR values.
#[derive(Debug, Clone)]
pub struct ProvenLog<'a> {
    bank: HashAlg,
    events: Vec<Event<'a>>,
}

impl<'a> ProvenLog<'a> {
    /// The quoted bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// The events that extended quoted PCRs: in each PCR these happened, in this order, and no others.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The events whose data is proven too, because it is what was measured.
    pub fn with_proven_data(&self) -> impl Iterator<Item = &Event<'a>> {
        self.events
            .iter()
            .filter(|event| event.data_is_measured(self.bank))
    }
}

impl<'a> EventLog<'a> {
    /// What one PCR holds after the whole log.
    ///
    /// # Errors
    /// The log has no digests of this bank, or an event of this PCR has none.
    pub fn replay(&self, bank: HashAlg, pcr: PcrIndex) -> Result<PcrValue, Unproven> {
        self.states(bank, pcr).map(|states| states.end)
    }

    /// Replays the log to `quoted`, the values of a quote that was checked.
    ///
    /// # Errors
    /// Digests are missing, or PCRs differ: all of them.
    pub fn prove(self, quoted: &PcrValues) -> Result<ProvenLog<'a>, Unproven> {
        let mut broken = Vec::new();
        let mut bank = None;
        let mut proven = [false; 24];
        for (pcr, value) in quoted.iter() {
            bank = Some(value.bank());
            let states = self.states(value.bank(), pcr)?;
            if let Some(room) = proven.get_mut(usize::from(pcr.get())) {
                *room = true;
            }
            if states.end != value {
                broken.push(Broken {
                    pcr,
                    replayed: states.end,
                    quoted: value,
                    true_up_to: self.true_up_to(&value, pcr),
                    events: states.events,
                });
            }
        }
        let Some(bank) = bank.filter(|_| broken.is_empty()) else {
            return Err(Unproven::Broken(broken));
        };
        let of_quoted = |event: &Event<'_>| {
            let index = usize::try_from(event.pcr).ok();
            event.is_measured() && index.and_then(|i| proven.get(i)) == Some(&true)
        };
        let events = self.events().iter().copied().filter(of_quoted).collect();
        Ok(ProvenLog { bank, events })
    }

    /// The last event of `pcr` after which it held `value`.
    pub(crate) fn true_up_to(&self, value: &PcrValue, pcr: PcrIndex) -> Option<usize> {
        let mut last = None;
        let mut state = self.first_value(value.bank(), pcr);
        for event in self.events().iter().filter(|event| extends(event, pcr)) {
            state = extend(&state, event.digests.of(value.bank())?)?;
            if state == *value {
                last = Some(event.number);
            }
        }
        last
    }

    /// What `pcr` would hold without the event of this number.
    pub(crate) fn without(&self, number: usize, bank: HashAlg, pcr: PcrIndex) -> Option<PcrValue> {
        let mut events = self.events().iter().filter(|event| extends(event, pcr));
        let first = self.first_value(bank, pcr);
        events.try_fold(first, |state, event| match event.number == number {
            true => Some(state),
            false => extend(&state, event.digests.of(bank)?),
        })
    }

    fn states(&self, bank: HashAlg, pcr: PcrIndex) -> Result<States, Unproven> {
        if !self.banks().contains(&bank) {
            return Err(Unproven::NoBank(bank));
        }
        let mut states = States {
            end: self.first_value(bank, pcr),
            events: 0,
        };
        for event in self.events().iter().filter(|event| extends(event, pcr)) {
            let digest = event.digests.of(bank);
            states.end = digest
                .and_then(|digest| extend(&states.end, digest))
                .ok_or(Unproven::NoDigest {
                    event: event.number,
                    bank,
                })?;
            states.events = states.events.saturating_add(1);
        }
        Ok(states)
    }

    /// What a PCR holds before the first event.
    pub(crate) fn first_value(&self, bank: HashAlg, pcr: PcrIndex) -> PcrValue {
        let fill = match pcr.get() {
            // The PCRs of a dynamic launch, while there was none.
            17..=22 if !self.events().iter().any(|event| extends(event, pcr)) => 0xff,
            _ => 0,
        };
        let mut bytes = [fill; 48];
        let room = bytes.get_mut(..bank.digest_len()).unwrap_or_default();
        if let (0, Some(last)) = (pcr.get(), room.last_mut()) {
            *last = self.startup_locality();
        }
        value_of(bank, room)
    }

    /// The locality of startup, 0 unless the log says otherwise before it measures into PCR 0: by an `EV_NO_ACTION` that
    /// names locality 3 or 4, or by beginning with a measurement of the hardware's root of trust, which is made in 4.
    fn startup_locality(&self) -> u8 {
        for event in self.events().iter().filter(|event| event.pcr == 0) {
            if event.is_measured() {
                return if event.kind == EventType::EFI_HCRTM_EVENT {
                    4
                } else {
                    0
                };
            }
            if let Some([locality @ (3 | 4), ..]) = event.data.strip_prefix(STARTUP_LOCALITY) {
                return *locality;
            }
        }
        0
    }
}

struct States {
    end: PcrValue,
    events: usize,
}

fn extends(event: &Event<'_>, pcr: PcrIndex) -> bool {
    event.is_measured() && event.pcr == u32::from(pcr.get())
}

/// TPM2_PCR_Extend (part 3, 22.2).
pub(crate) fn extend(old: &PcrValue, digest: &[u8]) -> Option<PcrValue> {
    let bank = old.bank();
    (digest.len() == bank.digest_len())
        .then(|| value_of(bank, hash::digest(bank, &[old.as_bytes(), digest]).as_ref()))
}

#[expect(
    clippy::expect_used,
    reason = "both callers give exactly as many bytes as the bank's digest has"
)]
fn value_of(bank: HashAlg, bytes: &[u8]) -> PcrValue {
    PcrValue::new(bank, bytes).expect("a digest of the bank")
}
