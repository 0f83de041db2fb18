//! The plan: what `apply` will do, as data. Printable, comparable, digestible; nothing here touches the world.
//!
//! Owns: the steps and their order. Steps that cannot be undone are a type of their own, [`Irreversible`], and the
//! engine takes them only with a [`Confirmed`], which only a matching plan digest makes.

mod allow;
mod certificate;
mod decide;
mod demand;
mod proof;
mod refusal;
mod show;
#[cfg(test)]
mod tests;
mod trust;
mod wanted;
mod worth;

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use domain::{DeviceId, EkDigest, FleetName, PolicyName, ProfileName, Sha256Digest};
use registry::{EkTrust, PolicyRecord, Revision};
use serde::{Serialize, Serializer};
use tpm::{AkHandle, EkAlg, RollbackIndex, Tcti};
use volume::{DataCipher, DeviceConfig, SectorSize};

use crate::sealing::SealWish;

pub(crate) use allow::allowances;
pub(crate) use certificate::CertificateTarget;
pub(crate) use decide::{AkSeen, Observed, Registered, TpmSeen, VolumeSeen, decide, policy_step};
pub(crate) use demand::demands;
pub(crate) use proof::Proof;
pub(crate) use refusal::Refusal;
pub(crate) use trust::{Certified, Uncertified, certified};
pub(crate) use wanted::{Choice, Unfit, Wanted, WantedTpm, policy_record, wanted};

/// Everything that one `apply` will do.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) fleet: FleetName,
    /// First: policies, so that no device is ever registered under one that is missing.
    pub(crate) policies: Vec<PolicyStep>,
    /// Then the devices, one after the other.
    pub(crate) devices: Vec<DevicePlan>,
}

/// A policy that the registry lacks or has otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyStep {
    pub(crate) policy: PolicyName,
    pub(crate) record: PolicyRecord,
    /// The write that it replaces; `None`: it is new.
    #[serde(serialize_with = "revision")]
    pub(crate) replaces: Option<Revision>,
    /// Whether the one that it replaces looked at client certificates and it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) drops_certificates: bool,
}

/// What will be done for one device, and what that device's quotes are worth.
#[derive(Debug, Serialize)]
pub(crate) struct DevicePlan {
    pub(crate) device: DeviceId,
    pub(crate) target: Target,
    /// Done before the steps, and only when confirmed.
    pub(crate) irreversible: Vec<Irreversible>,
    pub(crate) steps: Vec<Step>,
    pub(crate) proof: Proof,
    /// What its volume's seal protects from, and what not.
    pub(crate) protects: Vec<String>,
    /// What a person should know before going on.
    pub(crate) notes: Vec<String>,
}

/// Where a device's parts are and what they will be.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// What keeps the secret that opens the volume.
    #[serde(flatten)]
    pub(crate) store: Store,
    #[serde(serialize_with = "path")]
    pub(crate) volume: PathBuf,
    pub(crate) size: u64,
    #[serde(serialize_with = "cipher")]
    pub(crate) cipher: DataCipher,
    #[serde(serialize_with = "sectors")]
    pub(crate) sector_size: SectorSize,
    /// The folder that goes into the volume.
    #[serde(serialize_with = "some_path", skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<PathBuf>,
    /// To whom the volume's recovery key is encrypted, and where the file goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) escrow: Vec<String>,
    #[serde(serialize_with = "path")]
    pub(crate) escrow_file: PathBuf,
    pub(crate) force_uninitialised: bool,
    pub(crate) config: DeviceConfig,
    pub(crate) policy: PolicyName,
    pub(crate) profile: ProfileName,
    /// Its client certificate, as it is and as it will be.
    #[serde(skip_serializing_if = "CertificateTarget::is_none")]
    pub(crate) client_certificate: CertificateTarget,
    pub(crate) measured_boot: bool,
    /// How many entries the journal had when the plan was made; more mean that another run came between.
    #[serde(skip)]
    pub(crate) journal_entries: usize,
}

/// What keeps the secret that opens a volume.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "key_store", rename_all = "kebab-case")]
pub(crate) enum Store {
    /// A TPM.
    Tpm(Box<TpmTarget>),
    /// The OTP device key of the board at hand.
    Otp,
}

/// Which TPM, and what of it is used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TpmTarget {
    #[serde(serialize_with = "text")]
    pub(crate) tcti: Tcti,
    #[serde(serialize_with = "text")]
    pub(crate) ek_alg: EkAlg,
    /// The endorsement key that was seen when the plan was made; the engine insists on it.
    pub(crate) ek: EkDigest,
    pub(crate) ek_trust: EkTrust,
    /// What its certificate says, where that is why it is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ek_certified: Option<Certified>,
    #[serde(serialize_with = "text")]
    pub(crate) ak_handle: AkHandle,
    pub(crate) seal: SealWish,
    /// Where the TPM counts the volume's generations; an older one is refused.
    #[serde(serialize_with = "some_text", skip_serializing_if = "Option::is_none")]
    pub(crate) rollback_counter: Option<RollbackIndex>,
}

impl Target {
    /// The TPM, where there is one.
    pub(crate) fn tpm(&self) -> Option<&TpmTarget> {
        match &self.store {
            Store::Tpm(tpm) => Some(tpm),
            Store::Otp => None,
        }
    }
}

/// A step that can be repeated or undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Make the attestation key.
    CreateAk,
    /// Let the TPM prove that endorsement key and attestation key are in it together.
    Bind,
    /// Make a pre-shared key and a volume around it.
    WriteVolume {
        /// Whether one that an earlier run wrote, and that was never registered, is replaced.
        replace_own: bool,
    },
    /// Open the volume through its key store, as the device will.
    CheckVolume,
    /// Register the device: the last step, in one transaction.
    Enrol,
    /// Change what the registry says about a device; its sessions end.
    UpdateRecord,
}

/// A step that cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum Irreversible {
    /// Remove the key that is at the attestation key's handle. It exists nowhere else.
    EvictKey,
    /// Overwrite a file that we did not write. Whatever key was in it is lost.
    OverwriteVolume,
}

/// That the plan's digest was confirmed. Only [`Plan::confirm`] makes one.
#[derive(Debug)]
pub(crate) struct Confirmed(());

impl Plan {
    /// SHA-256 over the plan as JSON: the same world and wish, the same digest.
    pub(crate) fn digest(&self) -> Sha256Digest {
        // A plan is plain data, which always has a JSON form. Should one have none, it still must not share its digest
        // with another: whoever confirmed that one would have confirmed this.
        let text = serde_json::to_vec(self).unwrap_or_else(|_| format!("{self:?}").into_bytes());
        Sha256Digest::of(&text)
    }

    /// Whether a step in it cannot be undone.
    pub(crate) fn is_irreversible(&self) -> bool {
        self.devices.iter().any(|device| !device.irreversible.is_empty())
    }

    /// Takes the confirmation, if it is for this plan; a plan without irreversible steps needs none.
    pub(crate) fn confirm(&self, digest: Option<&Sha256Digest>) -> Result<Confirmed, Refusal> {
        let own = self.digest();
        match digest {
            Some(given) if *given == own => Ok(Confirmed(())),
            Some(_) => Err(Refusal::OtherPlan { own }),
            None if self.is_irreversible() => Err(Refusal::Unconfirmed { own }),
            None => Ok(Confirmed(())),
        }
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        let idle = |device: &DevicePlan| device.steps.is_empty() && device.irreversible.is_empty();
        self.policies.is_empty() && self.devices.iter().all(idle)
    }
}

/// A path as it is; one that is not text, which JSON cannot hold, as its bytes: no two paths look the same.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => {
            let hex = data_encoding::HEXLOWER.encode(path.as_os_str().as_bytes());
            serializer.collect_map([("bytes", hex)])
        }
    }
}

fn cipher<S: Serializer>(value: &DataCipher, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

fn sectors<S: Serializer>(value: &SectorSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.bytes_u64())
}

fn some_path<S: Serializer>(value: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => path(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn some_text<S: Serializer>(
    value: &Option<impl std::fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => text(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn revision<S: Serializer>(value: &Option<Revision>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(revision) => serializer.serialize_some(&revision.get()),
        None => serializer.serialize_none(),
    }
}
