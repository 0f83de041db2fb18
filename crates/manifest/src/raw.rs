//! The sections of a manifest as they are written: leaves parsed, spans kept, nothing compared with anything else.
//!
//! Owns: every key of the format, its type and the sentence that the JSON Schema says about it. A field is `None`
//! when the key is absent or when a finding was pushed about it.

use domain::{Audience, DeviceId, FleetName, HashAlg, PcrIndex, PolicyName, ProfileName};

use crate::{
    fleet::{EkKind, EkTrust},
    leaf::{
        AkHandle, ByteSize, CipherName, KeyStoreName, ProxyUrl, RegistryText, TctiText, VersionOne,
        VolumePath,
    },
    policy::PolicySection,
    walk::{Entries, Spot, section},
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
        /// What keeps the secret that opens the volume.
        required "key-store" key_store: KeyStoreName,
        /// How to reach the TPM, in tpm2-tss form (device:/dev/tpmrm0 when absent).
        optional "tcti" tcti: TctiText,
        /// The persistent handle of the attestation key (0x81010020 when absent).
        optional "ak-handle" ak_handle: AkHandle,
        /// The endorsement key that identifies the TPM (rsa-2048 when absent).
        optional "ek" ek: EkKind,
        /// Why an endorsement key is believed: by its certificate (roots), by a list (allow), or "first-use".
        required "ek-trust" ek_trust: EkTrust,
        /// Whether the firmware measures the boot into the TPM; without it a quote tells which TPM answered, not which software runs.
        required "measured-boot" measured_boot: bool,
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
        /// The PCR bank of the seal (sha256 when absent).
        optional "seal-bank" seal_bank: HashAlg,
        /// The PCRs that the volume's key is sealed to.
        required "seal-pcrs" seal_pcrs: Vec<Spot<PcrIndex>>,
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
    }
}
