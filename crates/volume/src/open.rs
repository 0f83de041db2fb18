//! Opening a volume: header, keyslot, then the files, all decrypted in userspace.
//!
//! Owns: which keyslots are tried with what, and the bound on their cost. A sealed secret is tried on the keyslots
//! that a `systemd-tpm2` or `signalbox-otp` token names, or on all where there is none.
//! Refuses what [`inspect`] refuses, and with [`open`] every header that its secret does not authenticate. Decrypted sectors are in memory only while they are read; contents are wiped.
//! An attacker controls every byte of the volume, the file system included once he has the key of another.

use std::{error::Error, sync::Arc};

use domain::{Generation, SealedSecret, VolumeKey, VolumeKeyDigest};
use ext4_view::{Ext4, Ext4Error, Ext4Read};
use zeroize::Zeroizing;

use crate::{
    Header, InspectError, KeyslotError, KeyslotId, NotAuthentic, RecoveryKey, Source, inspect,
    keyslot::{self, passphrase_of},
    sectors::{CipherError, SectorCipher},
    validate::Data,
};

/// Most rounds of PBKDF2 or KiB of argon2 that one opening runs, over all keyslots: some twenty seconds.
const MAX_TOTAL_COST: u64 = 50_000_000;
/// The largest file that is read out, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Most entries of a folder that are listed.
const MAX_ENTRIES: usize = 10_000;

/// Why a volume was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The header.
    #[error(transparent)]
    Header(#[from] InspectError),
    /// No keyslot opens with what was given.
    #[error("no keyslot opens with this secret")]
    WrongSecret,
    /// The keyslots that would be tried cost more than a boot can wait for.
    #[error("the keyslots need {0} rounds of key derivation, at most {MAX_TOTAL_COST} are run")]
    TooCostly(u64),
    /// The header is not the one that was made with this secret.
    #[error("the header is not authentic: {0}")]
    NotAuthentic(#[source] NotAuthentic),
    /// A keyslot fails.
    #[error("keyslot {id} fails")]
    Keyslot {
        /// Which.
        id: KeyslotId,
        /// How.
        #[source]
        source: KeyslotError,
    },
}

/// Why a file was not read out of an open volume.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system is broken, or there is no such file.
    #[error("the file system says: {0}")]
    Filesystem(#[from] Ext4Error),
    /// A file that is larger than 64 MiB.
    #[error("the file has {0} bytes, at most {MAX_FILE} are read")]
    TooLarge(u64),
    /// A folder with more than 10,000 entries.
    #[error("the folder has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListEntry {
    /// Its name, with odd bytes escaped.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u16,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A volume whose key is known.
pub struct OpenVolume {
    header: Header,
    plain: Plain,
    keyslot: KeyslotId,
    authenticated: bool,
    generation: Option<Generation>,
}

/// Opens the volume with what a TPM released, and believes its header only if that secret authenticates it.
///
/// # Errors
/// [`OpenError`].
pub fn open(source: impl Source + 'static, secret: &SealedSecret) -> Result<OpenVolume, OpenError> {
    let header = inspect(&source)?;
    open_under(source, header, secret)
}

/// As [`open`], under a header that was read already: whoever judges a header and uses it reads it once, since the disk may
/// give another one the next time.
pub(crate) fn open_under(
    source: impl Source + 'static,
    header: Header,
    secret: &SealedSecret,
) -> Result<OpenVolume, OpenError> {
    let (mut volume, keyslot) = open_sealed(source, header, secret)?;
    let verified = volume.authenticate(secret, keyslot);
    verified.map(|()| volume).map_err(OpenError::NotAuthentic)
}

/// Opens a volume that another tool enrolled: as [`open`], without the authentication that only we write.
///
/// Nothing says then that the volume is the one that was made; what is read from it proves nothing.
///
/// # Errors
/// [`OpenError`], but never [`OpenError::NotAuthentic`].
pub fn open_unauthenticated(
    source: impl Source + 'static,
    secret: &SealedSecret,
) -> Result<OpenVolume, OpenError> {
    let header = inspect(&source)?;
    open_sealed(source, header, secret).map(|(volume, _)| volume)
}

/// Opens the volume with its recovery key. A header that has a MAC of this keyslot must be authentic; a recovery key of
/// systemd's has none, and [`OpenVolume::is_authenticated`] says so.
///
/// # Errors
/// [`OpenError`]; [`OpenError::NotAuthentic`] only for a header that was changed.
pub fn open_with_recovery_key(
    source: impl Source + 'static,
    key: &RecoveryKey,
) -> Result<OpenVolume, OpenError> {
    let header = inspect(&source)?;
    recover_under(source, header, key)
}

/// As [`open_with_recovery_key`], under a header that was read already.
pub(crate) fn recover_under(
    source: impl Source + 'static,
    header: Header,
    key: &RecoveryKey,
) -> Result<OpenVolume, OpenError> {
    let candidates = candidates(&header, header.recovery_keyslots());
    let (mut volume, keyslot) = key.expose(|text| unlock(source, header, &candidates, text))?;
    match volume.authenticate(key.secret(), keyslot) {
        Err(NotAuthentic::Missing) => Ok(volume),
        other => other.map(|()| volume).map_err(OpenError::NotAuthentic),
    }
}

/// Opens the volume with the passphrase of any keyslot. Not authenticated.
///
/// # Errors
/// [`OpenError`], but never [`OpenError::NotAuthentic`].
pub fn open_with_passphrase(
    source: impl Source + 'static,
    passphrase: &[u8],
) -> Result<OpenVolume, OpenError> {
    let header = inspect(&source)?;
    let candidates = candidates(&header, &[]);
    unlock(source, header, &candidates, passphrase).map(|(volume, _)| volume)
}

fn open_sealed(
    source: impl Source + 'static,
    header: Header,
    secret: &SealedSecret,
) -> Result<(OpenVolume, KeyslotId), OpenError> {
    let tpm2 = header.sealed_tokens().iter().map(|token| token.keyslot);
    let otp = header.otp_tokens().iter().map(|token| token.keyslot);
    let named: Vec<KeyslotId> = tpm2.chain(otp).collect();
    let candidates = candidates(&header, &named);
    unlock(source, header, &candidates, &passphrase_of(secret))
}

/// The keyslots that are named, or all where none is.
fn candidates(header: &Header, named: &[KeyslotId]) -> Vec<KeyslotId> {
    let slots = header.layout.slots.keys().copied();
    slots
        .filter(|id| named.is_empty() || named.contains(id))
        .collect()
}

fn unlock(
    source: impl Source + 'static,
    header: Header,
    candidates: &[KeyslotId],
    passphrase: &[u8],
) -> Result<(OpenVolume, KeyslotId), OpenError> {
    let layout = &header.layout;
    let slots = || {
        candidates
            .iter()
            .filter_map(|id| Some((*id, layout.slots.get(id)?)))
    };
    let (_, digest_cost, _) = layout.digest.kdf.parameters();
    let cost = slots()
        .map(|(_, slot)| slot.kdf.cost().saturating_add(digest_cost.into()))
        .fold(0, u64::saturating_add);
    if cost > MAX_TOTAL_COST {
        return Err(OpenError::TooCostly(cost));
    }
    for (id, slot) in slots() {
        let cipher = layout.data.cipher;
        let key = keyslot::unlock(&source, cipher, slot, &layout.digest, passphrase)
            .map_err(|source| OpenError::Keyslot { id, source })?;
        if let Some(key) = key {
            let plain = Plain {
                source: Arc::new(source),
                key: Arc::new(key),
                data: layout.data,
            };
            let volume = OpenVolume {
                header,
                plain,
                keyslot: id,
                authenticated: false,
                generation: None,
            };
            return Ok((volume, id));
        }
    }
    Err(OpenError::WrongSecret)
}

impl OpenVolume {
    /// The header that was used.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The keyslot that opened it.
    #[must_use]
    pub const fn keyslot(&self) -> KeyslotId {
        self.keyslot
    }

    /// Whether the secret that opened it has authenticated the header.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// The generation of the volume, as the secret that opened it authenticates it; `None` where the header has none, or was not
    /// authenticated. A keyslot that [`crate::rekey`] left alone keeps its own: a recovery key may show an older one.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Believes the header only if it has a MAC of the secret that opened it.
    fn authenticate(&mut self, secret: &SealedSecret, keyslot: KeyslotId) -> Result<(), NotAuthentic> {
        let header = &self.header;
        let mac = header.mac(keyslot).ok_or(NotAuthentic::Missing)?;
        mac.verify(secret, header.uuid(), keyslot, &header.layout)?;
        // The passphrase may go to cryptsetup next, which has to use the copy that is believed here.
        if let Some(fault) = header.copy().doubt() {
            return Err(NotAuthentic::TwoFaced(fault));
        }
        self.generation = mac.generation();
        self.authenticated = true;
        Ok(())
    }

    pub(crate) fn volume_key(&self) -> &VolumeKey {
        &self.plain.key
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.plain.source
    }

    /// SHA-256 of the volume key.
    #[must_use]
    pub fn volume_key_digest(&self) -> VolumeKeyDigest {
        self.plain
            .data
            .cipher
            .expose(&self.plain.key, VolumeKeyDigest::of)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// There is none, it is larger than 64 MiB, or the file system is broken.
    pub fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        let fs = self.filesystem()?;
        let len = fs.metadata(path)?.len();
        if len > MAX_FILE {
            return Err(ReadError::TooLarge(len));
        }
        Ok(Zeroizing::new(fs.read(path)?))
    }

    /// The entries of a folder by name, without `.` and `..`.
    ///
    /// # Errors
    /// There is none, it has more than 10,000 entries, or the file system is broken.
    pub fn list(&self, path: &str) -> Result<Vec<ListEntry>, ReadError> {
        let fs = self.filesystem()?;
        let mut list = Vec::new();
        for entry in fs.read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            if list.len() >= MAX_ENTRIES {
                return Err(ReadError::TooMany);
            }
            let metadata = entry.metadata()?;
            list.push(ListEntry {
                name: name.display().to_string(),
                len: metadata.len(),
                mode: metadata.mode() & 0o7777,
                is_dir: metadata.is_dir(),
            });
        }
        list.sort_unstable();
        Ok(list)
    }

    /// Fills `buffer` with plain data from `offset` on.
    ///
    /// # Errors
    /// Outside of the data segment, or the source fails.
    pub fn read_data(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.plain.read(offset, buffer)
    }

    /// Loaded anew for each use: it is cheap, and a loaded one cannot go to another thread.
    pub(crate) fn filesystem(&self) -> Result<Ext4, Ext4Error> {
        Ext4::load(Box::new(self.plain.clone()))
    }
}

/// The decrypted data segment.
#[derive(Clone)]
struct Plain {
    source: Arc<dyn Source>,
    key: Arc<VolumeKey>,
    data: Data,
}

impl Plain {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let outside = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let sector_len = self.data.sector.bytes_u64();
        let len = u64::try_from(buffer.len()).map_err(|_| outside())?;
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= self.data.extent.len)
            .ok_or_else(outside)?;
        let mut cipher = self.cipher()?;
        let mut sector = Zeroizing::new(vec![0; self.data.sector.bytes()]);
        let (mut at, mut rest) = (offset, buffer);
        while at < end {
            let within = at % sector_len;
            let start = at - within;
            self.source
                .read_at(&mut sector, self.data.extent.offset.saturating_add(start))?;
            cipher.apply(&mut sector, start)?;
            let here = (sector_len - within).min(end - at);
            let from = usize::try_from(within).map_err(|_| outside())?;
            let count = usize::try_from(here).map_err(|_| outside())?;
            let (to, later) = rest.split_at_mut_checked(count).ok_or_else(outside)?;
            let plain = sector.get(from..from.saturating_add(count)).ok_or_else(outside)?;
            to.copy_from_slice(plain);
            rest = later;
            at += here;
        }
        Ok(())
    }

    fn cipher(&self) -> Result<SectorCipher, CipherError> {
        self.key
            .expose(|key| SectorCipher::decryptor(self.data.cipher, key, self.data.sector))
    }
}

impl Ext4Read for Plain {
    fn read(&mut self, start: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Self::read(self, start, buffer)?;
        Ok(crate::survey::check_blocks(start, buffer)?)
    }
}
