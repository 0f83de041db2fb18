//! From the manifest to what one device should be, with what the command line changes.

use std::{collections::BTreeMap, path::PathBuf};

use domain::{DeviceId, PcrSelection, PolicyName, ProfileName};
use evidence::{DeclaredPolicy, Roots};
use manifest::{
    Cipher, Device, EkKind, EkTrust, Fleet, KeyStore, Policy, Profile, SectorSize, Srk, TpmStore,
};
use registry::{CertificateRule, PolicyRecord, Version1};
use tpm::{AkHandle, EkAlg, InvalidHandle, InvalidIndex, InvalidTcti, PolicyKey, RollbackIndex, Tcti};
use volume::DeviceConfig;

use crate::{
    adapters::escrows::beside, certificates::Certificate, cli, escrow::Recipients, sealing::SealWish,
};

/// What the command line says beside the manifest.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Where relative volume paths start.
    pub(crate) folder: PathBuf,
    /// The TPM to use instead of the manifest's.
    pub(crate) tcti: Option<Tcti>,
    /// The makers' certificates of the profiles that want a chain.
    pub(crate) roots: BTreeMap<ProfileName, Roots>,
    /// The policy keys of the profiles that seal to one.
    pub(crate) policy_keys: BTreeMap<ProfileName, PolicyKey>,
    /// The client certificates of the devices that have one.
    pub(crate) certificates: BTreeMap<DeviceId, Certificate>,
    /// Where relative paths start of what is read: the manifest's folder.
    pub(crate) read_from: PathBuf,
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
    /// Its TPM; `None`: it has none, and an OTP device key keeps its volume.
    pub(crate) tpm: Option<WantedTpm>,
    pub(crate) measured_boot: bool,
    pub(crate) volume: PathBuf,
    pub(crate) size: u64,
    pub(crate) cipher: volume::DataCipher,
    pub(crate) sector_size: volume::SectorSize,
    /// The folder that goes into the volume.
    pub(crate) content: Option<PathBuf>,
    /// The age keys of those who keep recovery keys; each was read once.
    pub(crate) escrow: Vec<String>,
    /// Where the encrypted recovery key goes, where there are keepers.
    pub(crate) escrow_file: PathBuf,
    pub(crate) evidence: Option<DeclaredPolicy>,
    /// What its policy says of client certificates.
    pub(crate) certificate_rule: Option<CertificateRule>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) config: DeviceConfig,
    pub(crate) force: bool,
    pub(crate) force_uninitialised: bool,
}

/// What the TPM of a device should be and hold.
#[derive(Debug, Clone)]
pub(crate) struct WantedTpm {
    pub(crate) tcti: Tcti,
    pub(crate) ek_alg: EkAlg,
    pub(crate) ek_trust: EkTrust,
    pub(crate) roots: Roots,
    pub(crate) ak_handle: AkHandle,
    pub(crate) seal: SealWish,
    pub(crate) rollback_counter: Option<RollbackIndex>,
}

/// Why a manifest's text is refused by the crate that uses it. The manifest's own reader takes no such text, so this is
/// a difference between two grammars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("device '{device}': its rollback counter cannot be used")]
    Counter { device: DeviceId, source: InvalidIndex },
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
    #[error("device '{device}': its profile's policy key was not read")]
    NoPolicyKey { device: DeviceId },
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
    if !fleet.escrow.is_empty() {
        Recipients::parse(&fleet.escrow).map_err(Unfit::Escrow)?;
    }
    let (tpm, ak_handle) = match &profile.key_store {
        KeyStore::Tpm(store) => (Some(tpm(device, store, choice)?), Some(store.ak_handle)),
        // A kind of key store that this program does not know yet has no TPM either; `manifest` reads none.
        _ => (None, None),
    };
    let config = DeviceConfig {
        fleet: fleet.name.clone(),
        device: device.id.clone(),
        audience: fleet.audience.clone(),
        proxy: fleet.proxy.clone(),
        ak_handle,
        pcrs: policy.evidence.as_ref().map(DeclaredPolicy::selection),
    };
    let spec = &profile.volume;
    let volume = choice.folder.join(spec.path_for(&device.id));
    let escrow_file = spec.escrow_path_for(&device.id);
    Ok(Wanted {
        device: device.id.clone(),
        policy: device.policy.clone(),
        profile: device.profile.clone(),
        tpm,
        measured_boot: profile.measured_boot,
        size: spec.size,
        cipher: match spec.cipher {
            Cipher::AesXts => volume::DataCipher::AesXts,
            Cipher::Adiantum => volume::DataCipher::Adiantum,
        },
        sector_size: match spec.sector_size {
            SectorSize::B512 => volume::SectorSize::B512,
            SectorSize::B4096 => volume::SectorSize::B4096,
        },
        content: spec
            .content_for(&device.id)
            .map(|content| choice.read_from.join(content)),
        escrow: fleet.escrow.clone(),
        escrow_file: escrow_file.map_or_else(|| beside(&volume), |file| choice.folder.join(file)),
        volume,
        evidence: policy.evidence.clone(),
        certificate_rule: policy.client_certificate.map(certificate_rule),
        certificate: choice.certificates.get(&device.id).cloned(),
        config,
        force: choice.force,
        force_uninitialised: choice.force_uninitialised,
    })
}

fn tpm(device: &Device, store: &TpmStore, choice: &Choice) -> Result<WantedTpm, Unfit> {
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
    let signed = match &store.seal.signed {
        None => None,
        Some(signed) => {
            let key = choice.policy_keys.get(&device.profile);
            let key = key.ok_or_else(|| Unfit::NoPolicyKey {
                device: device.id.clone(),
            })?;
            Some((key.clone(), signed.pcrs))
        }
    };
    let rollback_counter = store
        .seal
        .rollback_counter
        .map(RollbackIndex::try_from)
        .transpose();
    let rollback_counter = rollback_counter.map_err(|source| Unfit::Counter {
        device: device.id.clone(),
        source,
    })?;
    Ok(WantedTpm {
        rollback_counter,
        tcti,
        ek_alg: match store.ek {
            EkKind::Rsa2048 => EkAlg::Rsa2048,
            EkKind::EccP256 => EkAlg::EccP256,
        },
        ek_trust: store.ek_trust.clone(),
        roots: choice.roots.get(&device.profile).cloned().unwrap_or_default(),
        ak_handle,
        seal: SealWish {
            exact: store.seal.exact,
            signed,
            pin: store.seal.pin,
            srk: match store.seal.srk {
                Srk::Systemd252 => cli::Srk::Systemd,
                Srk::Systemd252Rsa => cli::Srk::SystemdRsa,
                Srk::Tcg => cli::Srk::Tcg,
            },
            bank: store.seal.bank,
        },
    })
}

const fn certificate_rule(rule: manifest::CertificateRule) -> CertificateRule {
    match rule {
        manifest::CertificateRule::Accepted => CertificateRule::Accepted,
        manifest::CertificateRule::Required => CertificateRule::Required,
    }
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
        client_certificate: policy.client_certificate.map(certificate_rule),
        session_ttl: policy.session_ttl.as_secs(),
        evidence: policy.evidence.clone(),
    }
}
