//! Writing a volume: refuse, make the file system, encrypt, then the headers.
//!
//! Owns: the order of the writes. Old headers go first (where the caller wants something overwritten), then data and
//! keyslot are written and synced, then the second header, then the first: killed at any byte, the target has either
//! no valid header or is a whole volume.
//! What the headers hold is `compose`'s work. Everything that could be refused is refused before the first write. The same recipe, keys and entropy make the
//! same bytes.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::FileExt as _,
};

use domain::{SealedSecret, VolumeKey, VolumeKeyDigest};
use openssl::error::ErrorStack;

use crate::{
    ContentFile, FilesystemError, KeyslotId, RecoveryKey, SystemdTpm2, TargetError, TokenError, Unsupported,
    binary,
    compose::{self, Area, Composed, draw, uuid},
    filesystem,
    keyslot::KeyslotError,
    sectors::{CipherError, DataCipher, SectorCipher, SectorSize},
    stream::{self, StreamError},
    target::{self, Room},
};

/// Where the data begins: 16 MiB, as cryptsetup has it, so that its tools find room for more keyslots.
pub(crate) const DATA_OFFSET: u64 = 16 << 20;
/// The smallest volume, in bytes.
const MIN_SIZE: u64 = DATA_OFFSET + filesystem::MIN_LEN;
/// The longest label, in bytes.
const MAX_LABEL: usize = 47;

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
    /// The target holds something, or is too small.
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
        }
    }
}

/// What a volume may have besides its recipe. The default is what [`create`] writes.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The cipher of the data.
    pub cipher: DataCipher,
    /// A second keyslot for a person: argon2id, 4 passes over 32 MiB, and a `systemd-recovery` token.
    pub recovery: Option<&'a RecoveryKey>,
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
    token: &SystemdTpm2,
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
    token: &SystemdTpm2,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Created, CreateError> {
    let cipher = options.cipher;
    let data_len = check(recipe, token)?;
    // A key that OpenSSL refuses is refused now and not after the first write.
    volume_key
        .expose(|key| SectorCipher::encryptor(cipher, key, SectorSize::B4096))
        .map(drop)?;
    let room = target::check(target, recipe.size, recipe.existing == Existing::Overwrite)?;
    let image = filesystem::make(recipe.files, data_len, &uuid(draw(entropy)), &uuid(draw(entropy)))?;

    let Composed { areas, headers } =
        compose::compose(recipe, options, data_len, volume_key, secret, token, entropy)?;

    if room == Room::Grows {
        target.set_len(recipe.size).map_err(CreateError::Write)?;
    }
    wipe(target).map_err(CreateError::Write)?;
    stream::encrypt(&image, data_len, target, DATA_OFFSET, cipher, volume_key)?;
    finish(target, &areas, &headers).map_err(CreateError::Write)?;
    Ok(Created {
        volume_key_digest: cipher.expose(volume_key, VolumeKeyDigest::of),
    })
}

/// The length of the data segment of a recipe that can be made.
fn check(recipe: &Recipe<'_>, token: &SystemdTpm2) -> Result<u64, CreateError> {
    let whole = recipe.size.is_multiple_of(SectorSize::B4096.bytes_u64());
    let data_len = recipe
        .size
        .checked_sub(DATA_OFFSET)
        .filter(|len| whole && *len >= filesystem::MIN_LEN)
        .ok_or(CreateError::Size(recipe.size))?;
    if recipe.label.len() > MAX_LABEL || recipe.label.contains('\0') {
        return Err(CreateError::Label);
    }
    if token.keyslot != KeyslotId::SEALED {
        let other = TokenError::Malformed("its keyslot is not 0".to_owned());
        return Err(CreateError::Token(other));
    }
    // Whatever we write, we must read.
    let json = token.to_json().map_err(|e| CreateError::Header(Some(e)))?;
    SystemdTpm2::from_json(json).map_err(CreateError::Token)?;
    Ok(data_len)
}

/// Takes away whatever is where headers and keyslots will be, so that an old header never stands over new data.
/// Blocks that are zero already are not written: a new file stays sparse there.
fn wipe(target: &File) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    let zeros = vec![0; block.len()];
    let mut file = target;
    file.rewind()?;
    let mut at = 0;
    while at < DATA_OFFSET {
        file.read_exact(&mut block)?;
        if block != zeros {
            target.write_all_at(&zeros, at)?;
        }
        at += 64 * 1024;
    }
    target.sync_data()
}

/// Keyslots and sync, second header and sync, first header and sync.
fn finish(target: &File, areas: &[Area], [first, second]: &[Vec<u8>; 2]) -> io::Result<()> {
    for area in areas {
        target.write_all_at(&area.material, area.offset)?;
    }
    target.sync_data()?;
    target.write_all_at(second, binary::DEFAULT_SIZE)?;
    target.sync_data()?;
    target.write_all_at(first, 0)?;
    let mut file = target;
    file.flush()?;
    target.sync_all()
}
