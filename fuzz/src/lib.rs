//! What each fuzz target does with the bytes it is given: one function for each parser that an attacker reaches.
//!
//! Owns: the promises that hold for every input. No function panics; what parses encodes to the same bytes; nothing that
//! was not signed by the one good key is accepted. `fuzz_targets/` only hands over the bytes, and [`seeds`] has
//! what to start from.
//! Refuses: to be shipped. A panic here is a finding.

#![forbid(unsafe_code)]

mod appraisal;
#[allow(dead_code, reason = "the proxy has further uses for its own files")]
mod body;
#[path = "../../attest-proxy/src/eights.rs"]
mod eights;
mod eventlog;
#[path = "../../crates/evidence/tests/it/forge/mod.rs"]
mod forge;
#[allow(dead_code, reason = "the proxy has further uses for its own files")]
mod gate;
mod listener;
mod luks;
mod offline;
mod policies;
mod protocol;
#[path = "../../attest-proxy/src/listener/proxy_header.rs"]
pub mod proxy_header_source;
mod rules;
pub mod seeds;
mod statements;
mod structures;
pub mod vector;

pub use appraisal::{certificates, evidence, keys};
pub use body::request_body;
pub use eventlog::{event_log, uefi_variable};
pub use gate::{request_head, stream_count};
pub use listener::proxy_header;
pub use luks::{around, file_system, otp_token, tpm2_token, volume_header};
pub use offline::offline;
pub use policies::declared_policy;
pub use protocol::{credentials, header_bytes, messages, request_signature, session_token};
pub use rules::{command_line_pattern, log_rules};
pub use statements::image_statement;
pub use structures::{attest, pcr_selections, public, signature};
