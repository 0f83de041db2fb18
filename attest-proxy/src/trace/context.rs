//! W3C Trace Context: `traceparent` read strictly, and written.
//!
//! Owns: the grammar of <https://www.w3.org/TR/trace-context/>, version 00: lower-case hex, no part all zeros, exactly one field. Of a later
//! version the same parts are read, as section 3.2.4 has it. Whatever else comes is as if nothing had come.
//! Pure. A stranger controls the header.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName};

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a request is in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The whole trace.
    pub trace: [u8; 16],
    /// The span of who sent the request.
    pub span: [u8; 8],
    /// Whether the sender records it.
    pub sampled: bool,
}

impl Context {
    /// Reads the one valid `traceparent`.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()),
            _ => None,
        }
    }

    /// Reads a value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.split(|b| *b == b'-');
        let [version] = hex(parts.next()?)?;
        let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        // Version 00 ends here; ff is none; a later one may go on after a dash.
        let ends = parts.next().is_none();
        let good = version != 0xff && (ends || version > 0) && trace != [0; 16] && span != [0; 8];
        good.then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// As a header's value.
    #[must_use]
    pub fn write(&self) -> String {
        format!(
            "00-{}-{}-{:02x}",
            HEXLOWER.encode(&self.trace),
            HEXLOWER.encode(&self.span),
            u8::from(self.sampled)
        )
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    HEXLOWER.decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let context = Context::parse(GOOD.as_bytes()).unwrap();
        assert!(context.sampled);
        assert_eq!(context.write(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes-then";
        assert_eq!(Context::parse(later.as_bytes()), Some(context));
        let off = GOOD.replace("-01", "-02");
        assert!(!Context::parse(off.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-x"),
            format!("{GOOD}-"),
            format!(" {GOOD}"),
            GOOD.replace("-01", "-1"),
            GOOD.replace("-01", ""),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "4bg9"),
            GOOD.replace("4bf9", "4bf"),
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert!(Context::read(&headers).is_some());
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert!(
            Context::read(&headers).is_none(),
            "which one counts is not ours to say"
        );
    }
}
