//! The whole line, program against program: what a user does, on real parts.
//!
//! Owns: nothing but the order of the modules. Each test starts its own TPM, registry, model server and proxy on free ports, and ends them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod bad_input;
mod binary;
mod boot_policy;
mod canary;
mod client_certificates;
#[path = "../../../../crates/evidence/tests/it/forge/mod.rs"]
mod forge;
mod harness;
mod killed;
mod registry_changes;
mod stock_clients;
mod stock_tools;
mod whole_line;
