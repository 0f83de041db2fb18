//! A Raspberry Pi's OTP device key as the key store of a volume. The only user of `/dev/vcio`.
//!
//! Owns: the mailbox's firmware cryptography (raspberrypi/utils `rpifwcrypto`), what is asked of it ([`Recipe`]), and the
//! way around it where the firmware is too old: the raw key out of its nvmem file, with the same result and a warning
//! ([`Source::NvmemFallback`]).
//! Refuses: a key that was never programmed, is no P-256 scalar or is locked; answers that are cut short or stamped
//! with anything but success. Never derives from a serial number, a MAC or a card's CID: whoever holds the board reads those.
//! Who may call: `provisioner` (seals) and `edge-client` (opens). Everything blocks for a moment.
//! An attacker writes the token that the recipe comes from: he gets another secret and a volume that stays shut.
//! Whoever is root on the running system can have the secret derived again, and without
//! `lock_device_private_key=1` in a signed config.txt he reads the key itself: see `docs/otp-volumes.md`.
//! Limits today: key id 1 is the only one that any firmware has; no real Raspberry Pi has run this.

mod error;
mod firmware;
mod ioctl;
mod mailbox;
mod nvmem;
mod recipe;
mod scalar;
mod store;
mod vcio;

pub use error::{DeriveError, FirmwareError, NvmemError, Refusal};
pub use firmware::{KeyId, KeyStatus, Locks};
pub use mailbox::Mailbox;
pub use recipe::Recipe;
pub use store::{Derived, KeyStore, Source};
pub use vcio::Vcio;
