//! What a manifest means once it is valid.
//!
//! Owns: the types that the programs plan with. `non_exhaustive`: only [`crate::parse`] makes them, so whoever
//! holds one holds something checked.

use std::{collections::BTreeMap, ops::Range};

use domain::{
    Audience, CertificateKeyDigest, DeviceId, EkDigest, FleetName, HashAlg, PcrSelection, PolicyName,
    ProfileName,
};
use evidence::certificate::DenyRule;

use crate::policy::Policy;

/// A whole fleet: what its devices are, must prove and may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fleet {
    /// The fleet's name: part of every key in the registry and of what every quote is bound to.
    pub name: FleetName,
    /// The service that its devices make quotes for.
    pub audience: Audience,
    /// `sqlite:PATH` (a relative path is from the manifest's folder) or `etcd://host:port[,..]`, as written.
    pub registry: String,
    /// Where devices find the proxy: an `http://` URL on loopback, or an `https://` URL.
    pub proxy: String,
    /// The age keys (`age1…`) to which each volume's recovery key is encrypted; none: the volumes have no recovery key.
    pub escrow: Vec<String>,
    /// What a device must prove and may do, by name.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// What kinds of device share, by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// The devices, in the manifest's order; their ids are unique, and their profile and policy exist.
    pub devices: Vec<Device>,
}

/// What the devices of one kind share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// What keeps the secret that opens the volume.
    pub key_store: KeyStore,
    /// Whether the firmware measures the boot into the TPM: decides what a quote proves.
    pub measured_boot: bool,
    /// The encrypted volume that carries the pre-shared key.
    pub volume: VolumeSpec,
}

/// What keeps the secret that opens a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyStore {
    /// A TPM 2.0.
    Tpm(Box<TpmStore>),
    /// The OTP device key of a Raspberry Pi: a device without a TPM, which gives no evidence.
    Otp,
}

/// A TPM and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TpmStore {
    /// How to reach the TPM, in tpm2-tss form (`device:/dev/tpmrm0`).
    pub tcti: String,
    /// The persistent handle of the attestation key, 0x81000000 to 0x817fffff (what is above is the platform's).
    pub ak_handle: u32,
    /// Which endorsement key identifies the TPM.
    pub ek: EkKind,
    /// Why an endorsement key is believed to be a TPM's.
    pub ek_trust: EkTrust,
    /// To what the volume's key is sealed in it.
    pub seal: TpmSeal,
}

/// To what a TPM seals a volume's key: all that is there must hold. Exact PCRs, signed ones, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TpmSeal {
    /// The bank of all PCRs here; never SHA-1.
    pub bank: HashAlg,
    /// The PCRs that must stay as they are when the volume is made.
    pub exact: Option<PcrSelection>,
    /// The PCRs of whose values a key's holder approves.
    pub signed: Option<SignedSeal>,
    /// Whether a PIN is wanted too.
    pub pin: bool,
    /// The NV index that counts the volume's generations, 0x01800000 to 0x01bfffff; `None`: an older volume opens.
    pub rollback_counter: Option<u32>,
    /// Under which storage key.
    pub srk: Srk,
}

/// A signed PCR policy: an update of the operating system comes with a new signature and needs no new seal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedSeal {
    /// The file (PEM) of the key whose holder approves; a relative path is from the manifest's folder.
    pub public_key: String,
    /// The PCRs of which it approves.
    pub pcrs: PcrSelection,
}

/// The storage key under which a secret is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Srk {
    /// systemd 252's own, on P-256.
    Systemd252,
    /// systemd 252's own with RSA, for TPMs without P-256.
    Systemd252Rsa,
    /// The TCG's storage root key; systemd 254 and later.
    Tcg,
}

/// The kind of endorsement key (TCG EK Credential Profile, templates L-1 and L-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EkKind {
    /// RSA with 2048 bits, template L-1.
    Rsa2048,
    /// ECC on NIST P-256, template L-2.
    EccP256,
}

/// Why an endorsement key is believed to be a TPM's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EkTrust {
    /// Whatever answers at enrolment is taken: nothing proves that it is a real TPM.
    FirstUse,
    /// Only these, at least one.
    Allow(Vec<EkDigest>),
    /// Those whose certificate leads to a TPM maker's root.
    Chain(EkChain),
}

/// Whose certificates are believed, and of which firmware not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EkChain {
    /// The folder of makers' roots and intermediates; a relative path is from the manifest's folder.
    pub roots: String,
    /// Firmware that is refused.
    pub deny: Vec<DenyRule>,
}

/// The encrypted volume of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeSpec {
    /// Where it is written; `{device}` stands for the device id; a relative path is from the manifest's folder.
    pub path: String,
    /// Its size in bytes, a multiple of 1 MiB.
    pub size: u64,
    /// The cipher of its data.
    pub cipher: Cipher,
    /// The bytes of its sectors.
    pub sector_size: SectorSize,
    /// The folder that goes into it beside the pre-shared key; `{device}` and relative paths as in `path`.
    pub content: Option<String>,
    /// Where the encrypted recovery key is written; `{device}` and relative paths as in `path`. `None`: beside the volume.
    pub escrow_path: Option<String>,
}

/// The bytes of a volume's sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorSize {
    /// 512.
    B512,
    /// 4096.
    B4096,
}

/// The cipher of a volume's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-XTS with 512 bits.
    AesXts,
    /// XChaCha12 and Adiantum with 256 bits: for processors without AES instructions.
    Adiantum,
}

impl VolumeSpec {
    /// The path for one device, `{device}` replaced.
    #[must_use]
    pub fn path_for(&self, device: &DeviceId) -> String {
        for_device(&self.path, device)
    }

    /// The folder that goes in, for one device.
    #[must_use]
    pub fn content_for(&self, device: &DeviceId) -> Option<String> {
        self.content.as_ref().map(|path| for_device(path, device))
    }

    /// The file of the encrypted recovery key, for one device.
    #[must_use]
    pub fn escrow_path_for(&self, device: &DeviceId) -> Option<String> {
        self.escrow_path.as_ref().map(|path| for_device(path, device))
    }
}

fn for_device(path: &str, device: &DeviceId) -> String {
    path.replace(DEVICE_PLACEHOLDER, device.as_str())
}

/// What a volume's path says where the device id goes.
pub(crate) const DEVICE_PLACEHOLDER: &str = "{device}";

/// One machine with an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its identity.
    pub id: DeviceId,
    /// What kind it is.
    pub profile: ProfileName,
    /// What it must prove and may do.
    pub policy: PolicyName,
    /// Where its TPM is, when not where the profile says.
    pub tcti: Option<String>,
    /// Its TLS client certificate.
    pub client_certificate: Option<ClientCertificate>,
}

/// A device's TLS client certificate, not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// Which.
    pub source: CertificateSource,
    /// Where the manifest says so, in bytes: for whoever reads the file and finds something wrong with it.
    pub span: Range<usize>,
}

/// Where a client certificate is known from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateSource {
    /// A file (PEM); a relative path is from the manifest's folder.
    File(String),
    /// By its key, which is all that the registry keeps.
    Key(CertificateKeyDigest),
}

impl Fleet {
    /// The policy and the profile of a device of this fleet; `None` for another fleet's.
    #[must_use]
    pub fn of(&self, device: &Device) -> Option<(&Profile, &Policy)> {
        Some((
            self.profiles.get(&device.profile)?,
            self.policies.get(&device.policy)?,
        ))
    }
}
