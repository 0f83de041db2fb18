//! Changing who can open a volume: the keyslot of the sealed secret, that of the recovery key, or both. The data stays as it is.
//!
//! Owns: the order of the writes, and what is destroyed. New keyslots go to free places and are synced; then the two headers are
//! replaced one after the other, the one that is not in use first; then the old keyslots are wiped. Stopped at any byte, the volume
//! opens with the old secret or with the new one, and the next [`rekey`] finishes what was left.
//! Refuses a volume whose header it cannot believe (see [`Unlock`]). What other tools have added (keyslots, tokens) is kept.
//! Limits: the volume key stays the same: whoever kept a copy of the old header and its secret opens the data still, and
//! flash memory may keep what was wiped for a while. A volume for which that matters is written anew.

use std::{fs::File, io};

use domain::{Generation, SealedSecret, VolumeKeyDigest};

use crate::{
    CreateError, Header, HeaderCopy, KeyslotError, KeyslotId, NotAuthentic, OpenError, OpenVolume,
    RecoveryKey, SealToken, TokenError,
    authentic::{self, MacToken},
    compose::{self, Area, Frame, draw, json},
    header::{self, Loaded},
    kdf::Kdf,
    keyslot::passphrase_of,
    lock::Lock,
    metadata::Metadata,
    open::{open_under, recover_under},
    recovery::RecoveryToken,
    reserve::within_limit,
    sink::{self, Sink},
    unsupported::MAX_OBJECTS,
    validate::{Extent, Layout},
};

/// What opens the volume that is to be changed.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// What the TPM released. The header has to be authentic for it.
    Sealed(&'a SealedSecret),
    /// The recovery key. The header has to be authentic for it, or, where it has no MAC of this key, the volume key must be the one
    /// that the registry knows.
    Recovery {
        /// The key.
        key: &'a RecoveryKey,
        /// The volume key's digest, from somewhere else than the volume.
        expected: Option<VolumeKeyDigest>,
    },
}

/// What the volume opens with afterwards. Nothing new at all finishes a [`rekey`] that was stopped.
#[derive(Clone, Copy, Default)]
pub struct NewKeys<'a> {
    /// A new sealed secret and its token; the old ones are destroyed.
    pub sealed: Option<(&'a SealedSecret, &'a dyn SealToken)>,
    /// A new recovery key; an old one of this volume is destroyed.
    pub recovery: Option<&'a RecoveryKey>,
    /// The generation that the header has for the new keys; `None` keeps the one that was authenticated when the volume was opened.
    /// A higher one shuts out what the old seal was good for, not the data of an older copy: the volume key stays the same.
    pub generation: Option<Generation>,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// The keyslots that were written, in the order of their numbers.
    pub keyslots: Vec<KeyslotId>,
    /// The sequence number of the new headers.
    pub seqid: u64,
}

/// Why a volume was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// It does not open, or its header cannot be believed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The volume key is another than the registry's: this is another volume.
    #[error("the volume key is not the one that is expected: this is another volume")]
    OtherVolume,
    /// Somebody else changes it.
    #[error("another process holds the volume's lock")]
    Locked,
    /// The token is for another keyslot than 0.
    #[error("the token cannot be written")]
    Token(#[source] TokenError),
    /// All numbers or all places are taken.
    #[error("there is no room for another keyslot; remove one that is not needed")]
    NoRoom,
    /// A keyslot cannot be made.
    #[error("a keyslot cannot be made")]
    Keyslot(#[from] KeyslotError),
    /// The header cannot be made.
    #[error("the header cannot be written")]
    Header(#[source] Box<CreateError>),
    /// The target fails. It opens with the old secret or with the new one.
    #[error("the target cannot be written")]
    Write(#[from] io::Error),
}

impl From<CreateError> for RekeyError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Keyslot(e) => Self::Keyslot(e),
            CreateError::Token(e) => Self::Token(e),
            other => Self::Header(Box::new(other)),
        }
    }
}

/// Gives a volume new keys. `entropy` fills what it is given with random bytes.
///
/// # Errors
/// [`RekeyError`]. Only after [`RekeyError::Write`] something may have changed.
pub fn rekey(
    target: &File,
    unlock: Unlock<'_>,
    new: NewKeys<'_>,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Rekeyed, RekeyError> {
    let _lock = Lock::take(target)?.ok_or(RekeyError::Locked)?;
    let change = change(target.try_clone()?, unlock, new, entropy)?;
    if target.metadata()?.is_file() {
        within_limit(change.end())?;
    }
    Ok(change.write(target)?)
}

/// Everything that is to be written.
struct Change {
    areas: Vec<Area>,
    headers: [Vec<u8>; 2],
    second_first: bool,
    header_size: u64,
    /// The room for keyslots that no keyslot uses afterwards.
    unused: Vec<Extent>,
    done: Rekeyed,
}

fn change(
    source: impl crate::Source + 'static,
    unlock: Unlock<'_>,
    new: NewKeys<'_>,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Change, RekeyError> {
    let loaded = header::load(&source).map_err(OpenError::from)?;
    let volume = believe(source, loaded.header.clone(), unlock)?;
    let Loaded {
        header,
        metadata,
        size,
    } = loaded;
    let mut editor = Editor {
        metadata,
        areas: Vec::new(),
        written: Vec::new(),
        volume: &volume,
        header_size: size,
        entropy,
    };
    let mut authenticates = Vec::new();
    if let Some((secret, token)) = new.sealed {
        if token.keyslot() != KeyslotId::SEALED {
            let other = TokenError::Malformed("its keyslot is not 0".to_owned());
            return Err(RekeyError::Token(other));
        }
        let token = token.object().map_err(RekeyError::Token)?;
        let kdf = compose::sealed_kdf(editor.entropy).ok_or(RekeyError::NoRoom)?;
        editor.replace(KeyslotId::SEALED, &passphrase_of(secret), &kdf, token)?;
        authenticates.push((KeyslotId::SEALED, secret));
    }
    if let Some(recovery) = new.recovery {
        let id = editor.recovery_slot(header.recovery_keyslots())?;
        let kdf = compose::recovery_kdf(editor.entropy).ok_or(RekeyError::NoRoom)?;
        let token = json(&RecoveryToken::new(id))?;
        recovery.expose(|text| editor.replace(id, text, &kdf, token))?;
        authenticates.push((id, recovery.secret()));
    }
    let salts = [draw(editor.entropy), draw(editor.entropy)];
    let Editor {
        mut metadata,
        areas,
        mut written,
        ..
    } = editor;
    let device_len = volume.source().len()?;
    let layout = Layout::new(&metadata, size, device_len).map_err(CreateError::from)?;
    let generation = new.generation.or(volume.generation());
    for (id, secret) in authenticates {
        let mac = MacToken::new(secret, header.uuid(), id, &layout, generation);
        insert(&mut metadata, json(&mac.ok_or(RekeyError::NoRoom)?)?)?;
    }
    let frame = Frame {
        uuid: header.uuid().to_owned(),
        label: header.label().to_owned(),
        seqid: header.seqid().checked_add(1).ok_or(RekeyError::NoRoom)?,
        size,
        salts,
    };
    written.sort_unstable();
    Ok(Change {
        areas,
        headers: frame.headers(&metadata)?,
        second_first: matches!(header.copy(), HeaderCopy::Primary(_)),
        header_size: size,
        unused: unused(&metadata, size),
        done: Rekeyed {
            keyslots: written,
            seqid: frame.seqid,
        },
    })
}

/// Opens the volume under this header, and believes it or goes no further. The header is not read again: who can write the disk
/// meanwhile would have one believed and another one made authentic.
fn believe(
    source: impl crate::Source + 'static,
    header: Header,
    unlock: Unlock<'_>,
) -> Result<OpenVolume, RekeyError> {
    match unlock {
        Unlock::Sealed(secret) => Ok(open_under(source, header, secret)?),
        Unlock::Recovery { key, expected } => {
            let volume = recover_under(source, header, key)?;
            match expected {
                Some(expected) if expected != volume.volume_key_digest() => Err(RekeyError::OtherVolume),
                None if !volume.is_authenticated() => {
                    Err(OpenError::NotAuthentic(NotAuthentic::Missing).into())
                }
                _ => Ok(volume),
            }
        }
    }
}

/// A header while it is changed.
struct Editor<'a> {
    metadata: Metadata,
    areas: Vec<Area>,
    written: Vec<KeyslotId>,
    volume: &'a OpenVolume,
    header_size: u64,
    entropy: &'a mut dyn FnMut(&mut [u8]),
}

impl Editor<'_> {
    /// Puts a keyslot with a new passphrase where one of that number may have been, at a free place, with its token.
    fn replace(
        &mut self,
        id: KeyslotId,
        passphrase: &[u8],
        kdf: &Kdf,
        token: serde_json::Value,
    ) -> Result<(), RekeyError> {
        let cipher = self.volume.header().cipher();
        let offset = self.free_place(compose::area_len(cipher))?;
        let key = self.volume.volume_key();
        let (keyslot, area) = compose::slot_at(offset, cipher, key, passphrase, kdf, self.entropy)?;
        let name = id.to_string();
        self.metadata.keyslots.insert(name.clone(), keyslot);
        for digest in self.metadata.digests.values_mut() {
            if digest.segments.iter().any(|segment| segment == "0") && !digest.keyslots.contains(&name) {
                digest.keyslots.push(name.clone());
            }
        }
        self.metadata.tokens.retain(|_, token| !belongs(token, &name));
        insert(&mut self.metadata, token)?;
        self.areas.push(area);
        self.written.push(id);
        Ok(())
    }

    /// The number of the recovery key: that of the old one, or the first that is free.
    fn recovery_slot(&self, old: &[KeyslotId]) -> Result<KeyslotId, RekeyError> {
        let free = (1..).map_while(KeyslotId::new);
        let mut free = free.filter(|id| !self.metadata.keyslots.contains_key(&id.to_string()));
        let old = old.iter().copied().find(|id| *id != KeyslotId::SEALED);
        old.or_else(|| free.next()).ok_or(RekeyError::NoRoom)
    }

    /// A place that neither the old header's keyslots nor the new ones use: the old ones must open until the new header is there.
    fn free_place(&self, len: u64) -> Result<u64, RekeyError> {
        let old = self.volume.header().layout.slots.values().map(|slot| slot.area);
        let new = self.areas.iter().map(|area| Extent {
            offset: area.offset,
            len,
        });
        let mut taken: Vec<Extent> = used(&self.metadata).chain(old).chain(new).collect();
        taken.sort_unstable_by_key(|extent| extent.offset);
        let free = gaps(&taken, &self.metadata, self.header_size);
        let place = free.into_iter().find(|gap| gap.len >= len);
        place.map(|gap| gap.offset).ok_or(RekeyError::NoRoom)
    }
}

/// Whether a token speaks of a keyslot: names it, or is its MAC.
fn belongs(token: &serde_json::Value, keyslot: &str) -> bool {
    let is = |value: &serde_json::Value| value.as_str() == Some(keyslot);
    let named = token.get("keyslots").and_then(serde_json::Value::as_array);
    let is_mac = token.get("type").and_then(serde_json::Value::as_str) == Some(authentic::TYPE);
    named.is_some_and(|names| names.iter().any(is)) || (is_mac && token.get("keyslot").is_some_and(is))
}

fn insert(metadata: &mut Metadata, token: serde_json::Value) -> Result<(), RekeyError> {
    let free = (0..MAX_OBJECTS).map(|number| number.to_string());
    let mut free = free.filter(|number| !metadata.tokens.contains_key(number));
    let number = free.next().ok_or(RekeyError::NoRoom)?;
    metadata.tokens.insert(number, token);
    Ok(())
}

/// The areas of all keyslots, those of other tools too.
fn used(metadata: &Metadata) -> impl Iterator<Item = Extent> {
    metadata.keyslots.values().map(|slot| Extent {
        offset: slot.area.offset.0,
        len: slot.area.size.0,
    })
}

/// The room for keyslots that none of them uses.
fn unused(metadata: &Metadata, header_size: u64) -> Vec<Extent> {
    let mut taken: Vec<Extent> = used(metadata).collect();
    taken.sort_unstable_by_key(|extent| extent.offset);
    gaps(&taken, metadata, header_size)
}

/// What lies between `taken`, which is sorted, in the room for keyslots.
fn gaps(taken: &[Extent], metadata: &Metadata, header_size: u64) -> Vec<Extent> {
    let start = header_size.saturating_mul(2);
    let end = start.saturating_add(metadata.config.keyslots_size.0);
    let mut free = Vec::new();
    let mut at = start;
    let close = Extent { offset: end, len: 0 };
    for extent in taken.iter().chain([&close]) {
        if extent.offset > at {
            free.push(Extent {
                offset: at,
                len: extent.offset.min(end).saturating_sub(at),
            });
        }
        at = at.max(extent.offset.saturating_add(extent.len));
    }
    free
}

impl Change {
    /// Where the last byte that may be written ends.
    fn end(&self) -> u64 {
        let areas = self.areas.iter().map(|area| {
            area.offset
                .saturating_add(u64::try_from(area.material.len()).unwrap_or(u64::MAX))
        });
        let unused = self
            .unused
            .iter()
            .map(|extent| extent.offset.saturating_add(extent.len));
        areas
            .chain(unused)
            .max()
            .unwrap_or(0)
            .max(self.header_size.saturating_mul(2))
    }

    fn write(self, sink: &dyn Sink) -> io::Result<Rekeyed> {
        for area in &self.areas {
            sink.write_at(&area.material, area.offset)?;
        }
        sink.sync()?;
        // The copy that is in use is the last to go.
        let [first, second] = self.headers;
        let mut order = [(first, 0), (second, self.header_size)];
        if self.second_first {
            order.reverse();
        }
        for (header, at) in order {
            sink.write_at(&header, at)?;
            sink.sync()?;
        }
        // What no header names any more: the old keyslots, and what an earlier call could not wipe.
        for extent in self.unused {
            sink::wipe(sink, extent.offset, extent.offset.saturating_add(extent.len))?;
        }
        sink.sync()?;
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests;
