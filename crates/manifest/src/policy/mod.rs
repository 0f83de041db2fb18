//! `[policies.NAME]`: what the devices of a policy must prove, and what they may do.
//!
//! Owns: its keys (`raw`), their leaves (`leaf`), and what only shows when two of them are compared (`check`). What a quote
//! must show has a module of its own, `evidence`; the grammar of patterns and limits is `domain`'s.

mod check;
mod leaf;
mod raw;

use std::{collections::BTreeSet, time::Duration};

use domain::{Endpoint, Limits, ModelPattern, OptionRules};
use evidence::DeclaredPolicy;

use crate::certificate::CertificateRule;

pub(crate) use self::{check::policy, raw::PolicySection};

/// What a device must prove and may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The models, by name or pattern; at least one.
    pub models: Vec<ModelPattern>,
    /// The endpoints; `None`: all that a policy can name.
    pub endpoints: Option<BTreeSet<Endpoint>>,
    /// Which options a request may set, and how far.
    pub options: OptionRules,
    /// How much a device may use.
    pub limits: Limits,
    /// How long a session lasts: 1 minute to 1 hour, whole seconds.
    pub session_ttl: Duration,
    /// What a TLS client certificate counts for; `None`: it is not looked at.
    pub client_certificate: Option<CertificateRule>,
    /// What a quote must show; `None`: the pre-shared key alone is enough.
    pub evidence: Option<DeclaredPolicy>,
}
