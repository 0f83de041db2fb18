//! From the manifest to what one device should be, with what the command line changes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use domain::{DeviceId, PcrSelection, PolicyName, ProfileName};
use evidence::{DeclaredPolicy, Roots};
use manifest::{Cipher, Device, EkKind, EkTrust, Fleet, KeyStore, Policy, Profile};
use registry::{PolicyRecord, Version1};
use tpm::{AkHandle, EkAlg, InvalidHandle, InvalidTcti, Tcti};
use volume::DeviceConfig;

use crate::escrow::Recipients;

/// What the command line says beside the manifest.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Where relative volume paths start.
    pub(crate) folder: PathBuf,
    /// The TPM to use instead of the manifest's.
    pub(crate) tcti: Option<Tcti>,
    /// The makers' certificates of the profiles that want a chain.
    pub(crate) roots: BTreeMap<ProfileName, Roots>,
    /// Whether steps that cannot be undone may be planned.
    pub(crate) force: bool,
    /// Whether sealing to PCRs that nothing measured into is allowed.
    pub(crate) force_uninitialised: bool,
}

/// What one device should be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) device: DeviceId,
    pub(crate) policy: PolicyName,
    pub(crate) profile: ProfileName,
    pub(crate) tcti: Tcti,
    pub(crate) ek_alg: EkAlg,
    pub(crate) ek_trust: EkTrust,
    pub(crate) roots: Roots,
    pub(crate) ak_handle: AkHandle,
    pub(crate) measured_boot: bool,
    pub(crate) volume: PathBuf,
    pub(crate) size: u64,
    pub(crate) cipher: volume::DataCipher,
    /// The age keys of those who keep recovery keys; each was read once.
    pub(crate) escrow: Vec<String>,
    pub(crate) seal: PcrSelection,
    pub(crate) evidence: Option<DeclaredPolicy>,
    pub(crate) config: DeviceConfig,
    pub(crate) force: bool,
    pub(crate) force_uninitialised: bool,
}

/// Why a manifest's text is refused by the crate that uses it. The manifest's own reader takes no such text, so this is
/// a difference between two grammars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("device '{device}': its TPM '{text}' cannot be used")]
    Tcti {
        device: DeviceId,
        text: String,
        source: InvalidTcti,
    },
    #[error("the fleet's `escrow` cannot be used")]
    Escrow(#[source] crate::escrow::RecipientError),
    #[error("device '{device}': its `ak-handle` cannot be used")]
    Handle { device: DeviceId, source: InvalidHandle },
}

impl Wanted {
    /// The PCRs that the policy asks for.
    pub(crate) fn evidence_pcrs(&self) -> Option<PcrSelection> {
        self.evidence.as_ref().map(DeclaredPolicy::selection)
    }
}

/// What each of these devices should be.
pub(crate) fn wanted(fleet: &Fleet, device: &Device, choice: &Choice) -> Result<Option<Wanted>, Unfit> {
    let Some((profile, policy)) = fleet.of(device) else {
        return Ok(None);
    };
    one(fleet, device, profile, policy, choice).map(Some)
}

fn one(
    fleet: &Fleet,
    device: &Device,
    profile: &Profile,
    policy: &Policy,
    choice: &Choice,
) -> Result<Wanted, Unfit> {
    let KeyStore::Tpm(store) = &profile.key_store else {
        // A kind of key store that this program does not know yet; `manifest` reads none.
        return Err(Unfit::Tcti {
            device: device.id.clone(),
            text: "(no TPM)".to_owned(),
            source: InvalidTcti::Kind,
        });
    };
    let tcti = match &choice.tcti {
        Some(tcti) => tcti.clone(),
        None => {
            let text = device.tcti.as_ref().unwrap_or(&store.tcti);
            text.parse().map_err(|source| Unfit::Tcti {
                device: device.id.clone(),
                text: text.clone(),
                source,
            })?
        }
    };
    let ak_handle = AkHandle::try_from(store.ak_handle).map_err(|source| Unfit::Handle {
        device: device.id.clone(),
        source,
    })?;
    if !fleet.escrow.is_empty() {
        Recipients::parse(&fleet.escrow).map_err(Unfit::Escrow)?;
    }
    let config = DeviceConfig {
        fleet: fleet.name.clone(),
        device: device.id.clone(),
        audience: fleet.audience.clone(),
        proxy: fleet.proxy.clone(),
        ak_handle: store.ak_handle,
        pcrs: policy.evidence.as_ref().map(DeclaredPolicy::selection),
    };
    Ok(Wanted {
        device: device.id.clone(),
        policy: device.policy.clone(),
        profile: device.profile.clone(),
        tcti,
        ek_alg: match store.ek {
            EkKind::Rsa2048 => EkAlg::Rsa2048,
            EkKind::EccP256 => EkAlg::EccP256,
        },
        ek_trust: store.ek_trust.clone(),
        roots: choice.roots.get(&device.profile).cloned().unwrap_or_default(),
        ak_handle,
        measured_boot: profile.measured_boot,
        volume: choice
            .folder
            .join(Path::new(&profile.volume.path_for(&device.id))),
        size: profile.volume.size,
        cipher: match profile.volume.cipher {
            Cipher::AesXts => volume::DataCipher::AesXts,
            Cipher::Adiantum => volume::DataCipher::Adiantum,
        },
        escrow: fleet.escrow.clone(),
        seal: profile.volume.seal,
        evidence: policy.evidence.clone(),
        config,
        force: choice.force,
        force_uninitialised: choice.force_uninitialised,
    })
}

/// A policy as the registry keeps it, at its own revision 1.
pub(crate) fn policy_record(policy: &Policy) -> PolicyRecord {
    PolicyRecord {
        version: Version1,
        revision: 1,
        models: policy.models.clone(),
        endpoints: policy.endpoints.clone(),
        options: policy.options.clone(),
        limits: policy.limits,
        session_ttl: policy.session_ttl.as_secs(),
        evidence: policy.evidence.clone(),
    }
}
