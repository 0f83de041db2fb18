//! From raw sections to a valid fleet: what only shows when two places are compared.
//!
//! Owns: references between sections, bounds that depend on another key, and what is refused because it would be
//! unsafe. Every section is looked at, also after a finding in another, so that one run tells all.

use std::collections::BTreeMap;

use domain::{PolicyName, ProfileName};

use crate::{
    certificate,
    fleet::{Device, Fleet},
    hint::nearest_or_list,
    leaf::KeyStoreName,
    policy::{PolicySection, policy},
    profile::profile,
    raw, targets,
    walk::{Entries, Findings, Spot},
};

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
    targets::one_each(raw, findings);
    targets::keepers(raw, findings);
    certificate::one_each(raw, findings);

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
        without_tpm(raw, device, findings);
        if let (Some(id), Some(policy), Some(profile)) = (&device.id, policy, profile) {
            devices.push(Device {
                id: id.value.clone(),
                profile,
                policy,
                tcti: device.tcti.as_ref().map(|tcti| tcti.value.0.clone()),
                client_certificate: certificate::of(device),
            });
        }
    }
    devices
}

/// A device without a TPM has none to reach and none that quotes.
fn without_tpm(raw: &raw::Manifest, device: &raw::DeviceSection, findings: &mut Findings) {
    let (Some(profile), Some(profiles)) = (&device.profile, &raw.profiles) else {
        return;
    };
    let its_own = profiles
        .value
        .list
        .iter()
        .find(|(name, _)| name.value == profile.value);
    let key_store = its_own.and_then(|(_, section)| section.value.key_store.as_ref());
    if key_store.is_none_or(|key_store| key_store.value != KeyStoreName::Otp) {
        return;
    }
    if let Some(tcti) = &device.tcti {
        let message = format!("profile `{}` has no TPM that could be reached", profile.value);
        let hint = Some("leave `tcti` out, or choose a profile with `key-store = \"tpm\"`".to_owned());
        findings.push(tcti.span.clone(), message, hint);
    }
    let (Some(policy), Some(policies)) = (&device.policy, &raw.policies) else {
        return;
    };
    let asks = |(name, section): &&(Spot<PolicyName>, Spot<PolicySection>)| {
        name.value == policy.value && section.value.evidence.is_some()
    };
    if policies.value.list.iter().any(|entry| asks(&entry)) {
        let message = format!(
            "policy `{}` asks for evidence, and profile `{}` has no TPM that could give any",
            policy.value, profile.value
        );
        let hint =
            Some("choose a policy without `evidence`, or a profile with `key-store = \"tpm\"`".to_owned());
        findings.push(policy.span.clone(), message, hint);
    }
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
