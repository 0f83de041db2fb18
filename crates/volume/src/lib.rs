//! Sealed volumes: LUKS2 written and read in userspace, with an ext4 file system inside.
//!
//! Owns: the LUKS2 format (both headers, keyslots, digests, the `systemd-tpm2` and `signalbox-otp` tokens), the encryption of every
//! sector, the file system that is put in, and [`DeviceConfig`], the plain text that a device volume carries.
//! Refuses: every header that this crate would not write itself (see [`inspect`]), and every target that holds
//! something already (see [`create`]). Needs no root, no device-mapper and no loop device; nothing in clear is ever
//! written to a disk or put into an argument or the environment.
//! Called by `provisioner` (writes) and `edge-client` (reads); knows no TPM: the sealed secret is an argument.
//! An attacker controls every byte of a volume that is opened.
//!
//! How it is used. An [`Image`] is made once: of files in memory, of a folder, or it is somebody's file. [`write()`] puts it into
//! any number of [`Output`]s, each a [`Volume`] with its own keys, on a file or block device; [`create`] does both for one
//! volume with a few files. [`open`] and its kin read; [`verify`] reads all of it; [`rekey`] changes who can open it, and leaves
//! the data alone. [`Progress`] counts bytes and may end what takes long.
//!
//! Limits today: data is written whole, never changed in place; an older volume of the same secret is told from
//! a newer one by its generation alone, which the caller compares with its TPM's counter.

mod adiantum;
mod antiforensic;
mod authentic;
mod binary;
mod compose;
mod config;
mod content;
mod content_mac;
mod copies;
mod create;
mod describe;
mod filesystem;
mod folder;
mod header;
mod held;
mod image;
mod kdf;
mod keyslot;
mod lock;
mod metadata;
mod open;
mod otp_token;
mod progress;
mod recovery;
mod rekey;
mod reserve;
mod seal;
mod sectors;
mod sink;
mod source;
mod stream;
mod survey;
mod target;
#[cfg(test)]
mod testing;
mod token;
mod tpm2_token;
mod unique;
mod unsupported;
mod validate;
mod verify;
mod wellformed;
mod write;

pub use authentic::NotAuthentic;
pub use config::{ConfigError, DeviceConfig};
pub use content::{ContentFile, InvalidContent};
pub use create::{CreateError, Created, Existing, Options, Recipe, create, create_with};
pub use describe::{Description, KeyslotFacts, SegmentFacts, describe};
pub use filesystem::FilesystemError;
pub use folder::Owners;
pub use header::{CopyFault, Header, HeaderCopy, HeaderFault, InspectError, inspect};
pub use held::Holder;
pub use image::{FilesystemIds, Image};
pub use kdf::KdfError;
pub use keyslot::{KeyslotError, passphrase_of};
pub use open::{
    ListEntry, OpenError, OpenVolume, ReadError, open, open_unauthenticated, open_with_passphrase,
    open_with_recovery_key,
};
pub use otp_token::{OtpToken, OtpTokenError};
pub use progress::Progress;
pub use recovery::{InvalidRecoveryKey, RecoveryKey};
pub use rekey::{NewKeys, RekeyError, Rekeyed, Unlock, rekey};
pub use seal::SealToken;
pub use sectors::{CipherError, DataCipher, SectorCipher, SectorSize};
pub use source::Source;
pub use survey::{Survey, SurveyError, survey};
pub use target::{Found, TargetError, refuse_target};
pub use token::{KeyslotId, PrimaryAlg, SystemdTpm2, TokenError};
pub use tpm2_token::{TokenPin, TokenSigned, Tpm2Token};
pub use unsupported::{Place, Unsupported};
pub use verify::{ContentState, FilesystemState, Verified, VerifyError, verify};
pub use wellformed::{MetadataFault, Section};
pub use write::{Output, Volume, write};
