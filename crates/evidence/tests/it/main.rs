//! The tests from outside of the crate, in one binary: linking one takes longer than running it. Apart stand `stock_tools`, which starts
//! software TPMs, and `compile_fail`, which starts the compiler.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod allocations;
mod appraisal;
mod certificate_chain;
mod certificate_choice;
mod certificate_leaf;
mod certificate_quirks;
mod certificate_tools;
mod certificates;
mod credential;
mod credential_opened;
mod event_log;
mod event_log_parse;
mod forge;
mod golden_sets;
mod image_statements;
mod keys;
mod log_rules;
mod mixed_policies;
mod offline;
mod offline_rsa;
mod properties;
mod pss;
mod sentences;
mod spoilt_evidence;
mod vector;
mod vectors;
