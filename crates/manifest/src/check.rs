//! From raw sections to a valid fleet: what only shows when two places are compared.
//!
//! Owns: references between sections, bounds that depend on another key, and what is refused because it would be
//! unsafe. Every section is looked at, also after a finding in another, so that one run tells all.

use std::collections::BTreeMap;

use domain::{HashAlg, PcrSelection, PolicyName, ProfileName};

use crate::{
    evidence::refuse_resettable,
    fleet::{Cipher, DEVICE_PLACEHOLDER, Device, EkKind, Fleet, KeyStore, Profile, TpmStore, VolumeSpec},
    hint::nearest_or_list,
    leaf::{AkHandle, ByteSize, CipherName, KeyStoreName, TctiText},
    policy::policy,
    raw,
    walk::{Entries, Findings, Spot},
};

const MIB: u64 = 1024 * 1024;
/// The smallest volume: the LUKS2 header takes 16 MiB.
const MIN_VOLUME: u64 = 20 * MIB;
/// The largest volume: it is made in memory.
const MAX_VOLUME: u64 = 4 * 1024 * MIB;

/// Makes the fleet; `None` when there is a finding.
pub(crate) fn fleet(raw: &raw::Manifest, findings: &mut Findings) -> Option<Fleet> {
    let none = Vec::new();
    let raw_policies = raw.policies.as_ref().map_or(&none, |section| &section.value.list);
    let policies: BTreeMap<_, _> = raw_policies
        .iter()
        .filter_map(|(name, section)| Some((name.value.clone(), policy(section, findings)?)))
        .collect();

    let none = Vec::new();
    let raw_profiles = raw.profiles.as_ref().map_or(&none, |section| &section.value.list);
    let profiles: BTreeMap<_, _> = raw_profiles
        .iter()
        .filter_map(|(name, section)| Some((name.value.clone(), profile(section, findings)?)))
        .collect();

    let devices = devices(raw, findings);
    one_volume_each(raw, findings);

    let head = &raw.fleet.as_ref()?.value;
    let escrow = head
        .escrow
        .as_ref()
        .map(|escrow| recipients(&escrow.value, findings));
    raw.version.as_ref()?;
    Some(Fleet {
        name: head.name.as_ref()?.value.clone(),
        audience: head.audience.as_ref()?.value.clone(),
        registry: head.registry.as_ref()?.value.0.clone(),
        proxy: head.proxy.as_ref()?.value.0.clone(),
        escrow: escrow.unwrap_or_default(),
        policies,
        profiles,
        devices,
    })
}

/// The keepers of recovery keys: at least one, each once, and no secret among them. Whether a text is a key is for who encrypts.
fn recipients(raw: &raw::EscrowSection, findings: &mut Findings) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let Some(recipients) = &raw.recipients else {
        return keys;
    };
    if recipients.value.is_empty() {
        let hint = Some(
            "`age-keygen -y` prints a keeper's public key; leave `escrow` out for volumes without recovery"
                .to_owned(),
        );
        findings.push(
            recipients.span.clone(),
            "nobody could open the recovery keys",
            hint,
        );
    }
    for recipient in &recipients.value {
        let key = &recipient.value;
        // What may be a secret is not repeated.
        let wrong = if key.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            Some("this is a secret key: only its public half belongs here")
        } else if !key.starts_with("age1") || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Some("this is no age key")
        } else if keys.contains(key) {
            Some("this key is there twice")
        } else {
            keys.push(key.clone());
            None
        };
        if let Some(wrong) = wrong {
            let hint = Some("`age-keygen -y FILE` prints a public key, age1…".to_owned());
            findings.push(recipient.span.clone(), wrong, hint);
        }
    }
    keys
}

fn profile(raw: &Spot<raw::ProfileSection>, findings: &mut Findings) -> Option<Profile> {
    let section = &raw.value;
    let volume = section
        .volume
        .as_ref()
        .and_then(|volume| volume_spec(&volume.value, findings));
    let tcti = section
        .tcti
        .as_ref()
        .map_or(TctiText::DEFAULT, |tcti| tcti.value.0.as_str());
    let store = TpmStore {
        tcti: tcti.to_owned(),
        ak_handle: section
            .ak_handle
            .as_ref()
            .map_or(AkHandle::DEFAULT, |handle| handle.value)
            .0,
        ek: section.ek.as_ref().map_or(EkKind::Rsa2048, |ek| ek.value),
        ek_trust: section.ek_trust.as_ref()?.value.clone(),
    };
    let key_store = match section.key_store.as_ref()?.value {
        KeyStoreName::Tpm => KeyStore::Tpm(store),
    };
    Some(Profile {
        key_store,
        measured_boot: section.measured_boot.as_ref()?.value,
        volume: volume?,
    })
}

fn volume_spec(raw: &raw::VolumeSection, findings: &mut Findings) -> Option<VolumeSpec> {
    let size = raw.size.as_ref().and_then(|size| volume_size(size, findings));
    let bank = raw.seal_bank.as_ref().map_or(HashAlg::Sha256, |bank| bank.value);
    if let Some(spot) = raw.seal_bank.as_ref().filter(|bank| bank.value == HashAlg::Sha1) {
        let hint = Some("use \"sha256\"".to_owned());
        findings.push(spot.span.clone(), "nothing is sealed to SHA-1", hint);
    }
    let pcrs = raw.seal_pcrs.as_ref()?;
    for index in &pcrs.value {
        refuse_resettable(index, findings);
    }
    let seal = PcrSelection::new(bank, pcrs.value.iter().map(|index| index.value))
        .map_err(|wrong| findings.push(pcrs.span.clone(), wrong.to_string(), None))
        .ok();
    Some(VolumeSpec {
        path: raw.path.as_ref()?.value.0.clone(),
        size: size?,
        cipher: raw
            .cipher
            .as_ref()
            .map_or(Cipher::AesXts, |cipher| match cipher.value {
                CipherName::AesXts => Cipher::AesXts,
                CipherName::Adiantum => Cipher::Adiantum,
            }),
        seal: seal?,
    })
}

fn volume_size(size: &Spot<ByteSize>, findings: &mut Findings) -> Option<u64> {
    let ByteSize(bytes) = size.value;
    if (MIN_VOLUME..=MAX_VOLUME).contains(&bytes) && bytes.is_multiple_of(MIB) {
        return Some(bytes);
    }
    let hint = Some("20MiB to 4GiB, in whole MiB; 32MiB is plenty for a key".to_owned());
    findings.push(size.span.clone(), "a volume cannot have this size", hint);
    None
}

fn devices(raw: &raw::Manifest, findings: &mut Findings) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    let mut seen = BTreeMap::new();
    for section in raw.devices.iter().flat_map(|devices| &devices.value) {
        let device = &section.value;
        if let Some(id) = &device.id
            && let Some(first) = seen.insert(id.value.clone(), id.span.start)
        {
            seen.insert(id.value.clone(), first);
            let hint = Some("an id is one machine: give each its own".to_owned());
            findings.push(
                id.span.clone(),
                format!("device `{}` is declared twice", id.value),
                hint,
            );
        }
        let policy = known(
            device.policy.as_ref(),
            raw.policies.as_ref(),
            "policy",
            PolicyName::as_str,
            findings,
        );
        let profile = known(
            device.profile.as_ref(),
            raw.profiles.as_ref(),
            "profile",
            ProfileName::as_str,
            findings,
        );
        if let (Some(id), Some(policy), Some(profile)) = (&device.id, policy, profile) {
            devices.push(Device {
                id: id.value.clone(),
                profile,
                policy,
                tcti: device.tcti.as_ref().map(|tcti| tcti.value.0.clone()),
            });
        }
    }
    devices
}

/// The name, if its section has it. Sections with findings of their own count as there.
fn known<N: Clone + PartialEq, V>(
    name: Option<&Spot<N>>,
    sections: Option<&Spot<Entries<N, V>>>,
    what: &str,
    text: impl Fn(&N) -> &str,
    findings: &mut Findings,
) -> Option<N> {
    let name = name?;
    // A section that is wholly missing was told already.
    let entries = &sections?.value.list;
    if entries.iter().any(|(key, _)| key.value == name.value) {
        return Some(name.value.clone());
    }
    let hint = nearest_or_list(text(&name.value), entries.iter().map(|(key, _)| text(&key.value)));
    findings.push(
        name.span.clone(),
        format!("there is no {what} `{}`", text(&name.value)),
        hint,
    );
    None
}

/// Two devices never write one file: a path without `{device}` serves one device, and no two profiles share a path.
fn one_volume_each(raw: &raw::Manifest, findings: &mut Findings) {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for section in raw.devices.iter().flat_map(|devices| &devices.value) {
        let (Some(id), Some(profile)) = (&section.value.id, &section.value.profile) else {
            continue;
        };
        let path = raw
            .profiles
            .iter()
            .flat_map(|profiles| &profiles.value.list)
            .find(|(name, _)| name.value == profile.value)
            .and_then(|(_, profile)| profile.value.volume.as_ref()?.value.path.as_ref());
        let Some(path) = path else { continue };
        let target = path.value.0.replace(DEVICE_PLACEHOLDER, id.value.as_str());
        if let Some(other) = paths.insert(target.clone(), id.value.to_string())
            && other != id.value.as_str()
        {
            let hint = Some(format!("put `{DEVICE_PLACEHOLDER}` into the path"));
            let message = format!(
                "devices `{other}` and `{}` would write the same volume `{target}`",
                id.value
            );
            findings.push(path.span.clone(), message, hint);
        }
    }
}
