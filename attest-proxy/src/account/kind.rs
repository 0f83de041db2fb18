//! What may be said of a request in a word: its route, its proof, its number.
//!
//! Owns: the names under which logs, metrics and traces know them. A label of a metric is one of these, and so never a stranger's.

use std::fmt;

use serde::Serialize;

use crate::{
    gate::Proof,
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

impl fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.instance, self.number)
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
}
