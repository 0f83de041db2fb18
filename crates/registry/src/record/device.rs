//! A device: who it is, how it is known, and what became of it.

use domain::{
    CertificateDigest, CertificateKeyDigest, DeviceId, EkDigest, PolicyName, ProfileName, PskDigest, TpmName,
    TpmPublic, UnixTime, VolumeKeyDigest,
};
use serde::{Deserialize, Serialize};

use super::{Version1, bounds};

/// One enrolled device. Holds digests and public keys, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRecord {
    /// Always 1.
    pub version: Version1,
    /// The device; must be the one of the record's key.
    pub device: DeviceId,
    /// Whether it may call at all.
    pub state: DeviceState,
    /// The policy that it is under.
    pub policy: PolicyName,
    /// The profile that it was made from.
    pub profile: ProfileName,
    /// The digests that find it.
    pub psk: PskSlots,
    /// The key of its TLS client certificate. It counts where the device's policy looks at certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateKeyDigest>,
    /// Its TPM, bound by credential activation. Absent: no evidence can come from this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmIdentity>,
    /// Whether its firmware measures the boot into the TPM: what a quote of it proves.
    pub measured_boot: bool,
    /// The key of its sealed volume, to recognise the volume by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_key: Option<VolumeKeyDigest>,
    /// Its WireGuard public key, base64; at most 128 bytes of text.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::optional_text"
    )]
    pub wireguard: Option<String>,
    /// Rises with every edit; sessions of an older generation end.
    pub generation: u64,
    /// When it was enrolled.
    pub enrolled_at: UnixTime,
}

/// Whether a device may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It may.
    Active,
    /// Not now.
    Suspended,
    /// Never again; the record stays as a tombstone.
    Retired,
}

/// The digests of a device's pre-shared keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PskSlots {
    /// The key in use.
    pub current: PskDigest,
    /// The key before it, while it is still accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousPsk>,
}

/// A replaced pre-shared key that is good for a while longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousPsk {
    /// Its digest.
    pub digest: PskDigest,
    /// The first second at which it is no longer accepted.
    pub until: UnixTime,
}

impl PskSlots {
    /// One key, and none before it.
    #[must_use]
    pub const fn only(current: PskDigest) -> Self {
        Self {
            current,
            previous: None,
        }
    }

    /// The digests in use: the current one, and the previous one if there is one.
    pub fn digests(&self) -> impl Iterator<Item = &PskDigest> {
        let previous = self.previous.as_ref().map(|p| &p.digest);
        std::iter::once(&self.current).chain(previous.filter(|p| **p != self.current))
    }
}

/// How an endorsement key came to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EkTrust {
    /// It was there first: it proves the same TPM, of whatever make.
    FirstUse,
    /// Its digest was on the manifest's list.
    Allowed,
    /// Its certificate leads to a maker's root.
    Chain,
}

/// What a TPM's maker certified. Each text has at most 128 bytes; absent where the certificate does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedTpm {
    /// The root at which the chain ended.
    pub root: CertificateDigest,
    /// The maker, by its TCG vendor ID.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::optional_text"
    )]
    pub maker: Option<String>,
    /// The model.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::optional_text"
    )]
    pub model: Option<String>,
    /// The firmware that the TPM was made with.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::optional_text"
    )]
    pub firmware: Option<String>,
}

/// A device's TPM: EK and AK, bound once by credential activation. EK and AK never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmIdentity {
    /// The endorsement key, by its key.
    pub ek: EkDigest,
    /// The certificate of the EK, where one was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate: Option<CertificateDigest>,
    /// What that certificate says of the TPM, where it led to a maker's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certified: Option<CertifiedTpm>,
    /// Why the EK is trusted.
    pub ek_trust: EkTrust,
    /// The attestation key's public area.
    pub ak_public: TpmPublic,
    /// Its qualified name under the EK.
    pub ak_qualified_name: TpmName,
    /// The maker, as the TPM calls itself; at most 128 bytes.
    #[serde(deserialize_with = "bounds::text")]
    pub manufacturer: String,
    /// Its firmware at enrolment.
    pub firmware_version: u64,
}
