//! Writing one volume with files in it: what most callers want of [`crate::write`].
//!
//! Owns: the recipe of such a volume, and why a volume was not written. The same recipe, keys and entropy make the same
//! bytes; what could be refused is refused before the file system is made.

use std::{fs::File, io};

use domain::{Generation, SealedSecret, VolumeKey, VolumeKeyDigest};
use openssl::error::ErrorStack;

use crate::{
    ContentFile, FilesystemError, FilesystemIds, Image, Output, RecoveryKey, SealToken, SectorSize,
    TargetError, TokenError, Unsupported, Volume,
    compose::draw,
    filesystem,
    keyslot::KeyslotError,
    sectors::{CipherError, DataCipher},
    stream::StreamError,
    write::{self, write},
};

/// Where the data begins: 16 MiB, as cryptsetup has it, so that its tools find room for more keyslots.
pub(crate) const DATA_OFFSET: u64 = 16 << 20;
/// The smallest volume, in bytes.
pub(crate) const MIN_SIZE: u64 = DATA_OFFSET + filesystem::MIN_LEN;
/// The longest label, in bytes.
pub(crate) const MAX_LABEL: usize = 47;

/// What a volume is made of.
pub struct Recipe<'a> {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// Text for people in the header, readable without a key; at most 47 bytes.
    pub label: &'a str,
    /// Bytes of the whole volume, a multiple of 4096, at least 17 MiB: 16 MiB are header.
    pub size: u64,
    /// What goes into its file system.
    pub files: &'a [ContentFile<'a>],
    /// What happens to something that is on the target already.
    pub existing: Existing,
}

/// What happens to something that is on the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is named and nothing is written.
    Refuse,
    /// It is lost.
    Overwrite,
}

/// What is known of a volume that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// SHA-256 of the volume key: the volume's identity in the registry.
    pub volume_key_digest: VolumeKeyDigest,
}

/// Why a volume was not written.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A size that is none.
    #[error("a volume has a multiple of 4096 bytes, at least {MIN_SIZE}, not {0}")]
    Size(u64),
    /// A label that does not fit.
    #[error("a label is at most {MAX_LABEL} bytes without a NUL")]
    Label,
    /// The token names another keyslot than 0, or has a blob that nobody would read.
    #[error("the token cannot be written")]
    Token(#[source] TokenError),
    /// The image has more bytes than the volume has room for.
    #[error("the image has {content} bytes, the volume has room for {room}")]
    TooLarge {
        /// Bytes of the image.
        content: u64,
        /// Bytes of the volume's data.
        room: u64,
    },
    /// It was ended by its [`crate::Progress`].
    #[error("it was cancelled; the target has no valid header")]
    Cancelled,
    /// The target holds something, is in use, or is too small.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The file system.
    #[error("the file system cannot be made")]
    Filesystem(#[from] FilesystemError),
    /// The image in memory cannot be read.
    #[error("the file system in memory cannot be read")]
    Image(#[source] io::Error),
    /// The target fails while it is written.
    #[error("the target cannot be written")]
    Write(#[source] io::Error),
    /// OpenSSL fails, or refuses the volume key because its halves are equal.
    #[error("the volume cannot be encrypted")]
    Crypto(#[from] CipherError),
    /// A keyslot cannot be made: argon2 lacks memory, or OpenSSL fails.
    #[error("a keyslot cannot be made")]
    Keyslot(#[from] KeyslotError),
    /// The header does not fit its area.
    #[error("the header cannot be written")]
    Header(#[source] Option<serde_json::Error>),
    /// The header is none that we would open: an error of ours.
    #[error("the header would not be opened again")]
    Unreadable(#[from] Unsupported),
}

impl From<ErrorStack> for CreateError {
    fn from(error: ErrorStack) -> Self {
        Self::Crypto(error.into())
    }
}

impl From<StreamError> for CreateError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Read(e) => Self::Image(e),
            StreamError::Write(e) => Self::Write(e),
            StreamError::Crypto(e) => Self::Crypto(e),
            StreamError::Cancelled => Self::Cancelled,
        }
    }
}

/// What a volume may have besides its recipe. The default is what [`create`] writes.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The cipher of the data.
    pub cipher: DataCipher,
    /// The sectors of the data.
    pub sector_size: SectorSize,
    /// Keeps a MAC of the content, so that [`crate::verify`] notices a changed sector: for volumes that are only read. Costs
    /// as much time again as encrypting.
    pub authenticate_content: bool,
    /// A second keyslot for a person: argon2id, 4 passes over 32 MiB, and a `systemd-recovery` token.
    pub recovery: Option<&'a RecoveryKey>,
    /// The generation that the header carries, for a device whose TPM counts them: what opens the volume compares it with the
    /// counter. `None`: the volume has none.
    pub generation: Option<Generation>,
}

/// Writes a volume to `target`, which is opened for reading and writing, with [`Options::default`].
///
/// `entropy` fills what it is given; the same bytes in the same order make the same volume. `secret` becomes keyslot
/// 0, whose passphrase is the base64 text of its 32 bytes (PBKDF2-SHA512, 1000 rounds, as systemd does).
///
/// # Errors
/// [`CreateError`]. An error before the first write leaves the target as it was, a later one without a valid header.
pub fn create(
    target: &File,
    recipe: &Recipe<'_>,
    volume_key: &VolumeKey,
    secret: &SealedSecret,
    token: &dyn SealToken,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Created, CreateError> {
    create_with(
        target,
        recipe,
        Options::default(),
        volume_key,
        secret,
        token,
        entropy,
    )
}

/// As [`create`], with options.
///
/// # Errors
/// Those of [`create`].
pub fn create_with(
    target: &File,
    recipe: &Recipe<'_>,
    options: Options<'_>,
    volume_key: &VolumeKey,
    secret: &SealedSecret,
    token: &dyn SealToken,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Created, CreateError> {
    let volume = Volume {
        uuid: recipe.uuid,
        label: recipe.label,
        size: recipe.size,
        existing: recipe.existing,
        options,
        volume_key,
        secret,
        token,
    };
    // Before the file system is made, which takes longer than to refuse.
    let data_len = write::refuse(target, &volume, 0)?;
    let ids = FilesystemIds {
        uuid: draw(entropy),
        hash_seed: draw(entropy),
    };
    let image = Image::of_files(recipe.files, data_len, ids)?;
    let output = Output {
        target,
        volume,
        entropy,
    };
    let mut results = write(&image, vec![output], &());
    // One output, one result.
    results.pop().unwrap_or(Err(CreateError::Header(None)))
}
