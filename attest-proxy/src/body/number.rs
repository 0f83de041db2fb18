//! A number as it stands in a body.
//!
//! Owns: which forms travel as they came. They are those that nearly everyone writes, and that our own serialisation would
//! write just so; any other is read and written by serde_json.

/// A number as JSON's reader gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    /// Reads a number in one of the forms that our own serialisation has; `None`: another form, or no number.
    pub(super) fn plain(token: &[u8]) -> Option<Self> {
        let (negative, digits) = match token {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let point = digits.iter().position(|b| *b == b'.');
        let whole = digits.get(..point.unwrap_or(digits.len()))?;
        // One zero in front, or none.
        if !matches!(whole, [b'0'] | [b'1'..=b'9', ..]) || whole.len() > 15 {
            return None;
        }
        let whole = decimal(0, whole)?;
        let Some(point) = point else {
            return match (negative, whole) {
                (false, _) => Some(Self::Unsigned(whole)),
                // Of zero, the sign makes a float.
                (true, 0) => None,
                (true, _) => i64::try_from(whole).ok()?.checked_neg().map(Self::Signed),
            };
        };
        let places = digits.get(point.checked_add(1)?..)?;
        let scale = match places.len() {
            1 => 10.0,
            2 => 100.0,
            3 => 1000.0,
            _ => return None,
        };
        if places.len() > 1 && places.ends_with(b"0") {
            return None;
        }
        // Both are whole and exact, so their quotient is the float nearest to what is written; so few digits come out of it
        // again as they went in.
        let float = f64::from(u32::try_from(decimal(whole, places)?).ok()?) / scale;
        Some(Self::Float(if negative { -float } else { float }))
    }

    /// Reads a number in whichever form, and says how it is written; `None`: it is none, or no float is so large.
    pub(super) fn any(token: &str) -> Option<(Self, String)> {
        let number: serde_json::Number = serde_json::from_str(token).ok()?;
        let read = if let Some(n) = number.as_u64() {
            Self::Unsigned(n)
        } else if let Some(n) = number.as_i64() {
            Self::Signed(n)
        } else {
            Self::Float(number.as_f64()?)
        };
        Some((read, number.to_string()))
    }

    /// Whether it is more than `most`, whichever way Go reads it.
    pub(super) fn exceeds(self, most: u32) -> bool {
        match self {
            Self::Signed(n) => n > i64::from(most),
            Self::Unsigned(n) => n > u64::from(most),
            Self::Float(n) => n > f64::from(most),
        }
    }

    /// Whether it is less than `least` once Go has cut off what is behind its point.
    pub(super) fn falls_short(self, least: u32) -> bool {
        match self {
            Self::Signed(n) => n < i64::from(least),
            Self::Unsigned(n) => n < u64::from(least),
            Self::Float(n) => n.trunc() < f64::from(least),
        }
    }
}

/// Goes on with `before` by so many digits; at most 18 may come together.
fn decimal(before: u64, digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(before, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// What is not handed to serde_json is what serde_json says.
        #[test]
        fn plain_numbers_are_what_serde_json_reads_and_writes(
            token in prop_oneof![
                "-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,3})?",
                "[0-9.eE+-]{0,8}",
                "-?[0-9]{14,21}",
            ],
        ) {
            if let Some(plain) = Number::plain(token.as_bytes()) {
                let (number, written) = Number::any(&token).unwrap();
                prop_assert_eq!(plain, number);
                prop_assert_eq!(written, token);
            }
        }
    }

    #[test]
    fn the_forms_that_clients_write_are_plain() {
        for token in [
            "0",
            "1",
            "-1",
            "4096",
            "999999999999999",
            "0.2",
            "0.0",
            "1.0",
            "-0.5",
            "1.25",
            "0.001",
            "-0.0",
        ] {
            let (number, written) = Number::any(token).unwrap();
            assert_eq!(Number::plain(token.as_bytes()), Some(number), "{token}");
            assert_eq!(written, token);
        }
        for token in [
            "-0", "00", "01", "0.10", "1.", ".5", "-", "", "+1", "1e2", "1.0e2", "0.0001", "1.2.3", "1-",
            "--1",
        ] {
            assert_eq!(Number::plain(token.as_bytes()), None, "{token}");
        }
    }
}
