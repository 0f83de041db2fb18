//! Wall-clock time as the protocol counts it.
//!
//! Owns: whole seconds since 1970-01-01T00:00:00Z, and how a person reads them. Nobody here reads a clock: `now` is always an argument.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// `seconds` after the epoch.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds after the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time and `duration` more, in whole seconds; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// How long ago `earlier` was; `None` when it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        }
    }

    /// The distance between two times, whichever is first.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }
}

/// As RFC 3339 in UTC, `2026-12-01T00:00:00Z`; as the number of seconds behind the year 9999, which RFC 3339 cannot tell.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > END_OF_CALENDAR {
            return write!(f, "{}", self.0);
        }
        let (year, month, day) = date(self.0 / DAY);
        let (hour, minute, second) = (self.0 % DAY / 3600, self.0 % 3600 / 60, self.0 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

const DAY: u64 = 86_400;
/// 9999-12-31T23:59:59Z.
const END_OF_CALENDAR: u64 = 253_402_300_799;
// Days of 400 years, of the 100 that end without a leap day, of the four that end with one, of a year without.
const DAYS_400: u64 = 146_097;
const DAYS_100: u64 = 36_524;
const DAYS_4: u64 = 1_461;
const DAYS_1: u64 = 365;

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01; counted in years that begin in March, so that the leap day is
/// a year's last.
const fn date(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 is 719468 days before 1970-01-01.
    let days = days + 719_468;
    let (era, days) = (days / DAYS_400, days % DAYS_400);
    let century = min(days / DAYS_100, 3);
    let days = days - century * DAYS_100;
    let (quad, days) = (days / DAYS_4, days % DAYS_4);
    let year = min(days / DAYS_1, 3);
    let days = days - year * DAYS_1;
    let year = 400 * era + 100 * century + 4 * quad + year;
    // Months from March on have 153 days in five.
    let month = (5 * days + 2) / 153;
    let day = days - (153 * month + 2) / 5 + 1;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        let t = UnixTime::from_secs(100);
        assert_eq!(t.plus(Duration::from_secs(5)), UnixTime::from_secs(105));
        assert_eq!(
            UnixTime::from_secs(u64::MAX)
                .plus(Duration::from_secs(1))
                .as_secs(),
            u64::MAX
        );
        assert_eq!(t.since(UnixTime::from_secs(40)), Some(Duration::from_secs(60)));
        assert_eq!(t.since(UnixTime::from_secs(101)), None);
        assert_eq!(t.distance(UnixTime::from_secs(130)), Duration::from_secs(30));
    }

    #[test]
    fn a_person_reads_a_date() {
        // `date -u -d @SECONDS +%FT%TZ` says the same.
        for (seconds, told) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_825_600, "2000-02-29T12:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_796_083_200, "2026-12-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (END_OF_CALENDAR, "9999-12-31T23:59:59Z"),
            (END_OF_CALENDAR + 1, "253402300800"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(UnixTime::from_secs(seconds).to_string(), told);
        }
    }

    #[test]
    fn days_follow_each_other() {
        let length = |year: u64, month| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for days in 0..=END_OF_CALENDAR / DAY {
            assert_eq!(date(days), expected);
            let (year, month, day) = expected;
            expected = match (month, day == length(year, month)) {
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }
}
