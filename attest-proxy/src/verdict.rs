//! The verdict on refused evidence, for the operator: every failed check as data beside its sentence, and the alert when a
//! TPM's counters go back.
//!
//! Owns: the names and fields of the data; the names are those of the vectors' README in `crates/evidence/vectors`.
//! Pure. What an attacker says in a log or a statement is in it as JSON text, in the sentences escaped and cut.
//! Nothing of it ever reaches a client: `respond` is not given it.

use evidence::{
    Counters, Failure, FailureClass, LogRefused, Rejected, RuleBroken, Stale, StatementRefused, wire::Attest,
};
use serde_json::{Map, Value, json};

/// Why evidence was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// One object for each failed check, in the order of the checks: `check`, `says`, and what the check has of data.
    pub failed: Vec<Value>,
    /// Genuine evidence whose counters do not follow the last ones. An alert: quotes came in another order, or a
    /// virtual TPM was rolled back.
    pub stale: Option<Comparison>,
}

/// Counters that do not follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Of the quote that was accepted last.
    pub last: Counters,
    /// Of the quote that was refused.
    pub now: Counters,
}

impl Verdict {
    /// Of a quote that was judged by `last`.
    #[must_use]
    pub fn new(rejected: &Rejected, quote: &[u8], last: Option<Counters>) -> Self {
        let now = Attest::parse(quote)
            .ok()
            .map(|attest| Counters::from(attest.clock));
        // Of a quote that is not genuine the counters say nothing.
        let genuine = rejected.class() == FailureClass::Stale;
        let stale = last.zip(now).filter(|_| genuine);
        Self {
            failed: rejected.failures().iter().map(data).collect(),
            stale: stale.map(|(last, now)| Comparison { last, now }),
        }
    }

    /// The failed checks as a JSON array.
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Array(self.failed.clone()).to_string()
    }
}

/// Whether the policy wants something beside the quote that was not sent.
#[must_use]
pub fn lacks_attachment(rejected: &Rejected) -> bool {
    rejected.failures().iter().any(|failure| {
        matches!(
            failure,
            Failure::EventLog(LogRefused::Missing) | Failure::Statement(StatementRefused::Missing)
        )
    })
}

fn data(failure: &Failure) -> Value {
    let (check, more) = named(failure);
    let mut object = Map::new();
    object.insert("check".to_owned(), json!(check));
    if let Value::Object(more) = more {
        object.extend(more);
    }
    object.insert("says".to_owned(), json!(failure.to_string()));
    Value::Object(object)
}

fn named(failure: &Failure) -> (&'static str, Value) {
    match failure {
        Failure::Quote(_) => ("quote", Value::Null),
        Failure::NotAQuote { found } => ("not-a-quote", json!({ "found": found })),
        Failure::Signature(_) => ("signature", Value::Null),
        Failure::Scheme { expected, found } => (
            "scheme",
            json!({ "expected": expected.to_string(), "found": found.to_string() }),
        ),
        Failure::Forged { .. } => ("forged", Value::Null),
        Failure::Signer { .. } => ("signer", Value::Null),
        Failure::QualifyingData { .. } => ("qualifying-data", Value::Null),
        Failure::Stale(stale) => ("stale", of_stale(stale)),
        Failure::Selection { expected, found } => (
            "selection",
            json!({ "expected": expected.to_string(), "found": found }),
        ),
        Failure::ValuesLength { expected, found, .. } => {
            ("values-length", json!({ "expected": expected, "found": found }))
        }
        Failure::PcrDigest => ("pcr-digest", Value::Null),
        Failure::Ended { set, until } => (
            "ended",
            json!({ "set": set.to_string(), "until": until.to_string() }),
        ),
        Failure::AllEnded => ("all-ended", Value::Null),
        Failure::Pcr {
            index,
            set,
            expected,
            found,
            ..
        } => (
            "pcr",
            json!({
                "pcr": index.get(),
                "set": set.as_ref().map(ToString::to_string),
                "expected": expected.to_string(),
                "found": found.to_string(),
            }),
        ),
        Failure::Statement(refused) => ("statement", of_statement(refused)),
        Failure::EventLog(refused) => ("event-log", json!({ "reason": of_log(refused) })),
        Failure::Rule(broken) => ("rule", of_rule(broken)),
    }
}

fn of_stale(stale: &Stale) -> Value {
    let (reason, last, now) = match *stale {
        Stale::ResetCount { last, now } => ("reset-count", last.into(), now.into()),
        Stale::RestartCount { last, now } => ("restart-count", last.into(), now.into()),
        Stale::ClockAcrossRestart { last, now } => ("clock-across-restart", last, now),
        Stale::Clock { last, now } => ("clock", last, now),
    };
    let (last, now): (u64, u64) = (last, now);
    json!({ "reason": reason, "last": last, "now": now })
}

fn of_statement(refused: &StatementRefused) -> Value {
    match refused {
        StatementRefused::Missing => json!({ "reason": "missing" }),
        StatementRefused::Unreadable(_) => json!({ "reason": "unreadable" }),
        StatementRefused::Key { found } => json!({ "reason": "key", "found": found.to_string() }),
        StatementRefused::Forged { key } => json!({ "reason": "forged", "key": key.to_string() }),
        StatementRefused::Profile { expected, found } => {
            json!({ "reason": "profile", "expected": expected.to_string(), "found": found.to_string() })
        }
        StatementRefused::Phase { found } => json!({ "reason": "phase", "found": found }),
        StatementRefused::Release { least, found } => {
            json!({ "reason": "release", "least": u64::from(*least), "found": u64::from(*found) })
        }
        StatementRefused::Revoked { release, digest } => {
            json!({ "reason": "revoked", "release": u64::from(*release), "digest": digest.to_string() })
        }
        StatementRefused::Pcrs { expected, found } => {
            json!({ "reason": "pcrs", "expected": expected, "found": found })
        }
        StatementRefused::Digest {
            release,
            expected,
            found,
        } => json!({
            "reason": "digest",
            "release": u64::from(*release),
            "expected": expected.to_string(),
            "found": found.to_string(),
        }),
    }
}

const fn of_log(refused: &LogRefused) -> &'static str {
    match refused {
        LogRefused::Missing => "missing",
        LogRefused::Unreadable(_) => "unreadable",
        LogRefused::Unproven(_) => "unproven",
    }
}

fn of_rule(broken: &RuleBroken) -> Value {
    let (reason, at) = match broken {
        RuleBroken::Hidden { at, .. } => ("hidden", Some(at)),
        RuleBroken::NoSeparator => ("no-separator", None),
        RuleBroken::SecureBootUnknown => ("secure-boot-unknown", None),
        RuleBroken::SecureBootOff { at } => ("secure-boot-off", Some(at)),
        RuleBroken::DebugMode { at } => ("debug-mode", Some(at)),
        RuleBroken::ShimOff { at, .. } => ("shim-off", Some(at)),
        RuleBroken::KeysUnknown { .. } => ("keys-unknown", None),
        RuleBroken::Keys { at, .. } => ("keys", Some(at)),
        RuleBroken::AuthorityUnknown => ("authority-unknown", None),
        RuleBroken::Authority { at, .. } => ("authority", Some(at)),
        RuleBroken::CommandLineUnknown => ("command-line-unknown", None),
        RuleBroken::CommandLine { at, .. } => ("command-line", Some(at)),
        RuleBroken::DebugShell { at, .. } => ("debug-shell", Some(at)),
    };
    json!({ "reason": reason, "event": at.map(|at| at.number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(reset_count: u32) -> Counters {
        Counters {
            reset_count,
            restart_count: 0,
            clock: 1,
            safe: true,
        }
    }

    #[test]
    fn each_check_is_data_and_a_sentence() {
        let until = domain::UnixTime::from_secs(1_796_083_200);
        let set: evidence::SetName = "2026-09".parse().unwrap();
        let value = data(&Failure::Ended { set, until });
        assert_eq!(
            value,
            json!({
                "check": "ended",
                "set": "2026-09",
                "until": "2026-12-01T00:00:00Z",
                "says": "the PCRs are those of golden set `2026-09`, which ended at 2026-12-01T00:00:00Z",
            })
        );
        let broken = RuleBroken::SecureBootUnknown;
        let value = data(&Failure::Rule(broken));
        assert_eq!(
            (&value["check"], &value["reason"]),
            (&json!("rule"), &json!("secure-boot-unknown"))
        );
        let stale = counters(1).follow(Some(&counters(2))).unwrap_err();
        let value = data(&Failure::Stale(stale));
        assert_eq!((&value["last"], &value["now"]), (&json!(2), &json!(1)));
    }

    #[test]
    fn a_forged_quotes_counters_raise_no_alert() {
        // Not a quote at all: whatever its counters would be.
        let rejected = evidence::Quote::parse(b"nonsense").unwrap_err();
        let verdict = Verdict::new(&rejected, b"nonsense", Some(counters(9)));
        assert_eq!(verdict.stale, None);
        assert_eq!(verdict.failed.len(), 1);
    }
}
