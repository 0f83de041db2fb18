//! The leaves of a policy's evidence: end dates, image keys, releases, digests and patterns.
//!
//! Owns: what is asked of a date: a moment that is the same everywhere, so one with an offset, in whole seconds.

use domain::{Sha256Digest, UnixTime};
use evidence::{CommandLinePattern, ImageKey, KeyVariable, Release, SetName};
use schemars::{Schema, SchemaGenerator, json_schema};
use toml::{
    de::DeValue,
    value::{Datetime, Offset},
};

use crate::{
    hint::nearest_or_list,
    leaf::{Wrong, text_leaf},
    walk::{Findings, Key, Read, Value, wrong_type},
};

impl Key for SetName {
    const PATTERN: &'static str = "^[a-z0-9.-]{1,63}$";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let hint = || Some("as in `golden.\"2026-10\"`: quotes keep a dot in the name".to_owned());
        text.parse()
            .map_err(|wrong: evidence::policy::InvalidSetName| (wrong.to_string(), hint()))
    }
}

impl Key for KeyVariable {
    const PATTERN: &'static str = "^(PK|KEK|db|dbx)$";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let all = [Self::Pk, Self::Kek, Self::Db, Self::Dbx];
        all.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            let hint = nearest_or_list(text, all.map(Self::name));
            (format!("`{text}` is no variable of Secure Boot's keys"), hint)
        })
    }
}

impl Read for UnixTime {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let hint =
            || Some("a date with time and offset and without quotes, as in 2026-12-01T00:00:00Z".to_owned());
        let DeValue::Datetime(found) = value.get_ref() else {
            wrong_type(value, "a date with time and offset", findings);
            return None;
        };
        let seconds = seconds(found);
        if seconds.is_none() {
            findings.push(
                value.span(),
                format!("`{found}` is not a moment that is told wholly"),
                hint(),
            );
        }
        seconds.map(Self::from_secs)
    }
}

/// Seconds since 1970; `None` for a time without date, offset or time of day, with a part of a second, or before 1970.
fn seconds(at: &Datetime) -> Option<u64> {
    let (date, time) = (at.date?, at.time?);
    let offset = match at.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // A leap second has no number of its own.
    let second = time.second.unwrap_or(0);
    if second > 59 || time.nanosecond.is_some_and(|nanos| nanos != 0) {
        return None;
    }
    let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(second);
    let days = days(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    u64::try_from(days * 86400 + of_day - offset * 60).ok()
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counted in years that begin in March, so that the leap
/// day is a year's last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    // Months from March on have 153 days in five.
    let of_year = (153 * month + 2) / 5 + day - 1;
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 0000-03-01 is 719468 days before 1970-01-01.
    365 * year + leap + of_year - 719_468
}

impl Read for ImageKey {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "-----BEGIN PUBLIC KEY-----" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            Self::from_pem(text).map_err(|wrong| {
                let hint =
                    "the text that `openssl pkey -in image.key -pubout` prints, between \"\"\" and \"\"\"";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}

impl Read for Release {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let number = u64::read(value, findings)?;
        Self::try_from(number)
            .map_err(|wrong| findings.push(value.span(), wrong.to_string(), None))
            .ok()
    }
}

impl Read for Sha256Digest {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse()
                .map_err(|wrong: domain::digest::InvalidDigest| (wrong.to_string(), None))
        })
    }
}

impl Read for CommandLinePattern {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 4096 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: evidence::rules::InvalidPattern| {
                let hint = "as in \"BOOT_IMAGE=* root=UUID=* ro **\"";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_as_clocks_do() {
        // `date -u -d MOMENT +%s` says the same.
        for (moment, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-01T00:00:00Z", 1_796_083_200),
            ("2026-12-01T01:30:00+01:30", 1_796_083_200),
            ("2026-11-30T19:00:00-05:00", 1_796_083_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(&moment.parse().unwrap()), Some(expected), "{moment}");
        }
    }

    #[test]
    fn what_is_no_moment_everywhere_is_none() {
        for moment in [
            "2026-12-01",
            "2026-12-01T00:00:00",
            "00:00:00",
            "2026-12-01T00:00:00.5Z",
            "2026-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(seconds(&moment.parse().unwrap()), None, "{moment}");
        }
    }
}
