//! Times as Go reads them (`time.ParseDuration`): `keep_alive` is one, or a number of seconds.
//!
//! Owns: the grammar. Pure; an attacker controls the text.

/// A text in nanoseconds; `None`: Go would refuse it too.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = digits(rest);
        rest = rest.get(whole.len()..)?;
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            fraction = digits(after);
            rest = after.get(fraction.len()..)?;
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        rest = after;
        let unit: i128 = match name {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(whole, fraction, unit)?)?;
        // As Go: beyond 63 bits it is no duration.
        if total > i128::from(i64::MAX) {
            return None;
        }
    }
    i64::try_from(if negative { total.checked_neg()? } else { total }).ok()
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn scaled(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.into()
    };
    // Beyond 18 places nothing reaches a nanosecond.
    let places = fraction.get(..fraction.len().min(18))?;
    let part: i128 = if places.is_empty() {
        0
    } else {
        places.parse::<u64>().ok()?.into()
    };
    let power = 10_i128.checked_pow(u32::try_from(places.len()).ok()?)?;
    whole
        .checked_mul(unit)?
        .checked_add(part.checked_mul(unit)?.checked_div(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        for (text, nanoseconds) in [
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-1s", -1_000_000_000),
            ("+1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0", 0),
            ("-0", 0),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1.0000000000000000000000001ns", 1),
            ("2562047h", 9_223_369_200_000_000_000),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for bad in [
            "",
            "-",
            "5",
            "5 m",
            "m",
            ".s",
            "1d",
            "5M",
            "1s ",
            "--1s",
            "2562048h",
            "99999999999999999999s",
            "1sm",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
