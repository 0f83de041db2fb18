//! From the command line and the manifest to what a command works with.
//!
//! Owns: which of the two wins (the command line) and from where relative paths start (the manifest's folder for what
//! the manifest says, the working folder for what the command line says).

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{DeviceId, FleetName, ProfileName};
use evidence::Roots;
use manifest::{Diagnostics, EkTrust, Fleet, KeyStore};
use registry::{Absent, ClientIdentity, Options, Registry, RegistryUrl, TlsFiles, User};
use tpm::PolicyKey;

use crate::{
    adapters,
    certificates::{self, Certificate},
    cli::{FleetArgs, PlanArgs, RegistryArgs},
    failure::Failure,
    plan::{Choice, Wanted, wanted},
    tokens,
};

/// A manifest that was read, and where.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) fleet: Fleet,
    folder: PathBuf,
    file: String,
    text: String,
}

impl Loaded {
    /// Reads a manifest.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let unread = |source| Failure::ReadFile {
            path: path.to_owned(),
            source,
        };
        let mut text = Vec::new();
        // One byte more than is allowed, so that the reader sees that it is too long.
        let most = u64::try_from(manifest::MAX_LEN)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut text))
            .map_err(unread)?;
        let text = String::from_utf8(text).map_err(|_| {
            let message = format!("'{}' is not UTF-8 text", path.display());
            Failure::Usage(message, Some("a manifest is TOML".to_owned()))
        })?;
        let file = path.display().to_string();
        let fleet =
            manifest::parse(&file, &text).map_err(|diagnostics| Failure::Manifest(Box::new(diagnostics)))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self {
            fleet,
            folder,
            file,
            text,
        })
    }

    /// Where its relative paths start.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the chosen devices should be.
    pub(crate) fn wanted(&self, args: &PlanArgs) -> Result<Vec<Wanted>, Failure> {
        let choice = Choice {
            folder: args.output_dir.clone().unwrap_or_else(|| self.folder.clone()),
            tcti: args.tcti.clone(),
            roots: self.roots(&args.devices)?,
            policy_keys: self.policy_keys(&args.devices)?,
            certificates: self.certificates(&args.devices)?,
            read_from: self.folder.clone(),
            force: args.force,
            force_uninitialised: args.force_uninitialised_pcrs,
        };
        if let Some(unknown) = args.devices.iter().find(|id| !self.has(id)) {
            let known: Vec<&str> = self
                .fleet
                .devices
                .iter()
                .map(|device| device.id.as_str())
                .collect();
            let hint = format!("it has: {}", known.join(", "));
            return Err(Failure::Usage(
                format!("the manifest has no device '{unknown}'"),
                Some(hint),
            ));
        }
        let chosen = |id: &DeviceId| args.devices.is_empty() || args.devices.contains(id);
        let mut list = Vec::new();
        for device in self.fleet.devices.iter().filter(|device| chosen(&device.id)) {
            list.extend(wanted(&self.fleet, device, &choice)?);
        }
        for content in list.iter().filter_map(|one| one.content.as_deref()) {
            fit_to_go_in(content)?;
        }
        Ok(list)
    }

    /// The makers' certificates of the profiles that want a chain; of all profiles, or those of `devices`.
    pub(crate) fn roots(&self, devices: &[DeviceId]) -> Result<BTreeMap<ProfileName, Roots>, Failure> {
        let mut all = BTreeMap::new();
        for (name, profile) in &self.fleet.profiles {
            let mut its = self.fleet.devices.iter().filter(|device| device.profile == *name);
            let is_used = devices.is_empty() || its.any(|device| devices.contains(&device.id));
            let KeyStore::Tpm(store) = &profile.key_store else {
                continue;
            };
            if let (EkTrust::Chain(chain), true) = (&store.ek_trust, is_used) {
                all.insert(name.clone(), roots(&self.folder.join(&chain.roots), name)?);
            }
        }
        Ok(all)
    }

    /// The policy keys of the profiles that seal to one; of all profiles, or those of `devices`.
    pub(crate) fn policy_keys(
        &self,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<ProfileName, PolicyKey>, Failure> {
        let mut all = BTreeMap::new();
        for (name, profile) in &self.fleet.profiles {
            let mut its = self.fleet.devices.iter().filter(|device| device.profile == *name);
            let is_used = devices.is_empty() || its.any(|device| devices.contains(&device.id));
            if let (KeyStore::Tpm(store), true) = (&profile.key_store, is_used)
                && let Some(signed) = &store.seal.signed
            {
                let key = tokens::read_policy_key(&self.folder.join(&signed.public_key))?;
                all.insert(name.clone(), key);
            }
        }
        Ok(all)
    }

    /// The client certificates of all devices, or those of `devices`.
    pub(crate) fn certificates(
        &self,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, Certificate>, Failure> {
        let mut its = self.fleet.devices.iter().collect::<Vec<_>>();
        its.retain(|device| devices.is_empty() || devices.contains(&device.id));
        let now = adapters::real().clock.now();
        certificates::of_devices(its, &self.folder, now).map_err(|findings| {
            let diagnostics = Diagnostics::about(&self.file, &self.text, findings);
            Failure::Manifest(Box::new(diagnostics))
        })
    }

    fn has(&self, id: &DeviceId) -> bool {
        self.fleet.devices.iter().any(|device| device.id == *id)
    }

    /// Opens the fleet's registry; `absent`: what to do where its file is not there.
    pub(crate) async fn registry(
        &self,
        args: &RegistryArgs,
        absent: Absent,
    ) -> Result<Arc<dyn Registry>, Failure> {
        let url = match &args.registry {
            Some(text) => registry_url(text)?,
            None => registry_url(&self.fleet.registry)?.relative_to(&self.folder),
        };
        open(&url, args, &self.fleet.name, absent).await
    }
}

/// A folder that goes into a volume beside what is ours.
fn fit_to_go_in(content: &Path) -> Result<(), Failure> {
    let is_folder = std::fs::metadata(content).map_err(|source| Failure::ReadFile {
        path: content.to_owned(),
        source,
    })?;
    if !is_folder.is_dir() {
        let message = format!("'{}' is no folder that could go into a volume", content.display());
        return Err(Failure::Usage(
            message,
            Some("`content` names a folder".to_owned()),
        ));
    }
    for ours in ["psk", "device.toml"] {
        if content.join(ours).symlink_metadata().is_ok() {
            let message = format!("'{}' has a '{ours}' of its own", content.display());
            let hint = "/psk and /device.toml of a volume are made by apply: rename it";
            return Err(Failure::Usage(message, Some(hint.to_owned())));
        }
    }
    Ok(())
}

/// Reads a folder of makers' certificates. Every file of it counts: one that cannot be read could be the root that a fleet
/// rests on, and a folder without any root trusts nobody.
fn roots(folder: &Path, profile: &ProfileName) -> Result<Roots, Failure> {
    let files = crate::ek_roots::files(folder)?;
    let roots = Roots::read(
        files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    );
    if roots.root_subjects().next().is_none() {
        let left_out: Vec<String> = roots.unreadable().iter().map(ToString::to_string).collect();
        let hint = match left_out.as_slice() {
            [] => "put the self-signed certificates of your TPMs' makers there, DER or PEM".to_owned(),
            files => format!("these cannot be read: {}", files.join("; ")),
        };
        let message = format!(
            "profile '{profile}': there is no root certificate in '{}'",
            folder.display()
        );
        return Err(Failure::Usage(message, Some(hint)));
    }
    Ok(roots)
}

/// Opens the registry of the fleet that `device` commands name. It must be there: none is made for a mistyped path.
pub(crate) async fn fleet_registry(args: &FleetArgs) -> Result<Arc<dyn Registry>, Failure> {
    match (&args.manifest, &args.fleet, &args.registry.registry) {
        (Some(manifest), _, _) => {
            Loaded::read(manifest)?
                .registry(&args.registry, Absent::Refuse)
                .await
        }
        (None, Some(fleet), Some(text)) => {
            open(&registry_url(text)?, &args.registry, fleet, Absent::Refuse).await
        }
        // The command line's own rules leave nothing else.
        (None, _, _) => Err(Failure::Usage(
            "no fleet is named".to_owned(),
            Some("--manifest FILE".to_owned()),
        )),
    }
}

async fn open(
    url: &RegistryUrl,
    args: &RegistryArgs,
    fleet: &FleetName,
    absent: Absent,
) -> Result<Arc<dyn Registry>, Failure> {
    registry::open(url, &options(args, absent), fleet)
        .await
        .map_err(Failure::RegistryOpen)
}

fn registry_url(text: &str) -> Result<RegistryUrl, Failure> {
    text.parse().map_err(|source| Failure::RegistryUrl {
        text: text.to_owned(),
        source,
    })
}

fn options(args: &RegistryArgs, absent: Absent) -> Options {
    let identity = match (&args.registry_cert, &args.registry_key) {
        (Some(cert), Some(key)) => Some(ClientIdentity {
            cert: cert.clone(),
            key: key.clone(),
        }),
        _ => None,
    };
    let tls = args.registry_ca.clone().map(|ca| TlsFiles { ca, identity });
    let user = match (&args.registry_user, &args.registry_password_file) {
        (Some(name), Some(file)) => Some(User {
            name: name.clone(),
            password_file: file.clone(),
        }),
        _ => None,
    };
    Options {
        tls,
        user,
        absent,
        ..Options::default()
    }
}
