//! Sealed volumes: LUKS2 written and read in userspace, with an ext4 file system inside.
//!
//! Owns: the LUKS2 format (both headers, keyslots, digests, the `systemd-tpm2` and `signalbox-otp` tokens), the encryption of every
//! sector, the file system that is put in, and [`DeviceConfig`], the plain text that a device volume carries.
//! Refuses: every header that this crate would not write itself (see [`inspect`]), and every target that holds
//! something already (see [`create`]). Needs no root, no device-mapper and no loop device; nothing in clear is ever
//! written to a disk or put into an argument or the environment.
//! Called by `provisioner` (writes) and `edge-client` (reads); knows no TPM: the sealed secret is an argument.
//! An attacker controls every byte of a volume that is opened.
//! Limits today: whole volumes are written, never changed in place; an older volume of the same secret is not told from
//! a newer one.

mod adiantum;
mod antiforensic;
mod authentic;
mod binary;
mod compose;
mod config;
mod content;
mod create;
mod filesystem;
mod header;
mod kdf;
mod keyslot;
mod metadata;
mod open;
mod otp_token;
mod recovery;
mod sectors;
mod source;
mod stream;
mod target;
mod token;
mod unsupported;
mod validate;

pub use authentic::NotAuthentic;
pub use config::{ConfigError, DeviceConfig};
pub use content::{ContentFile, InvalidContent};
pub use create::{CreateError, Created, Existing, Options, Recipe, create, create_with};
pub use filesystem::FilesystemError;
pub use header::{CopyFault, Header, HeaderCopy, HeaderFault, InspectError, inspect};
pub use kdf::KdfError;
pub use keyslot::{KeyslotError, passphrase_of};
pub use metadata::MetadataError;
pub use open::{
    ListEntry, OpenError, OpenVolume, ReadError, open, open_unauthenticated, open_with_passphrase,
    open_with_recovery_key,
};
pub use otp_token::{OtpToken, OtpTokenError};
pub use recovery::{InvalidRecoveryKey, RecoveryKey};
pub use sectors::{CipherError, DataCipher};
pub use source::Source;
pub use target::{Found, TargetError};
pub use token::{KeyslotId, PrimaryAlg, SystemdTpm2, TokenError};
pub use unsupported::{Place, Unsupported};
