//! What the engine needs from the world, as traits: a TPM, volume files, journals, a clock, entropy.
//!
//! Owns: the contracts. `adapters` fulfils them with the real things, the engine's tests with fakes. The registry has
//! its own trait in its own crate and is used as it is.

use std::path::{Path, PathBuf};

use domain::{
    CredentialSecret, DeviceId, Generation, PcrSelection, PcrValues, Psk, PskDigest, SealedSecret, UnixTime,
    VolumeKeyDigest,
};
use otp::KeyStore;
use tpm::{
    AkHandle, AkInfo, Conditions, EkAlg, EkInfo, Identity, PolicySignatures, ReadBack, RollbackError,
    RollbackIndex, SealError, SealOptions, SealedObject, StorageKey, StorageTemplate, Tcti, TpmError,
    UnsealError,
};
use volume::{DataCipher, DeviceConfig, OtpToken, SealToken, SectorSize, Tpm2Token};

use crate::{
    escrow::Recipients,
    journal::{Entry, JournalFault},
    pins::Pins,
};

/// The one TPM of a device. Everything blocks.
pub(crate) trait Tpm {
    fn identity(&mut self) -> Result<Identity, TpmError>;
    fn endorsement_key(&mut self, alg: EkAlg) -> Result<EkInfo, TpmError>;
    fn read_ak(&mut self, handle: AkHandle) -> Result<Option<AkInfo>, TpmError>;
    fn create_ak(&mut self, alg: EkAlg, handle: AkHandle) -> Result<AkInfo, TpmError>;
    fn evict_ak(&mut self, handle: AkHandle) -> Result<(), TpmError>;
    fn activate_credential(
        &mut self,
        alg: EkAlg,
        handle: AkHandle,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<CredentialSecret, TpmError>;
    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError>;
    fn seal_with(
        &mut self,
        secret: &SealedSecret,
        conditions: &Conditions<'_>,
        options: SealOptions,
    ) -> Result<(SealedObject, ReadBack), SealError>;
    fn unseal_with(
        &mut self,
        object: &SealedObject,
        conditions: &Conditions<'_>,
    ) -> Result<SealedSecret, UnsealError>;
    fn storage_key(&mut self, template: StorageTemplate) -> Result<StorageKey, TpmError>;
    fn persistent_storage_key(&mut self) -> Result<Option<StorageKey>, TpmError>;
    /// The generation of the next volume: above what the counter has, which is made where there is none.
    fn next_generation(&mut self, index: RollbackIndex) -> Result<Generation, RollbackError>;
}

/// Where TPMs are found. A connection is closed when it is dropped: a software TPM serves one client at a time.
pub(crate) trait Tpms {
    fn open(&mut self, tcti: &Tcti) -> Result<Box<dyn Tpm>, TpmError>;
}

/// What a new volume is made of.
pub(crate) struct NewVolume<'a> {
    /// Where it goes in the end; it is written beside that, and placed by [`Volumes::place`].
    pub(crate) target: &'a Path,
    /// Its UUID.
    pub(crate) uuid: [u8; 16],
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The cipher of its data.
    pub(crate) cipher: DataCipher,
    /// The sectors of its data.
    pub(crate) sector_size: SectorSize,
    /// A folder that goes in too.
    pub(crate) content: Option<&'a Path>,
    /// Where it gets a recovery key: the file is on the disk before the volume is.
    pub(crate) escrow: Option<NewEscrow<'a>>,
    /// Whether an escrow file that is there is of a volume that nobody needs any more.
    pub(crate) replace_escrow: bool,
    /// Goes in as `/psk`.
    pub(crate) psk: &'a Psk,
    /// Goes in as `/device.toml`.
    pub(crate) config: &'a DeviceConfig,
    /// Opens it.
    pub(crate) secret: &'a SealedSecret,
    /// How the device gets the secret.
    pub(crate) token: &'a dyn SealToken,
    /// Its place among the device's volumes, where they are counted.
    pub(crate) generation: Option<Generation>,
    /// Whether a leftover of an earlier run may be there.
    pub(crate) leftover: bool,
}

/// What an escrow file is made of.
pub(crate) struct NewEscrow<'a> {
    /// Whose volume it is of.
    pub(crate) device: &'a DeviceId,
    /// To whom it is encrypted.
    pub(crate) keepers: &'a Recipients,
    /// Where it goes.
    pub(crate) file: &'a Path,
}

/// What lies where a volume should go.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A volume with one token.
    Volume(Box<Lying>),
    /// Anything else, and why it is not a volume of ours.
    Other(String),
}

/// A volume that lies somewhere, by its header alone.
#[derive(Debug)]
pub(crate) struct Lying {
    /// Its UUID.
    pub(crate) uuid: [u8; 16],
    /// What opens it.
    pub(crate) token: Token,
    /// Whether it has a keyslot for a recovery key.
    pub(crate) recoverable: bool,
}

/// What opens a volume.
#[derive(Debug)]
pub(crate) enum Token {
    /// A TPM.
    Tpm(Tpm2Token),
    /// An OTP device key.
    Otp(OtpToken),
}

/// What an opened volume says. The key itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) psk: PskDigest,
    pub(crate) config: Option<DeviceConfig>,
    pub(crate) volume_key: VolumeKeyDigest,
}

/// Volume files.
pub(crate) trait Volumes {
    /// Looks at a path without opening anything.
    fn find(&self, at: &Path) -> Result<Found, VolumeFault>;
    /// Opens a volume and reads what identifies it.
    fn read(&self, at: &Path, secret: &SealedSecret) -> Result<Content, VolumeFault>;
    /// Writes a whole volume beside its target and syncs it.
    fn write(&mut self, new: &NewVolume<'_>) -> Result<VolumeKeyDigest, VolumeFault>;
    /// Moves the written volume to its target in one step and syncs the folder. What is there is replaced only where
    /// `replace` says so.
    fn place(&mut self, target: &Path, replace: bool) -> Result<(), VolumeFault>;
}

/// Why a volume could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeFault {
    /// The file or its folder.
    #[error("cannot {doing} '{}'", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The volume could not be made.
    #[error("cannot make the volume '{}'", path.display())]
    Create {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The volume could not be changed.
    #[error("cannot change the volume '{}'", path.display())]
    Change {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The volume could not be opened or read.
    #[error("cannot open the volume '{}'", path.display())]
    Open {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something came between looking and placing.
    #[error("'{}' exists", path.display())]
    Exists { path: PathBuf },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// A journal that is open for writing, and locked against a second run.
pub(crate) trait Journal {
    /// Adds an entry; it is on the disk when this returns.
    fn append(&mut self, entry: &Entry) -> Result<(), JournalFault>;
}

/// The journals beside the volumes.
pub(crate) trait Journals {
    /// What an earlier run wrote; empty when there was none.
    fn read(&self, path: &Path) -> Result<Vec<Entry>, JournalFault>;
    /// Opens a journal for more entries.
    fn open(&mut self, path: &Path) -> Result<Box<dyn Journal>, JournalFault>;
}

/// The time.
pub(crate) trait Clock {
    fn now(&self) -> UnixTime;
}

/// The operating system has no random bytes to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(crate) struct NoEntropy;

/// Randomness.
pub(crate) trait Entropy {
    fn fill(&self, room: &mut [u8]) -> Result<(), NoEntropy>;
}

/// All of the world that planning and applying touch, but the registry.
pub(crate) struct Ports {
    pub(crate) tpms: Box<dyn Tpms>,
    pub(crate) volumes: Box<dyn Volumes>,
    pub(crate) journals: Box<dyn Journals>,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) entropy: Box<dyn Entropy>,
    /// The OTP device key of the board at hand; nothing is opened before it is used.
    pub(crate) otp: Box<dyn Fn() -> KeyStore>,
    /// What approves of PCR values, for signed policies.
    pub(crate) signatures: Option<PolicySignatures>,
    /// PINs.
    pub(crate) pins: Pins,
}
