//! `provisioner device config`: what `edge-client` has to know on a device, as its `edge.toml`.
//!
//! Owns: which line comes from where: the volume key's digest from the registry, so that another volume is refused; the storage keys' Names
//! from what `inventory collect` wrote on the device, once it is the TPM that was enrolled; the rest from the manifest and the command line.
//! What stands in the volume already (fleet, audience, attestation key) is told in comments. Refuses an inventory of another TPM.
//! Nothing secret is in it. Limits: it is worth what the place is worth where it is put, see docs/sealing.md.

use std::{collections::BTreeMap, path::PathBuf};

use data_encoding::HEXLOWER;
use domain::VolumeKeyDigest;
use manifest::KeyStore;
use registry::{Absent, DeviceRecord};
use serde::Serialize;
use serde_json::json;

use super::read;
use crate::{
    adapters::escrows,
    cli::ConfigArgs,
    commands::inventory::Collected,
    failure::Failure,
    report::Reporter,
    settings::{Loaded, fleet_registry},
};

/// Where `edge-client` looks for a TPM unless it is told.
const USUAL_TPM: &str = "device:/dev/tpmrm0";

/// The file. Its keys are those of `edge-client`'s settings.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct EdgeConfig {
    volume: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_key_digest: Option<VolumeKeyDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_counter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm2_signature: Option<PathBuf>,
    // A table: last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_keys: BTreeMap<String, String>,
}

/// What the manifest says of the device.
#[derive(Default)]
struct Said {
    volume: Option<PathBuf>,
    proxy: Option<String>,
    audience: Option<String>,
    tcti: Option<String>,
    ak_handle: Option<u32>,
    rollback_counter: Option<String>,
}

pub(super) async fn run(args: &ConfigArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let loaded = args.fleet.manifest.as_deref().map(Loaded::read).transpose()?;
    let registry = match &loaded {
        Some(loaded) => loaded.registry(&args.fleet.registry, Absent::Refuse).await?,
        None => fleet_registry(&args.fleet).await?,
    };
    let record = read(&*registry, &args.id).await?.value;
    let said = match &loaded {
        Some(loaded) => said(loaded, args)?,
        None => Said::default(),
    };
    let config = config(args, &said, &record)?;
    let fleet = match (&loaded, &args.fleet.fleet) {
        (Some(loaded), _) => Some(&loaded.fleet.name),
        (None, named) => named.as_ref(),
    };
    // There is a key to quote with where there is a TPM.
    let ak_handle = said
        .ak_handle
        .filter(|_| record.tpm.is_some())
        .map(|handle| format!("{handle:#010x}"));
    let mut head = vec![format!(
        "edge-client on {}, from the registry{}.",
        record.device,
        if loaded.is_some() { " and the manifest" } else { "" }
    )];
    let in_volume = [
        ("fleet", fleet.map(ToString::to_string)),
        ("audience", said.audience.clone()),
        ("attestation key", ak_handle.clone()),
    ];
    for (name, value) in in_volume {
        head.extend(value.map(|value| format!("The volume has: {name} {value}")));
    }
    head.push(
        "These lines bind in a signed image; on a disk that an attacker writes they do not.".to_owned(),
    );
    let head: String = head.iter().map(|line| format!("# {line}\n")).collect();
    let text = toml::to_string(&config).map_err(|e| Failure::Output(std::io::Error::other(e)))?;
    let text = format!("{head}{text}");
    match &args.output {
        Some(path) => Ok(escrows::write(path, &text, true)?),
        None => {
            let json = json!({
                "device": record.device,
                "fleet": fleet,
                "audience": said.audience,
                "ak-handle": ak_handle,
                "config": config,
                "toml": text,
            });
            reporter.data(&text, &json)
        }
    }
}

fn said(loaded: &Loaded, args: &ConfigArgs) -> Result<Said, Failure> {
    let fleet = &loaded.fleet;
    let device = fleet.devices.iter().find(|device| device.id == args.id);
    let Some((device, (profile, _))) = device.and_then(|device| Some((device, fleet.of(device)?))) else {
        return Err(Failure::Usage(
            format!("the manifest has no device '{}'", args.id),
            Some("--fleet NAME and --registry URL do without a manifest".to_owned()),
        ));
    };
    let (tcti, ak_handle, rollback_counter) = match &profile.key_store {
        KeyStore::Tpm(store) => (
            Some(device.tcti.clone().unwrap_or_else(|| store.tcti.clone())),
            Some(store.ak_handle),
            store.seal.rollback_counter,
        ),
        _ => (None, None, None),
    };
    let path = loaded.folder().join(profile.volume.path_for(&device.id));
    let volume = std::path::absolute(&path).map_err(|source| Failure::ReadFile { path, source })?;
    Ok(Said {
        volume: Some(volume),
        proxy: Some(fleet.proxy.clone()),
        audience: Some(fleet.audience.to_string()),
        tcti,
        ak_handle,
        rollback_counter: rollback_counter.map(|index| format!("{index:#010x}")),
    })
}

fn config(args: &ConfigArgs, said: &Said, record: &DeviceRecord) -> Result<EdgeConfig, Failure> {
    let volume = args.volume.clone().or_else(|| said.volume.clone());
    let volume = volume.ok_or_else(|| {
        Failure::Usage(
            "where is the volume on the device?".to_owned(),
            Some("--volume /dev/disk/by-partlabel/NAME, or --manifest FILE".to_owned()),
        )
    })?;
    let unbound = |what| Failure::NotBound {
        device: record.device.clone(),
        what,
    };
    let tcti = args.tcti.as_ref().map(ToString::to_string);
    let of_tpm = args.srk_public.is_some() || args.rollback_counter.is_some() || tcti.is_some();
    let Some(tpm) = &record.tpm else {
        if of_tpm {
            return Err(unbound(
                "it was enrolled without a TPM, which nothing can be said of",
            ));
        }
        return Ok(EdgeConfig {
            volume,
            volume_key_digest: record.volume_key,
            proxy: said.proxy.clone(),
            tcti: None,
            rollback_counter: None,
            tpm2_signature: None,
            storage_keys: BTreeMap::new(),
        });
    };
    let mut storage_keys = BTreeMap::new();
    if let Some(path) = &args.srk_public {
        let collected = Collected::read(path)?;
        if !collected.is_of(&tpm.ek) {
            return Err(unbound(
                "the inventory is of another TPM: it has not the endorsement key that was enrolled",
            ));
        }
        for key in collected.storage_keys() {
            storage_keys.insert(key.template().to_string(), HEXLOWER.encode(key.name().as_bytes()));
        }
    }
    Ok(EdgeConfig {
        volume,
        volume_key_digest: record.volume_key,
        proxy: said.proxy.clone(),
        tcti: tcti
            .or_else(|| said.tcti.clone())
            .filter(|tcti| tcti.as_str() != USUAL_TPM),
        rollback_counter: args
            .rollback_counter
            .map(|at| at.0.to_string())
            .or_else(|| said.rollback_counter.clone()),
        tpm2_signature: args.tpm2_signature.clone(),
        storage_keys,
    })
}
