//! What a device has spent of its budgets on one day, summed over all proxies.

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

/// The tokens that a device has spent on one day. The proxies add to it what each of them has counted.
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
        for bad in [
            good.replace('7', "-7"),
            good.replace("\"day\"", "\"date\""),
            good.replace('9', "9,\"free\":true"),
        ] {
            let read = decode::<SpentRecord>(bad.as_bytes());
            assert!(matches!(read, Err(Unreadable::Malformed(_))), "{bad}");
        }
    }
}
