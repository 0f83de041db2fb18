//! Refusing an older volume of the same device: a counter in the TPM's NV memory, and the generation that a volume carries.
//!
//! Owns: the index, its checks and the comparison. A volume carries its [`Generation`] where nobody can change it without
//! its secret (the authenticated header); the TPM's counter is the youngest one that may open. Who makes a volume of the next
//! generation writes it first and raises the counter then, so that a power cut between the two leaves both openable.
//! What the operating system can do: it can raise the counter, and delete it, and then nothing opens until the device is
//! provisioned again; it cannot lower it. A TPM starts a new counter above the highest that it ever had (TPM 2.0 Library part 1,
//! 37.2.6), and an index that is no such counter is refused. TPM2_Clear ends it, and every sealed secret with it.
//! Why no write-locked index with a digest: whoever has the (empty) owner password deletes it and defines another.

use std::fmt;

use domain::Generation;
use sha2::{Digest as _, Sha256};
use tss_esapi::{
    attributes::{NvIndexAttributes, SessionAttributesBuilder},
    constants::SessionType,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{Digest, NvPublicBuilder},
};

use crate::{Tpm, TpmError, error::Doing as _};

/// A counter's width in bytes.
const WIDTH: u16 = 8;
/// `TPMA_NV`: a counter, read and raised with its empty password. noDA, because there is nothing to guess and a lockout
/// must not keep volumes closed.
const ATTRIBUTES: u32 = 1 << 4 | 1 << 2 | 1 << 18 | 1 << 25;
/// Set once it was raised for the first time.
const WRITTEN: u32 = 1 << 29;
/// `TPM_ALG_SHA256`.
const SHA256: [u8; 2] = [0, 0x0b];
/// Nobody makes that many volumes between two openings.
const MOST_STEPS: u64 = 16;

/// Where the counter is: 0x01800000 to 0x01bfffff, the owner's range (TCG "Registry of Reserved TPM 2.0 Handles").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollbackIndex(u32);

/// Why a number is no index for the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an NV index of the owner is 0x01800000 to 0x01bfffff")]
pub struct InvalidIndex;

impl RollbackIndex {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for RollbackIndex {
    /// 0x01800020.
    fn default() -> Self {
        Self(0x0180_0020)
    }
}

impl TryFrom<u32> for RollbackIndex {
    type Error = InvalidIndex;

    fn try_from(index: u32) -> Result<Self, InvalidIndex> {
        match index {
            0x0180_0000..=0x01bf_ffff => Ok(Self(index)),
            _ => Err(InvalidIndex),
        }
    }
}

impl fmt::Display for RollbackIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Why a volume is not fresh, or its counter not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// An older volume was put back.
    #[error("the volume is of generation {volume} and the TPM knows of {tpm}: an older volume was put back")]
    Older {
        /// The volume's.
        volume: Generation,
        /// The TPM's.
        tpm: Generation,
    },
    /// Further ahead than a power cut explains.
    #[error("the volume is of generation {volume}, too far ahead of the TPM's {tpm}")]
    TooFarAhead {
        /// The volume's.
        volume: Generation,
        /// The TPM's.
        tpm: Generation,
    },
    /// The index is not there.
    #[error("no rollback counter is at NV index {0}")]
    Missing(RollbackIndex),
    /// Something else is there.
    #[error("what is at NV index {0} is not a rollback counter")]
    Foreign(RollbackIndex),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl RollbackError {
    /// What a person can do about it, where something can be done.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Older { .. } | Self::TooFarAhead { .. } => {
                Some("put the device's newest volume back, or provision it anew")
            }
            Self::Missing(_) => Some("was the TPM cleared or the counter deleted? provision the device anew"),
            Self::Foreign(_) => Some("choose another index; tpm2_nvreadpublic lists what is there"),
            Self::Tpm(error) => error.hint(),
        }
    }
}

/// That a volume is not older than its TPM knows. Made by [`Tpm::check_generation`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRolledBack {
    volume: Generation,
    tpm: Generation,
}

impl NotRolledBack {
    /// Whether the volume was written and the counter not raised yet: [`Tpm::raise_generation`] does it.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.volume > self.tpm
    }
}

impl Tpm {
    /// Makes the counter, or takes the sound one that is there, and reads it.
    ///
    /// # Errors
    /// [`RollbackError::Foreign`], [`RollbackError::Tpm`].
    pub fn define_generation(&mut self, index: RollbackIndex) -> Result<Generation, RollbackError> {
        if self.exists(index.get())? {
            // Power may have been cut between its making and its first step.
            if !self.is_written(index)? {
                self.step(index)?;
            }
            return self.generation(index);
        }
        let doing = "define the rollback counter";
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index.get()).doing(doing)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(NvIndexAttributes::try_from(ATTRIBUTES).doing(doing)?)
            .with_index_auth_policy(Digest::default())
            .with_data_area_size(usize::from(WIDTH))
            .build()
            .doing(doing)?;
        let defined = self
            .with_password(|c| c.nv_define_space(Provision::Owner, None, public))
            .doing(doing)?;
        let mut object = defined.into();
        self.context.tr_close(&mut object).doing(doing)?;
        // A counter cannot be read before its first step.
        self.step(index)?;
        self.generation(index)
    }

    /// Reads the counter; the answer is authenticated by a salted session.
    ///
    /// # Errors
    /// [`RollbackError::Missing`], [`RollbackError::Foreign`], [`RollbackError::Tpm`].
    pub fn generation(&mut self, index: RollbackIndex) -> Result<Generation, RollbackError> {
        self.with_counter(index, |tpm, handle, session| {
            let doing = "read the rollback counter";
            tpm.encrypt_only(session)?;
            let read = tpm
                .context
                .execute_with_session(Some(session), |c| {
                    c.nv_read(NvAuth::NvIndex(handle), handle, WIDTH, 0)
                })
                .doing(doing)?;
            let bytes = read
                .value()
                .try_into()
                .map_err(|_| TpmError::Nonsense("a counter of another width"))?;
            Ok(Generation(u64::from_be_bytes(bytes)))
        })
    }

    /// Compares a volume's generation with the counter.
    ///
    /// # Errors
    /// [`RollbackError`].
    pub fn check_generation(
        &mut self,
        index: RollbackIndex,
        volume: Generation,
    ) -> Result<NotRolledBack, RollbackError> {
        let tpm = self.generation(index)?;
        if volume < tpm {
            return Err(RollbackError::Older { volume, tpm });
        }
        if volume.0.saturating_sub(tpm.0) > MOST_STEPS {
            return Err(RollbackError::TooFarAhead { volume, tpm });
        }
        Ok(NotRolledBack { volume, tpm })
    }

    /// Raises the counter to the generation of a volume that was found fresh: what is older does not open any more.
    ///
    /// # Errors
    /// [`RollbackError`].
    pub fn raise_generation(
        &mut self,
        index: RollbackIndex,
        fresh: NotRolledBack,
    ) -> Result<Generation, RollbackError> {
        let mut now = self.generation(index)?;
        // Bounded: `fresh` is at most some steps ahead of a counter that never goes back.
        while now < fresh.volume {
            self.step(index)?;
            now = self.generation(index)?;
        }
        Ok(now)
    }

    /// Deletes the counter. No volume with a generation opens any more, and a counter that is made again starts higher.
    ///
    /// # Errors
    /// [`RollbackError::Missing`], [`RollbackError::Foreign`], [`RollbackError::Tpm`].
    pub fn delete_generation(&mut self, index: RollbackIndex) -> Result<(), RollbackError> {
        let doing = "delete the rollback counter";
        let handle = self.open_counter(index)?;
        let deleted = self
            .with_password(|c| c.nv_undefine_space(Provision::Owner, handle))
            .doing(doing);
        // tss-esapi has forgotten it where that succeeded.
        let _ = self.context.tr_close(&mut handle.into());
        Ok(deleted?)
    }

    /// Whether the counter was ever raised; before that it cannot be read.
    fn is_written(&mut self, index: RollbackIndex) -> Result<bool, RollbackError> {
        let doing = "open the rollback counter";
        let handle = self.open_counter(index)?;
        let name = self.context.tr_get_name(handle.into()).doing(doing);
        self.context.tr_close(&mut handle.into()).doing(doing)?;
        Ok(name?.value() == name_of(index, ATTRIBUTES | WRITTEN))
    }

    fn step(&mut self, index: RollbackIndex) -> Result<(), RollbackError> {
        self.with_counter(index, |tpm, handle, session| {
            let doing = "raise the rollback counter";
            // Nothing goes either way that could be encrypted.
            let (none, mask) = SessionAttributesBuilder::new()
                .with_decrypt(false)
                .with_encrypt(false)
                .build();
            tpm.context
                .tr_sess_set_attributes(session, none, mask)
                .doing(doing)?;
            tpm.context
                .execute_with_session(Some(session), |c| c.nv_increment(NvAuth::NvIndex(handle), handle))
                .doing(doing)
        })
    }

    /// Runs `f` on the counter with a salted session that authorizes and authenticates, and forgets it here.
    fn with_counter<T>(
        &mut self,
        index: RollbackIndex,
        f: impl FnOnce(&mut Self, NvIndexHandle, AuthSession) -> Result<T, TpmError>,
    ) -> Result<T, RollbackError> {
        let handle = self.open_counter(index)?;
        let template = self.salting_template();
        let result = self.with_storage_parent(template, |tpm, srk| {
            tpm.with_salted_session(srk, SessionType::Hmac, |tpm, session| f(tpm, handle, session))
        });
        let closed = self
            .context
            .tr_close(&mut handle.into())
            .doing("forget the rollback counter");
        let value = result?;
        closed?;
        Ok(value)
    }

    /// Opens the index, which must be a counter of ours. That is judged by its Name, which goes into the HMAC of every
    /// session that uses it: a meddling bus that names another index than the TPM has gets no further.
    fn open_counter(&mut self, index: RollbackIndex) -> Result<NvIndexHandle, RollbackError> {
        let doing = "open the rollback counter";
        if !self.exists(index.get())? {
            return Err(RollbackError::Missing(index));
        }
        let number = NvIndexTpmHandle::new(index.get()).doing(doing)?;
        let mut object = self
            .plain(|c| c.tr_from_tpm_public(TpmHandle::NvIndex(number)))
            .doing(doing)?;
        let name = self.context.tr_get_name(object).doing(doing);
        let ours = [ATTRIBUTES, ATTRIBUTES | WRITTEN].map(|attributes| name_of(index, attributes));
        if name
            .as_ref()
            .is_ok_and(|name| ours.iter().any(|our| our == name.value()))
        {
            return Ok(NvIndexHandle::from(object));
        }
        self.context.tr_close(&mut object).doing(doing)?;
        name?;
        Err(RollbackError::Foreign(index))
    }
}

/// The Name of an index (TPM 2.0 Library part 1, 16): the hash of its `TPMS_NV_PUBLIC`.
fn name_of(index: RollbackIndex, attributes: u32) -> Vec<u8> {
    let area = Sha256::new()
        .chain_update(index.get().to_be_bytes())
        .chain_update(SHA256)
        .chain_update(attributes.to_be_bytes())
        .chain_update([0, 0])
        .chain_update(WIDTH.to_be_bytes())
        .finalize();
    [&SHA256[..], &area].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_the_owners() {
        assert_eq!(RollbackIndex::default().to_string(), "0x01800020");
        assert_eq!(RollbackIndex::try_from(0x0180_0020), Ok(RollbackIndex::default()));
        for bad in [0x017f_ffff, 0x01c0_0002, 0x8180_0000, 0] {
            assert_eq!(RollbackIndex::try_from(bad), Err(InvalidIndex), "{bad:#x}");
        }
    }
}
