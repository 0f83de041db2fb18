//! The sections of a manifest as they are written: leaves parsed, spans kept, nothing compared with anything else.
//!
//! Owns: every key of the format, its type and the sentence that the JSON Schema says about it. A field is `None`
//! when the key is absent or when a finding was pushed about it.

use domain::{Audience, DeviceId, FleetName, HashAlg, PcrIndex, PolicyName, ProfileName};

use crate::{
    fleet::{CertificateSource, EkKind, EkTrust, SectorSize, Srk},
    leaf::{
        AkHandle, ByteSize, CipherName, ContentPath, CounterIndex, FilePath, KeyStoreName, ProxyUrl,
        RegistryText, TctiText, VersionOne, VolumePath,
    },
    policy::PolicySection,
    walk::{Entries, Spot, Tried, section},
};

section! {
    /// A Signalbox fleet, version 1.
    Manifest as "manifest" {
        /// The version of this format: 1.
        required "version" version: VersionOne,
        /// What all of the fleet shares.
        required "fleet" fleet: FleetSection,
        /// What a device must prove and may do, by name.
        required "policies" policies: Entries<PolicyName, PolicySection>,
        /// What kinds of device share, by name.
        required "profiles" profiles: Entries<ProfileName, ProfileSection>,
        /// The devices.
        optional "devices" devices: Vec<Spot<DeviceSection>>,
    }
}

section! {
    /// What all of a fleet shares.
    FleetSection as "fleet" {
        /// The fleet's name: part of every key in the registry and of what every quote is bound to.
        required "name" name: FleetName,
        /// The service that quotes are made for, normally its origin.
        required "audience" audience: Audience,
        /// The registry: sqlite:PATH (from the manifest's folder) or etcd://host:port[,host:port].
        required "registry" registry: RegistryText,
        /// Where devices find the proxy; plain http only on loopback.
        required "proxy" proxy: ProxyUrl,
        /// Who can open the volumes when their TPMs do not; when absent, nobody.
        optional "escrow" escrow: EscrowSection,
    }
}

section! {
    /// Who keeps the recovery keys of a fleet's volumes.
    EscrowSection as "escrow" {
        /// Their age keys (age1…, public halves): each volume's recovery key is encrypted to all of them.
        required "recipients" recipients: Vec<Spot<String>>,
    }
}

section! {
    /// What the devices of one kind share.
    ProfileSection as "profile" {
        /// What keeps the secret that opens the volume: a TPM ("tpm"), or the OTP device key of a Raspberry Pi ("otp"), a device without a TPM.
        required "key-store" key_store: KeyStoreName,
        /// How to reach the TPM, in tpm2-tss form (device:/dev/tpmrm0 when absent).
        optional "tcti" tcti: TctiText,
        /// The persistent handle of the attestation key (0x81010020 when absent).
        optional "ak-handle" ak_handle: AkHandle,
        /// The endorsement key that identifies the TPM (rsa-2048 when absent).
        optional "ek" ek: EkKind,
        /// Why an endorsement key is believed: by its certificate (roots), by a list (allow), or "first-use". With a TPM always there.
        optional "ek-trust" ek_trust: Tried<EkTrust>,
        /// Whether the firmware measures the boot into the TPM; without it a quote tells which TPM answered, not which software runs. With a TPM always there.
        optional "measured-boot" measured_boot: Tried<bool>,
        /// The encrypted volume that carries the pre-shared key.
        required "volume" volume: VolumeSection,
    }
}

section! {
    /// The encrypted volume of a device.
    VolumeSection as "volume" {
        /// Where it is written; {device} is the device id; from the manifest's folder.
        required "path" path: VolumePath,
        /// Its size, for example 32MiB.
        required "size" size: ByteSize,
        /// The cipher of its data: aes-xts (when absent), or adiantum for processors without AES instructions, such as a Raspberry Pi 4's.
        optional "cipher" cipher: CipherName,
        /// The bytes of its sectors: 512 or 4096 (when absent).
        optional "sector-size" sector_size: SectorSize,
        /// A folder that goes into it beside the pre-shared key; {device} is the device id; from the manifest's folder.
        optional "content" content: ContentPath,
        /// Where the encrypted recovery key goes (beside the volume when absent); {device} is the device id; from the manifest's folder.
        optional "escrow-path" escrow_path: VolumePath,
        /// The PCR bank of the seal (sha256 when absent).
        optional "seal-bank" seal_bank: HashAlg,
        /// The PCRs that must stay as they are for the TPM to release the volume's key.
        optional "seal-pcrs" seal_pcrs: Tried<Vec<Spot<PcrIndex>>>,
        /// The key whose holder approves of PCR values: an update then needs no new seal.
        optional "seal-signed" seal_signed: Tried<SignedSection>,
        /// Whether the TPM wants a PIN too; apply asks for it or reads it from a file (false when absent).
        optional "pin" pin: bool,
        /// The NV index where the TPM counts the volume's generations: an older volume that is put back is then refused (when absent, it opens).
        optional "rollback-counter" rollback_counter: CounterIndex,
        /// Under which storage key: systemd-252 (when absent) and systemd-252-rsa are what Debian 12 opens, tcg is what later ones prefer.
        optional "srk" srk: Srk,
    }
}

section! {
    /// A signed PCR policy.
    SignedSection as "signed-seal" {
        /// The file (PEM) of the key whose holder approves of PCR values; from the manifest's folder.
        required "public-key" public_key: FilePath,
        /// The PCRs of which it approves ([11] when absent: the unified kernel image).
        optional "pcrs" pcrs: Vec<Spot<PcrIndex>>,
    }
}

section! {
    /// One machine with an identity.
    DeviceSection as "device" {
        /// Its identity, unique in the fleet.
        required "id" id: DeviceId,
        /// The profile that it is of.
        required "profile" profile: ProfileName,
        /// The policy that it is under.
        required "policy" policy: PolicyName,
        /// Where its TPM is, when not where the profile says.
        optional "tcti" tcti: TctiText,
        /// Its TLS client certificate: a file (PEM, from the manifest's folder), or the digest of its key. What it counts for is the policy's `client-certificate`.
        optional "client-certificate" client_certificate: Tried<CertificateSource>,
    }
}
