//! When certificates end: the server's own, and the CAs of devices' certificates.
//!
//! Owns: what is worth a warning. A chain ends with the first of its certificates; rustls judges none of this at our end, the
//! clients do. A CA's own dates are judged by nobody here (a trust anchor has none, RFC 5280 6.1.1): its end is the operator's
//! to know.
//! Pure: the time is an argument. The operator controls the files.

use domain::UnixTime;
use evidence::certificate::TlsCertificate;

/// How long before the end a warning begins, in seconds: 14 days.
pub const SOON: u64 = 14 * 24 * 60 * 60;

/// The first end in each of the two files; `None`: no such file, or no end in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Of the server's certificate and those above it that it sends.
    pub server: Option<UnixTime>,
    /// Of the CAs of client certificates.
    pub client_ca: Option<UnixTime>,
}

/// How certificates stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// None of them ends soon.
    Good(Option<UnixTime>),
    /// The first one ends then.
    Soon(UnixTime),
    /// One ended then, and others did not.
    Some(UnixTime),
    /// All of them ended, the last one then.
    Over(UnixTime),
}

/// The end of each certificate of a file, where it has one.
pub type EndOfEach = Vec<Option<UnixTime>>;

/// The end of each certificate that has one; what cannot be read has none.
pub fn ends<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> EndOfEach {
    let end = |der| TlsCertificate::read(der).ok()?.validity().not_after;
    certificates.into_iter().map(end).collect()
}

/// The first end.
#[must_use]
pub fn first(ends: &[Option<UnixTime>]) -> Option<UnixTime> {
    ends.iter().flatten().min().copied()
}

/// How they stand at `now`.
#[must_use]
pub fn standing(ends: &[Option<UnixTime>], now: UnixTime) -> Standing {
    let Some(first) = first(ends) else {
        return Standing::Good(None);
    };
    if now <= first {
        let soon = first.as_secs() < now.as_secs().saturating_add(SOON);
        return if soon {
            Standing::Soon(first)
        } else {
            Standing::Good(Some(first))
        };
    }
    let last = ends
        .iter()
        .copied()
        .max_by_key(|end| end.map_or(u64::MAX, UnixTime::as_secs));
    match last.flatten() {
        Some(last) if last < now => Standing::Over(last),
        _ => Standing::Some(first),
    }
}

/// A warning about the server's certificate, where there is something to warn of.
#[must_use]
pub fn warning(ends: Ends, now: UnixTime) -> Option<String> {
    let end = ends.server?;
    match standing(&[Some(end)], now) {
        Standing::Good(_) => None,
        Standing::Soon(end) => Some(format!("the TLS certificate ends at {end}")),
        Standing::Some(end) | Standing::Over(end) => {
            Some(format!("the TLS certificate ended at {end}: clients refuse it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> UnixTime {
        UnixTime::from_secs(day * DAY)
    }

    #[test]
    fn the_first_end_counts_until_it_is_over() {
        let ends = [Some(at(100)), None, Some(at(200))];
        assert_eq!(first(&ends), Some(at(100)));
        assert_eq!(standing(&ends, at(80)), Standing::Good(Some(at(100))));
        assert_eq!(standing(&ends, at(86)), Standing::Good(Some(at(100))), "14 days");
        let later = UnixTime::from_secs(86 * DAY + 1);
        assert_eq!(standing(&ends, later), Standing::Soon(at(100)));
        assert_eq!(
            standing(&ends, at(100)),
            Standing::Soon(at(100)),
            "its last second"
        );
        let over = UnixTime::from_secs(100 * DAY + 1);
        assert_eq!(
            standing(&ends, over),
            Standing::Some(at(100)),
            "one of them has no end"
        );
        assert_eq!(standing(&ends[..1], over), Standing::Over(at(100)));
        assert_eq!(
            standing(&[Some(at(90)), Some(at(95))], over),
            Standing::Over(at(95))
        );
        assert_eq!(standing(&[], over), Standing::Good(None));
        assert_eq!(standing(&[None], over), Standing::Good(None));
    }

    #[test]
    fn a_server_is_warned_of_its_own_certificate() {
        let ends = |server| Ends {
            server,
            client_ca: Some(at(1)),
        };
        assert_eq!(warning(ends(None), at(50)), None);
        assert_eq!(warning(ends(Some(at(100))), at(50)), None);
        let soon = warning(ends(Some(at(60))), at(50)).unwrap();
        assert_eq!(soon, "the TLS certificate ends at 1970-03-02T00:00:00Z");
        let over = warning(ends(Some(at(40))), at(50)).unwrap();
        assert!(over.contains("ended at 1970-02-10"), "{over}");
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        assert_eq!(ends([&b"junk"[..], &[]]), [None, None]);
    }
}
