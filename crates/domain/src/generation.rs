//! Which making of a device's volume a volume is.
//!
//! Owns: the number that a volume's authenticated header carries and a TPM's counter is compared with. An attacker may put any
//! number into a header; whoever reads one there believes it only once the header was authenticated.

use std::fmt;

/// How often the volume of a device was made anew, as its TPM counts. Generations of one TPM only ever grow, not
/// always by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The one that a volume made now should carry.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_higher_and_the_last_one_stays() {
        assert_eq!(Generation(7).next(), Generation(8));
        assert_eq!(Generation(u64::MAX).next(), Generation(u64::MAX));
        assert_eq!(Generation(7).to_string(), "7");
    }
}
