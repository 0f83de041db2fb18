//! What may be said of a request in a word: its route, its proof, its number.
//!
//! Owns: the names under which logs, metrics and traces know them. A label of a metric is one of these, and so never a stranger's.

use std::fmt;

use serde::Serialize;

use crate::{
    gate::Proof,
    line::hex,
    routes::{Class, Forward},
};

/// What a request showed beside its PSK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// Nothing was judged.
    None,
    /// The policy wants nothing more.
    Psk,
    /// The policy wants nothing more than the client certificate, which came in the place of a PSK.
    Certificate,
    /// A quote.
    Quote,
    /// A session and a signature.
    Session,
}

/// What kind of path a request had: the few that metrics may tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// A model runs.
    Inference,
    /// A list or a description of models.
    Read,
    /// A fixed answer.
    Fixed,
    /// The proxy's own endpoints.
    Attest,
    /// None that was found.
    None,
}

impl RouteKind {
    /// All of them, as they are numbered.
    pub const ALL: [Self; 5] = [Self::Inference, Self::Read, Self::Fixed, Self::Attest, Self::None];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Read => "read",
            Self::Fixed => "fixed",
            Self::Attest => "attest",
            Self::None => "none",
        }
    }
}

impl ProofKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Psk => "psk",
            Self::Certificate => "certificate",
            Self::Quote => "quote",
            Self::Session => "session",
        }
    }
}

/// The number of a request: that of the process, which is random, and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestNumber {
    pub(super) instance: u32,
    pub(super) number: u64,
}

/// A request's number as it is written.
#[derive(Debug, Clone, Copy)]
pub struct RequestText {
    digits: [u8; RequestNumber::DIGITS],
    len: usize,
}

impl RequestNumber {
    /// At most.
    const DIGITS: usize = 8 + 1 + 16;

    /// As it is written: the process in eight hexadecimal digits, and the count in as many as it needs.
    #[must_use]
    pub fn text(self) -> RequestText {
        let mut digits = [b'-'; Self::DIGITS];
        let (process, count) = digits.split_at_mut(8);
        write_hex(process, self.instance.into());
        let needed = self.number.checked_ilog2().map_or(1, |bits| bits / 4 + 1);
        let needed = usize::try_from(needed).unwrap_or(16);
        write_hex(count.get_mut(1..=needed).unwrap_or_default(), self.number);
        RequestText {
            digits,
            len: needed.saturating_add(9),
        }
    }
}

/// Fills all places, the last digit in the last one.
fn write_hex(places: &mut [u8], number: u64) {
    let mut rest = number;
    for place in places.iter_mut().rev() {
        *place = hex(rest.to_le_bytes()[0]);
        rest >>= 4;
    }
}

impl RequestText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits and a dash.
        let digits = self.digits.get(..self.len).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

impl fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

pub(super) const fn kind(forward: Forward) -> RouteKind {
    match forward.class {
        Class::Inference => RouteKind::Inference,
        Class::List | Class::One | Class::Show => RouteKind::Read,
        Class::Plain => RouteKind::Fixed,
    }
}

pub(super) const fn proof_kind(proof: &Proof) -> ProofKind {
    match proof {
        Proof::NotDemanded => ProofKind::Psk,
        Proof::Certificate => ProofKind::Certificate,
        Proof::Signed(_) => ProofKind::Session,
        Proof::Quoted(_) => ProofKind::Quote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (nth, kind) in RouteKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, nth);
        }
    }

    #[test]
    fn a_number_is_hexadecimal() {
        for (instance, number) in [
            (0, 0),
            (1, 15),
            (0xdead_beef, 16),
            (u32::MAX, u64::MAX),
            (7, 0x10_0000),
        ] {
            let text = RequestNumber { instance, number }.to_string();
            assert_eq!(text, format!("{instance:08x}-{number:x}"));
        }
    }
}
