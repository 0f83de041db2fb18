//! `provisioner device`: what the registry knows, what a device has to know, and switching it off and on.
//!
//! Owns: the rule that every change raises the generation, so that sessions end, and is a compare-and-swap, so that two
//! operators do not overwrite each other.

mod config;

use domain::DeviceId;
use registry::{
    CertifiedTpm, DeviceRecord, DeviceState, EkTrust, PolicyRecord, Registry, SeenRecord, Versioned,
};
use serde_json::json;

use crate::{
    cli::{DeviceCommand, FleetArgs},
    failure::Failure,
    plan::{Proof, Refusal, allowances, demands},
    report::{Reporter, ak_name},
    settings::fleet_registry,
};

pub(super) async fn run(command: DeviceCommand, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { fleet } => list(&fleet, reporter).await,
        DeviceCommand::Show { id, fleet } => show(&id, &fleet, reporter).await,
        DeviceCommand::Config(args) => config::run(&args, reporter).await,
        DeviceCommand::Suspend { id, fleet } => switch(&id, &fleet, DeviceState::Suspended, reporter).await,
        DeviceCommand::Resume { id, fleet } => switch(&id, &fleet, DeviceState::Active, reporter).await,
    }
}

async fn list(fleet: &FleetArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let registry = fleet_registry(fleet).await?;
    let listing = registry.devices().await.map_err(Failure::registry)?;
    let mut text = String::new();
    let mut devices = Vec::new();
    for device in &listing.devices {
        let record = &device.value;
        let state = state(record.state);
        text.push_str(&format!(
            "{:<32} {state:<10} policy {}\n",
            record.device, record.policy
        ));
        devices.push(json!({ "device": record.device, "state": state, "policy": record.policy, "profile": record.profile }));
    }
    let mut unreadable = Vec::new();
    for device in &listing.unreadable {
        text.push_str(&format!("{:<32} unreadable {}\n", device.name, device.why));
        unreadable.push(json!({ "name": device.name, "why": device.why.to_string() }));
    }
    if text.is_empty() {
        text.push_str("no device is registered\n");
    }
    reporter.data(&text, &json!({ "devices": devices, "unreadable": unreadable }))
}

async fn show(id: &DeviceId, fleet: &FleetArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let registry = fleet_registry(fleet).await?;
    let record = read(&*registry, id).await?.value;
    let policy = registry.policy(&record.policy).await.map_err(Failure::registry)?;
    let policy = policy.map(|policy| policy.value);
    let seen = registry.seen(id).await.map_err(Failure::registry)?;
    let seen = seen.map(|seen| seen.value);
    let proof = policy.as_ref().map(|policy| proof(policy, &record));
    let text = text(&record, policy.as_ref(), seen.as_ref(), proof.as_ref());
    let json = json!({
        "device": record.device,
        "state": state(record.state),
        "policy": record.policy,
        "policy-revision": policy.as_ref().map(|policy| policy.revision),
        "profile": record.profile,
        "psk": record.psk.current,
        "ek": record.tpm.as_ref().map(|tpm| tpm.ek),
        "ek-trust": record.tpm.as_ref().map(|tpm| trust(tpm.ek_trust)),
        "ek-certificate": record.tpm.as_ref().and_then(|tpm| tpm.ek_certificate),
        "ek-certified": record.tpm.as_ref().and_then(|tpm| tpm.ek_certified.clone()),
        "ak": ak_name(&record),
        "manufacturer": record.tpm.as_ref().map(|tpm| tpm.manufacturer.clone()),
        "client-certificate": record.client_certificate,
        "volume-key": record.volume_key,
        "generation": record.generation,
        "enrolled-at": record.enrolled_at,
        "last-attested-at": seen.as_ref().map(|seen| seen.at),
        "allows": policy.as_ref().map(allows),
        "asks": policy.as_ref().map(|policy| demands(policy.evidence.as_ref())),
        "proof": proof.map(|proof| proof.to_string()),
    });
    reporter.data(&text, &json)
}

fn text(
    record: &DeviceRecord,
    policy: Option<&PolicyRecord>,
    seen: Option<&SeenRecord>,
    proof: Option<&Proof>,
) -> String {
    let mut text = format!("device {}\n", record.device);
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<10}{value}\n"));
    line("state", state(record.state));
    match policy {
        Some(policy) => line(
            "policy",
            &format!("{}, revision {}", record.policy, policy.revision),
        ),
        None => line(
            "policy",
            &format!("{}: not in the registry, so the device is refused", record.policy),
        ),
    }
    line("profile", record.profile.as_str());
    line("PSK", &format!("{} (SHA-256)", record.psk.current));
    if let Some(tpm) = &record.tpm {
        line(
            "TPM",
            &format!("{}, firmware {:#x}", tpm.manufacturer, tpm.firmware_version),
        );
        line("EK", &format!("{} (SHA-256), {}", tpm.ek, trust(tpm.ek_trust)));
    }
    if let Some(certified) = record.tpm.as_ref().and_then(|tpm| tpm.ek_certified.as_ref()) {
        line("certified", &certified_words(certified));
    }
    if let Some(ak) = ak_name(record) {
        line("AK", &format!("{ak} (name)"));
    }
    if let Some(key) = &record.client_certificate {
        line("cert", &format!("{key} (SHA-256 of its key)"));
    }
    if let Some(key) = &record.volume_key {
        line("volume", &format!("{key} (SHA-256 of its key)"));
    }
    line("changes", &format!("generation {}", record.generation));
    line("enrolled", &record.enrolled_at.to_string());
    match seen {
        Some(seen) => line(
            "attested",
            &format!("last at {}, {} resets", seen.at, seen.reset_count),
        ),
        None => line("attested", "never"),
    }
    if let Some(policy) = policy {
        for (label, allowed) in allowances(policy) {
            line(label, &allowed);
        }
        for (nth, demand) in demands(policy.evidence.as_ref()).iter().enumerate() {
            line(if nth == 0 { "asks" } else { "" }, demand);
        }
    }
    if let Some(proof) = proof {
        line("proof", &proof.to_string());
    }
    text
}

async fn switch(
    id: &DeviceId,
    fleet: &FleetArgs,
    to: DeviceState,
    reporter: &mut dyn Reporter,
) -> Result<(), Failure> {
    let registry = fleet_registry(fleet).await?;
    let Versioned {
        value: mut record,
        revision,
    } = read(&*registry, id).await?;
    let changed = record.state != to;
    if record.state == DeviceState::Retired {
        let wish = if to == DeviceState::Active {
            "resumed"
        } else {
            "suspended"
        };
        return Err(Refusal::State {
            device: id.clone(),
            state: state(record.state),
            wish,
        }
        .into());
    }
    if changed {
        record.state = to;
        record.generation = record.generation.saturating_add(1);
        let update = registry.update_device(record.clone(), revision).await;
        update.map_err(|source| Failure::Update {
            device: id.clone(),
            source,
        })?;
    }
    let now = state(to);
    let text = match (changed, to) {
        (false, _) => format!("{id} is {now} already\n"),
        (true, DeviceState::Active) => format!("{id} is active again; it opens a new session\n"),
        (true, _) => format!("{id} is {now}; its sessions end\n"),
    };
    let json = json!({ "device": id, "state": now, "changed": changed, "generation": record.generation });
    reporter.data(&text, &json)
}

async fn read(registry: &dyn Registry, id: &DeviceId) -> Result<Versioned<DeviceRecord>, Failure> {
    let record = registry.device(id).await.map_err(Failure::registry)?;
    record.ok_or_else(|| Refusal::NotRegistered(id.clone()).into())
}

/// What the policy allows, under the names of its record.
fn allows(policy: &PolicyRecord) -> serde_json::Value {
    json!({
        "models": policy.models,
        "endpoints": policy.endpoints,
        "options": policy.options,
        "limits": policy.limits,
        "client_certificate": policy.client_certificate,
    })
}

fn proof(policy: &PolicyRecord, record: &DeviceRecord) -> Proof {
    let pcrs = policy.evidence.as_ref().map(evidence::DeclaredPolicy::selection);
    Proof::of(pcrs, record.measured_boot)
}

const fn state(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Active => "active",
        DeviceState::Suspended => "suspended",
        DeviceState::Retired => "retired",
    }
}

const fn trust(trust: EkTrust) -> &'static str {
    match trust {
        EkTrust::FirstUse => "trusted on first use",
        EkTrust::Allowed => "on the profile's list",
        EkTrust::Chain => "certified by its maker",
    }
}

/// `IFX SLB 9670, firmware 7.85, by root 0123456789ab`.
fn certified_words(certified: &CertifiedTpm) -> String {
    let maker = certified.maker.as_deref().unwrap_or("unnamed maker");
    let model = certified.model.as_deref().unwrap_or_default();
    let firmware = certified
        .firmware
        .as_deref()
        .map(|version| format!(", firmware {version}"));
    format!(
        "{maker} {model}{}, by root {}",
        firmware.unwrap_or_default(),
        certified.root.short()
    )
}
