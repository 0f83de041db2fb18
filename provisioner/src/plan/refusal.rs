//! What is refused by policy: exit code 3, each with what to do instead.

use std::path::PathBuf;

use domain::{CertificateKeyDigest, DeviceId, EkDigest, PcrIndex, Sha256Digest};
use tpm::AkHandle;

/// Why something will not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "device '{device}' is registered with another endorsement key: {registered}, this TPM has {found}"
    )]
    OtherEk {
        device: DeviceId,
        registered: EkDigest,
        found: EkDigest,
    },
    #[error("device '{device}' is registered without a TPM")]
    NoTpmRegistered { device: DeviceId },
    #[error("device '{device}' is registered with a TPM, and its profile says that it has none")]
    TpmRegistered { device: DeviceId },
    #[error("device '{device}': its TPM was not looked at")]
    NotLookedAt { device: DeviceId },
    #[error(
        "devices '{first}' and '{second}' would be the same board: both open with the OTP device key at hand"
    )]
    SameBoard { first: DeviceId, second: DeviceId },
    #[error("the client certificate's key {key} of device '{device}' belongs to device '{owner}', or did")]
    CertificateTaken {
        device: DeviceId,
        key: CertificateKeyDigest,
        owner: DeviceId,
    },
    #[error("the client certificate's key {key} of device '{device}' was taken from it before")]
    CertificateEnded {
        device: DeviceId,
        key: CertificateKeyDigest,
    },
    #[error("device '{0}' is retired")]
    Retired(DeviceId),
    #[error("this TPM's endorsement key {ek} belongs to device '{owner}'")]
    EkTaken { ek: EkDigest, owner: DeviceId },
    #[error("devices '{first}' and '{second}' would be the same TPM, {ek}")]
    SameTpm {
        first: DeviceId,
        second: DeviceId,
        ek: EkDigest,
    },
    #[error("device '{device}': the endorsement key {ek} is not trusted: {why}")]
    EkUncertified {
        device: DeviceId,
        ek: EkDigest,
        why: String,
        hint: Option<String>,
    },
    #[error("the endorsement key {0} is not on the profile's list")]
    EkNotAllowed(EkDigest),
    #[error("the attestation key that is registered for '{device}' is not at {handle}")]
    AkLost { device: DeviceId, handle: AkHandle },
    #[error("{handle} holds something that is not an attestation key under this endorsement key")]
    HandleTaken { handle: AkHandle },
    #[error("'{}' exists: {why}", path.display())]
    VolumeExists { path: PathBuf, why: String },
    #[error("the volume of the registered device '{device}' is not at '{}'", path.display())]
    VolumeLost { device: DeviceId, path: PathBuf },
    #[error("'{}' is not the volume of the registered device '{device}': {why}", path.display())]
    VolumeForeign {
        device: DeviceId,
        path: PathBuf,
        why: String,
    },
    #[error("nothing was measured into {}", list(.0))]
    Uninitialised(Vec<PcrIndex>),
    #[error("the plan has steps that cannot be undone")]
    Unconfirmed { own: Sha256Digest },
    #[error("the confirmation is for another plan than this one, {own}")]
    OtherPlan { own: Sha256Digest },
    #[error("device '{device}' is {state} and cannot be {wish}")]
    State {
        device: DeviceId,
        state: &'static str,
        wish: &'static str,
    },
    #[error("device '{0}' is not registered")]
    NotRegistered(DeviceId),
}

impl Refusal {
    /// What to do instead.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::OtherEk { .. } => {
                "an id is one TPM for good: give the new machine an id of its own".to_owned()
            }
            Self::NoTpmRegistered { .. } | Self::TpmRegistered { .. } => {
                "give the machine an id of its own".to_owned()
            }
            Self::NotLookedAt { .. } => "run the command again".to_owned(),
            Self::SameBoard { .. } => {
                "each board has its own key: run it on each, and choose the device with --device".to_owned()
            }
            Self::CertificateTaken { .. } => {
                "a certificate's key is one device's for good: make one for each".to_owned()
            }
            Self::CertificateEnded { .. } => {
                "a key that was taken away never comes back: make the device a new one and certify that"
                    .to_owned()
            }
            Self::Retired(_) => "a retired id is never used again: choose another".to_owned(),
            Self::EkTaken { owner, .. } => format!("this machine is enrolled already, as '{owner}'"),
            Self::SameTpm { .. } => {
                "each device has its own TPM: choose one with --device, or give each its `tcti`".to_owned()
            }
            Self::EkNotAllowed(ek) => {
                format!("if this TPM is to be trusted, add \"{ek}\" to `ek-trust.allow` of the profile")
            }
            Self::EkUncertified { hint, .. } => hint.clone().unwrap_or_else(|| {
                "`provisioner evidence ek` shows where the chain of a certificate breaks".to_owned()
            }),
            Self::AkLost { .. } => {
                "was the TPM cleared? the old key cannot come back: suspend this id and enrol the \
                 machine under another once its endorsement key is free"
                    .to_owned()
            }
            Self::HandleTaken { .. } => {
                "choose another `ak-handle`, or replace it with --force: what is there is lost then"
                    .to_owned()
            }
            Self::VolumeExists { .. } => "move it away, or overwrite it with --force".to_owned(),
            Self::VolumeLost { .. } => {
                "put the file back; a lost key cannot be made again, only replaced".to_owned()
            }
            Self::VolumeForeign { .. } => {
                "put this device's own file back, or restart the machine so that its PCRs \
                 are what the volume was sealed to"
                    .to_owned()
            }
            Self::Uninitialised(_) => {
                "a PCR that nothing measures into protects nothing: choose PCRs that the firmware \
                 extends, or force it with --force-uninitialised-pcrs"
                    .to_owned()
            }
            Self::Unconfirmed { own } => format!("read `provisioner plan`, then add --confirm {own}"),
            Self::OtherPlan { .. } => "something changed since: read `provisioner plan` again".to_owned(),
            Self::State { .. } => "`provisioner device show` says what it is".to_owned(),
            Self::NotRegistered(_) => "`provisioner device list` says which are".to_owned(),
        }
    }
}

fn list(pcrs: &[PcrIndex]) -> String {
    let numbers: Vec<String> = pcrs.iter().map(|index| format!("PCR {index}")).collect();
    numbers.join(", ")
}
