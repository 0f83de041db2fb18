//! What the tests of every crate stand on: a software TPM per test, a scripted upstream, a clock that is turned by
//! hand, and the search for a secret that must be nowhere.
//!
//! Owns: the starting and ending of real programs (swtpm, etcd) on loopback, each with its own state.
//! Refuses: to skip. A missing program fails the test and names the Debian package that has it.
//! Who may call: tests, as a dev-dependency; no shipped crate depends on it. No attacker here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption should stop the test where it broke"
)]

pub mod canary;
pub mod clock;
pub mod etcd;
pub mod swtpm;
pub mod tap;
pub mod upstream;
pub mod vcio;

pub use canary::Canary;
pub use clock::ManualClock;
pub use etcd::Etcd;
pub use swtpm::Swtpm;
pub use tap::Tap;
pub use upstream::Upstream;
pub use vcio::FakeFirmware;
