//! Storage root keys: the parents of what is sealed, and the keys that salt the sessions in which secrets cross the bus.
//!
//! Owns: loading one by its template ([`StorageTemplate`]): systemd 252's own, made anew each time, or the TCG's, used at
//! 0x81000001 where it is persistent; and pinning. A session is as good as the key that salts it: an interposer on the bus
//! that answers with a key of its own reads everything. A [`SrkPin`], kept since the device was enrolled, names the key, and
//! any other is refused before a secret moves.
//! Limits: a pinned key is always made anew from its template, because tpm2-tss does not compare the Name that it reads of
//! a persistent key with the area beside it. So a persistent key that was made with a unique field of its own cannot be
//! pinned; the TCG's zeros, and an empty one as systemd makes it, both can.

use domain::{TpmName, TpmPublic};
use evidence::{StorageKey, StorageTemplate};
use tss_esapi::{handles::KeyHandle, interface_types::resource_handles::Hierarchy, structures::Public};

use crate::{Tpm, TpmError, ek::marshalled, error::Doing as _, template};

/// Where the TCG's storage root key is persistent (TCG TPM v2.0 Provisioning Guidance 7.8).
pub const SRK_HANDLE: u32 = 0x8100_0001;
/// `IESYSC_KEY_RSRC` of tpm2-tss.
const ESYS_KEY: u32 = 1;

/// The storage key of one template that a TPM is known to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrkPin {
    /// Which of its keys.
    pub template: StorageTemplate,
    /// The key's Name, which is a digest of its public area.
    pub name: TpmName,
}

impl From<&StorageKey> for SrkPin {
    fn from(key: &StorageKey) -> Self {
        Self {
            template: key.template(),
            name: key.name().clone(),
        }
    }
}

/// A token's `tpm2_srk`: the TCG's storage root key as tpm2-tss serializes what is at a handle (`Esys_TR_Serialize`):
/// handle, `TPM2B_NAME`, kind, `TPM2B_PUBLIC`. systemd since 254 writes it, and looks for the key at that handle.
///
/// # Errors
/// [`TpmError::Malformed`] for a key of another template, which is never at that handle.
pub fn srk_to_token(key: &StorageKey) -> Result<Vec<u8>, TpmError> {
    if key.template() != StorageTemplate::TcgEcc {
        return Err(TpmError::Malformed("the storage root key (it is not the TCG's)"));
    }
    let mut bytes = SRK_HANDLE.to_be_bytes().to_vec();
    put_2b(&mut bytes, key.name().as_bytes())?;
    bytes.extend_from_slice(&ESYS_KEY.to_be_bytes());
    put_2b(&mut bytes, key.public().as_bytes())?;
    Ok(bytes)
}

/// Reads a token's `tpm2_srk` back. The Name in it must be that of the public area.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn srk_from_token(bytes: &[u8]) -> Result<StorageKey, TpmError> {
    read_token(bytes).ok_or(TpmError::Malformed("the token's storage root key"))
}

fn read_token(bytes: &[u8]) -> Option<StorageKey> {
    let rest = bytes.strip_prefix(&SRK_HANDLE.to_be_bytes())?;
    let (size, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
    let rest = rest.strip_prefix(&ESYS_KEY.to_be_bytes())?;
    let area = crate::ak::unsized_2b(rest)?;
    let key = StorageKey::new(&TpmPublic::try_from(area.to_vec()).ok()?).ok()?;
    (key.template() == StorageTemplate::TcgEcc && key.name().as_bytes() == name).then_some(key)
}

pub(crate) fn put_2b(to: &mut Vec<u8>, content: &[u8]) -> Result<(), TpmError> {
    let size = u16::try_from(content.len()).map_err(|_| TpmError::Nonsense("a structure of that size"))?;
    to.extend_from_slice(&size.to_be_bytes());
    to.extend_from_slice(content);
    Ok(())
}

impl Tpm {
    /// From now on only these keys salt sessions and are parents. For a template without a pin nothing is done any more.
    pub fn pin_storage_keys(&mut self, pins: impl IntoIterator<Item = SrkPin>) {
        self.pins = pins.into_iter().collect();
    }

    /// Makes a storage key from its template and reads its public area. Unverified, unless it is pinned: the word of
    /// whoever answers. A persistent key at [`SRK_HANDLE`] is not looked at.
    ///
    /// # Errors
    /// [`TpmError::Refused`]; [`TpmError::AnotherSrk`] where it is pinned.
    pub fn storage_key(&mut self, template: StorageTemplate) -> Result<StorageKey, TpmError> {
        self.with_primary(template, |_, _, key| Ok(key))
    }

    /// Whether the TCG's storage root key, or one of the same template with another point, is persistent at
    /// [`SRK_HANDLE`], and that key.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn persistent_storage_key(&mut self) -> Result<Option<StorageKey>, TpmError> {
        let found = self.with_persistent(SRK_HANDLE, |tpm, srk| {
            tpm.plain(|c| c.read_public(srk))
                .doing("read the storage root key")
        })?;
        let Some((public @ (Public::Ecc { .. } | Public::Rsa { .. }), _, _)) = found else {
            return Ok(None);
        };
        let key = StorageKey::new(&marshalled(&public)?).ok();
        Ok(key.filter(|key| key.template() == StorageTemplate::TcgEcc))
    }

    /// Loads a storage key for `f` and flushes it.
    pub(crate) fn with_storage_parent<T, E: From<TpmError>>(
        &mut self,
        template: StorageTemplate,
        f: impl FnOnce(&mut Self, KeyHandle) -> Result<T, E>,
    ) -> Result<T, E> {
        let unpinned = self.pins.is_empty();
        if unpinned && template == StorageTemplate::TcgEcc && self.persistent_storage_key()?.is_some() {
            let done = self.with_persistent(SRK_HANDLE, f)?;
            return done.ok_or_else(|| TpmError::Nonsense("a storage root key that came and went").into());
        }
        self.with_primary(template, |tpm, handle, _| f(tpm, handle))
    }

    /// The templates under which something may be looked for: `first`, then what else there may be.
    pub(crate) fn templates(&self, wanted: &[StorageTemplate]) -> Vec<StorageTemplate> {
        let pinned = |template: &StorageTemplate| {
            self.pins.is_empty() || self.pins.iter().any(|pin| pin.template == *template)
        };
        wanted.iter().copied().filter(pinned).collect()
    }

    /// The template of the key that salts a session in which nothing is under a storage key.
    pub(crate) fn salting_template(&self) -> StorageTemplate {
        self.pins
            .first()
            .map_or(StorageTemplate::TcgEcc, |pin| pin.template)
    }

    fn with_primary<T, E: From<TpmError>>(
        &mut self,
        template: StorageTemplate,
        f: impl FnOnce(&mut Self, KeyHandle, StorageKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let (handle, key) = self.load_primary(template)?;
        self.flush_after(handle.into(), |tpm| f(tpm, handle, key))
    }

    /// Makes the first key of the template that is pinned, or the first one where none is.
    fn load_primary(&mut self, template: StorageTemplate) -> Result<(KeyHandle, StorageKey), TpmError> {
        for area in template::storage_parents(template)? {
            let primary = self
                .with_password(|c| c.create_primary(Hierarchy::Owner, area, None, None, None, None))
                .doing("make the storage primary")?;
            // tpm2-tss salts sessions with this area, so its Name is computed from it and not asked for.
            let key = marshalled(&primary.out_public)
                .ok()
                .and_then(|area| StorageKey::new(&area).ok())
                .filter(|key| key.template() == template);
            match key {
                Some(key) if self.pins.is_empty() || self.pins.contains(&SrkPin::from(&key)) => {
                    return Ok((primary.key_handle, key));
                }
                found => {
                    self.flush_after::<_, TpmError>(primary.key_handle.into(), |_| Ok(()))?;
                    found.ok_or(TpmError::Nonsense("a storage key that is not of its template"))?;
                }
            }
        }
        Err(TpmError::AnotherSrk(template))
    }
}
