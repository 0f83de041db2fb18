//! What devices write: each its own volume and its own escrow file.
//!
//! Owns: that no two devices write one file, and that an escrow file is named only where there is a keeper to encrypt it for.

use std::collections::BTreeMap;

use crate::{
    fleet::DEVICE_PLACEHOLDER,
    leaf::VolumePath,
    raw,
    walk::{Findings, Spot},
};

/// Two devices never write one file: a path without `{device}` serves one device, and no two profiles share a path.
pub(crate) fn one_each(raw: &raw::Manifest, findings: &mut Findings) {
    let mut paths: BTreeMap<String, (String, &str)> = BTreeMap::new();
    for section in raw.devices.iter().flat_map(|devices| &devices.value) {
        let (Some(id), Some(profile)) = (&section.value.id, &section.value.profile) else {
            continue;
        };
        let volume = raw
            .profiles
            .iter()
            .flat_map(|profiles| &profiles.value.list)
            .find(|(name, _)| name.value == profile.value)
            .and_then(|(_, profile)| profile.value.volume.as_ref());
        let Some(volume) = volume else { continue };
        let files = [
            ("volume", &volume.value.path),
            ("escrow file", &volume.value.escrow_path),
        ];
        for (what, path) in files {
            let Some(path) = path else { continue };
            let target = path.value.0.replace(DEVICE_PLACEHOLDER, id.value.as_str());
            let before = paths.insert(target.clone(), (id.value.to_string(), what));
            if let Some((other, kind)) = before
                && (other != id.value.as_str() || kind != what)
            {
                findings.push(
                    path.span.clone(),
                    twice(&other, kind, id.value.as_str(), what, &target),
                    hint(path),
                );
            }
        }
    }
}

fn twice(other: &str, kind: &str, id: &str, what: &str, target: &str) -> String {
    if kind == what {
        return format!("devices `{other}` and `{id}` would write the same {what} `{target}`");
    }
    format!("the {kind} of `{other}` and the {what} of `{id}` would be the same file `{target}`")
}

fn hint(path: &Spot<VolumePath>) -> Option<String> {
    Some(if path.value.0.contains(DEVICE_PLACEHOLDER) {
        "give each its own path".to_owned()
    } else {
        format!("put `{DEVICE_PLACEHOLDER}` into the path")
    })
}

/// An escrow file without a keeper would never be written.
pub(crate) fn keepers(raw: &raw::Manifest, findings: &mut Findings) {
    let fleet = raw.fleet.as_ref();
    if fleet.is_none_or(|fleet| fleet.value.escrow.is_some()) {
        return;
    }
    for (_, profile) in raw.profiles.iter().flat_map(|profiles| &profiles.value.list) {
        let volume = profile.value.volume.as_ref();
        if let Some(path) = volume.and_then(|volume| volume.value.escrow_path.as_ref()) {
            let hint = Some("name its keepers in `[fleet.escrow]`, or leave `escrow-path` out".to_owned());
            findings.push(
                path.span.clone(),
                "no volume of this fleet has a recovery key",
                hint,
            );
        }
    }
}
