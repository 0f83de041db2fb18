//! This device's own rules for what it quotes.
//!
//! Owns: two rules. A quote is made only for the audience in the device's own configuration, so that no other service
//! can have it made; and over at least the PCRs of that configuration, so that no proxy can have a quote that says less.

use domain::{Audience, PcrSelection};
use protocol::messages::Challenge;

/// What the device's configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) audience: Audience,
    pub(crate) pcrs: Option<PcrSelection>,
}

/// Why a challenge is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnRefusal {
    /// For another service.
    #[error("the proxy asks for a quote for {asked}, this device quotes for {own} alone")]
    Audience { asked: Audience, own: Audience },
    /// Over fewer PCRs, or another bank.
    #[error("the proxy asks for a quote of {asked}, this device quotes at least {own}")]
    TooFewPcrs { asked: PcrSelection, own: PcrSelection },
    /// The PCRs are no selection.
    #[error("the proxy asks for a PCR twice")]
    Selection,
}

impl OwnRefusal {
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Audience { .. } => "is --proxy right? if the service moved, provision the device anew",
            Self::TooFewPcrs { .. } => "if the policy asks for other PCRs now, provision the device anew",
            Self::Selection => "the proxy is not one that this client knows",
        }
    }
}

impl Own {
    /// The PCRs to quote; `None` when the proxy asks for no evidence.
    pub(crate) fn judge(&self, challenge: &Challenge) -> Result<Option<PcrSelection>, OwnRefusal> {
        if challenge.audience != self.audience {
            return Err(OwnRefusal::Audience {
                asked: challenge.audience.clone(),
                own: self.audience.clone(),
            });
        }
        if challenge.select.is_empty() {
            return Ok(None);
        }
        let asked = PcrSelection::new(challenge.bank, challenge.select.iter().copied())
            .map_err(|_| OwnRefusal::Selection)?;
        match self.pcrs {
            Some(own) if !asked.covers(&own) => Err(OwnRefusal::TooFewPcrs { asked, own }),
            _ => Ok(Some(asked)),
        }
    }
}
