//! What a device has used of its limits, over all proxies: tokens and requests of one day in sums, running answers by proxy.

use std::collections::BTreeMap;

use domain::UnixTime;
use serde::{Deserialize, Serialize};

use super::Version1;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A day in UTC, as whole days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(u64);

impl Day {
    /// The day of a moment.
    #[must_use]
    pub const fn of(now: UnixTime) -> Self {
        Self(now.as_secs() / DAY)
    }

    /// Seconds from `now` to the end of `now`'s day, 1 to 86,400.
    #[must_use]
    pub const fn left(now: UnixTime) -> u64 {
        DAY - now.as_secs() % DAY
    }
}

/// A proxy while it runs: one that is started anew is another one. Random, so that two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(u32);

impl ReplicaId {
    /// Of a random number.
    #[must_use]
    pub const fn new(random: u32) -> Self {
        Self(random)
    }
}

/// What one proxy said of a device at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Answers that run.
    pub streams: u64,
    /// When, by that proxy's clock.
    pub at: UnixTime,
}

/// What a device has spent on one day, and what it runs. The proxies add to it what each of them has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpentRecord {
    /// Always 1.
    pub version: Version1,
    /// Which day; on another one, nothing was spent yet.
    pub day: Day,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Requests, of devices whose requests are limited.
    #[serde(default, skip_serializing_if = "is_none")]
    pub requests: u64,
    /// Answers that run, of devices whose answers at one time are limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub running: BTreeMap<ReplicaId, Running>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_none(requests: &u64) -> bool {
    *requests == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Unreadable, decode};

    #[test]
    fn a_day_ends_at_midnight() {
        let at = UnixTime::from_secs;
        assert_eq!(Day::of(at(0)), Day::of(at(86_399)));
        assert!(Day::of(at(86_399)) < Day::of(at(86_400)));
        assert_eq!(Day::left(at(0)), 86_400);
        assert_eq!(Day::left(at(86_399)), 1);
    }

    #[test]
    fn it_is_understood_wholly_or_not_at_all() {
        let good = r#"{"version":1,"day":20000,"prompt_tokens":7,"output_tokens":9}"#;
        let record: SpentRecord = decode(good.as_bytes()).unwrap();
        assert_eq!((record.prompt_tokens, record.output_tokens), (7, 9));
        // As it was before requests were counted in it.
        assert_eq!(serde_json::to_string(&record).unwrap(), good);
        let more = good.replace('}', r#","requests":3,"running":{"17":{"streams":2,"at":5}}}"#);
        let record: SpentRecord = decode(more.as_bytes()).unwrap();
        assert_eq!(record.running[&ReplicaId::new(17)].streams, 2);
        assert_eq!(serde_json::to_string(&record).unwrap(), more);
        for bad in [
            good.replace('7', "-7"),
            good.replace("\"day\"", "\"date\""),
            good.replace('9', "9,\"free\":true"),
            more.replace("17", "gpu"),
            more.replace("\"at\"", "\"on\""),
        ] {
            let read = decode::<SpentRecord>(bad.as_bytes());
            assert!(matches!(read, Err(Unreadable::Malformed(_))), "{bad}");
        }
    }
}
