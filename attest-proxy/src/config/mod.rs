//! The configuration file: TOML text in, valid [`Settings`] out.
//!
//! Owns: the format, its defaults, and how a mistake in it is shown. Unknown keys are refused.
//! Refuses: to open any file that it names; keys and certificates are read by whoever needs them.
//! Who may call: the command line, and tests. An attacker controls nothing here; an operator's slip does.

mod change;
mod diagnostic;
mod limits;
mod observe;
mod peers;
mod settings;
mod units;
mod upstreams;

pub use change::Tunable;
pub use diagnostic::Diagnostic;
pub use limits::Limits;
pub use observe::{AuditSettings, Collector, Fsync, OnFailure, TraceSettings};
pub use peers::{Cidr, ForwardedHeader, InvalidCidr, Peers};
pub use settings::{FleetKeyFile, PreviousFleetKeyFile, RegistryTls, RegistryUser, Settings, Tls};
pub use units::{InvalidUpstream, UpstreamUrl};
pub use upstreams::{UpstreamServer, UpstreamTls, Upstreams};

/// A complete, commented file that parses: what `config --example` prints.
pub const EXAMPLE: &str = include_str!("example.toml");
