//! The real world behind the ports: TPM through tpm2-tss, files, the system's clock and random numbers.

pub(crate) mod escrows;
mod journals;
mod system;
mod tpms;
mod volumes;

use crate::{pins::Pins, ports::Ports, tokens};

/// The ports of the shipped program, without what its command line names.
pub(crate) fn real() -> Ports {
    Ports {
        tpms: Box::new(tpms::RealTpms),
        volumes: Box::new(volumes::Files),
        journals: Box::new(journals::Files),
        clock: Box::new(system::SystemClock),
        entropy: Box::new(system::SystemEntropy),
        otp: Box::new(tokens::store(None)),
        signatures: None,
        pins: Pins::default(),
    }
}

/// The folder that a path is in, as something that can be opened.
fn folder(path: &std::path::Path) -> &std::path::Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    }
}
