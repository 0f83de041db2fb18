//! The factory: keys into a machine's TPM and volumes sealed to its boot, from outside, while the machine is off.
//!
//! Owns: the way there. A first boot leaves its event log; replayed onto the same TPM, without power in between, it gives the very PCRs that the
//! machine will have again, so that `provisioner apply` seals to them and registers what a quote must show, as it would on the machine. The
//! second volume, with the cipher for machines without an AES unit, is written by the same crates.
//! What is secret is new each time and stays in memory and in the volumes; for comparing, only digests are kept.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue, Psk, SealedSecret, VolumeKey, VolumeKeyDigest};
use evidence::EventLog;
use tpm::{RollbackIndex, Tcti, Tpm};
use volume::{ContentFile, DataCipher, Existing, KeyslotId, Options, Recipe, SystemdTpm2};
use zeroize::Zeroizing;

use crate::error::VmError;
use crate::machine::Boot;
use crate::run::succeed;
use crate::swtpm::TpmState;

/// The PCRs to which the volumes are sealed: Secure Boot's state, and the image.
pub const SEALED_TO: [u64; 2] = [7, 11];
/// The name of the device.
pub const DEVICE: &str = "vm-01";
/// Bytes of a volume.
const SIZE: u64 = 32 << 20;

/// A volume, and how to know that what was read is what is in it.
#[derive(Debug)]
pub struct Sealed {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its key's text, in hexadecimal digits.
    pub psk: String,
    /// SHA-256 of the volume's own key, by which the volume is known.
    pub volume_key: VolumeKeyDigest,
}

/// A provisioned device without power.
#[derive(Debug)]
pub struct Device {
    /// Its TPM, with attestation key.
    pub tpm: TpmState,
    /// Its volume, made by `provisioner apply`.
    pub aes: Sealed,
    /// Another one, for a machine without AES instructions.
    pub adiantum: Sealed,
    /// Somebody else's, sealed to the device's own TPM and PCRs, with the UUID of `aes`: sealing needs nothing secret.
    pub planted: Sealed,
    /// Two generations of a volume: the TPM's counter stands at that of the older one.
    pub older: Sealed,
    /// The one after it.
    pub younger: Sealed,
    /// What a quote must show: `evidence golden` of the first boot.
    pub policy: PathBuf,
}

/// Provisions the machine that made the first boot.
///
/// # Errors
/// The log does not replay to the machine's PCRs, or a step fails.
pub fn provision(programs: &Path, first: &Boot, tpm: TpmState, folder: &Path) -> Result<Device, VmError> {
    let (running, tcti) = tpm.for_tools(&folder.join("factory-swtpm.log"))?;
    let log = first.event_log()?;
    replay(&log, &tcti)?;
    agrees(first, &tcti)?;

    let log_file = folder.join("first/results/binary_bios_measurements");
    let provisioner = || Command::new(programs.join("provisioner"));
    let golden = succeed(
        provisioner()
            .args([
                "evidence",
                "golden",
                "--name",
                "vm",
                "--tcti",
                &tcti,
                "--event-log",
            ])
            .arg(&log_file),
    )?;
    let policy = folder.join("policy.toml");
    fs::write(&policy, &golden).map_err(VmError::file(&policy))?;
    let manifest = folder.join("fleet.toml");
    let text = format!("{}\n{}", manifest_text(&tcti), String::from_utf8_lossy(&golden));
    fs::write(&manifest, text).map_err(VmError::file(&manifest))?;
    succeed(provisioner().args(["--json", "apply", "--yes"]).arg(&manifest))?;

    let path = folder.join(format!("{DEVICE}.luks"));
    let psk = Zeroizing::new(succeed(
        provisioner()
            .args(["volume", "cat"])
            .arg(&path)
            .args(["/psk", "--tcti", &tcti]),
    )?);
    let psk = Psk::parse(psk.trim_ascii_end()).map_err(|why| VmError::ours(&why))?;
    let (uuid, volume_key) = known_by(&path, &manifest, programs)?;
    let aes = Sealed {
        path,
        psk: psk.digest().to_string(),
        volume_key,
    };
    let make = |name: &str, uuid, options| seal(&tcti, &folder.join(name), uuid, options);
    let options = Options {
        cipher: DataCipher::Adiantum,
        ..Options::default()
    };
    let adiantum = make("adiantum.luks", random()?, options)?;
    let planted = make("planted.luks", uuid, Options::default())?;
    let first = open(&tcti)?
        .define_generation(RollbackIndex::default())
        .map_err(|why| VmError::ours(&why))?;
    let of = |generation| Options {
        generation: Some(generation),
        ..Options::default()
    };
    let older = make("older.luks", uuid, of(first))?;
    let younger = make("younger.luks", uuid, of(first.next()))?;
    drop(running);
    Ok(Device {
        tpm,
        aes,
        adiantum,
        planted,
        older,
        younger,
        policy,
    })
}

/// The UUID of the device's volume, and the digest of its key, out of the registry.
fn known_by(volume: &Path, manifest: &Path, programs: &Path) -> Result<([u8; 16], VolumeKeyDigest), VmError> {
    let file = File::open(volume).map_err(VmError::file(volume))?;
    let header = volume::inspect(&file).map_err(|why| VmError::ours(&why))?;
    let uuid = header
        .uuid_bytes()
        .ok_or_else(|| VmError::Missing("UUID".to_owned()))?;
    let shown = succeed(
        Command::new(programs.join("provisioner"))
            .args(["--json", "device", "show", DEVICE, "--manifest"])
            .arg(manifest),
    )?;
    let shown: serde_json::Value = serde_json::from_slice(&shown).map_err(|why| VmError::ours(&why))?;
    let digest = shown.get("volume-key").and_then(serde_json::Value::as_str);
    let digest = digest.and_then(|digest| digest.parse().ok());
    let digest = digest.ok_or_else(|| VmError::Missing("volume-key of the device".to_owned()))?;
    Ok((uuid, digest))
}

/// Extends the TPM by every measured event of the log, in order.
///
/// # Errors
/// The log has no SHA-256 digests; the TPM.
pub fn replay(log: &[u8], tcti: &str) -> Result<(), VmError> {
    let log = EventLog::parse(log).map_err(|why| VmError::ours(&why))?;
    let mut tpm = open(tcti)?;
    for event in log.events().iter().filter(|event| event.is_measured()) {
        let pcr = PcrIndex::try_from(u64::from(event.pcr)).map_err(|why| VmError::ours(&why))?;
        let digest = event.digests.of(HashAlg::Sha256);
        let digest = digest.ok_or_else(|| VmError::Missing("SHA-256 digest in the log".to_owned()))?;
        let value = PcrValue::new(HashAlg::Sha256, digest).map_err(|why| VmError::ours(&why))?;
        tpm.extend(pcr, HashAlg::Sha256, &value)
            .map_err(|why| VmError::ours(&why))?;
    }
    Ok(())
}

/// After the replay the TPM is as it was in the machine. PCR 10 is the kernel's own (IMA), and in no firmware's log.
fn agrees(boot: &Boot, tcti: &str) -> Result<(), VmError> {
    let mut tpm = open(tcti)?;
    for (pcr, said) in boot.console.pcrs() {
        if pcr.get() == 10 {
            continue;
        }
        let selection = PcrSelection::new(HashAlg::Sha256, [pcr]).map_err(|why| VmError::ours(&why))?;
        let values = tpm.read_pcrs(&selection).map_err(|why| VmError::ours(&why))?;
        if values.iter().next() != Some((pcr, said)) {
            return Err(VmError::Unexpected {
                expected: format!("PCR {pcr} {said}, as the machine has it"),
                found: format!("{values:?} from its event log"),
            });
        }
    }
    Ok(())
}

/// Writes a volume that the TPM opens in its present state, with a key that is in no other.
///
/// # Errors
/// The TPM or the volume refuses.
pub fn seal(tcti: &str, path: &Path, uuid: [u8; 16], options: Options<'_>) -> Result<Sealed, VmError> {
    let secret = SealedSecret::try_fill(fill)?;
    let pcrs = SEALED_TO
        .map(PcrIndex::try_from)
        .into_iter()
        .collect::<Result<Vec<_>, _>>();
    let pcrs = PcrSelection::new(HashAlg::Sha256, pcrs.map_err(|why| VmError::ours(&why))?);
    let pcrs = pcrs.map_err(|why| VmError::ours(&why))?;
    let object = open(tcti)?
        .seal(&secret, &pcrs, false)
        .map_err(|why| VmError::ours(&why))?;
    let token = SystemdTpm2 {
        keyslot: KeyslotId::SEALED,
        blob: object.private_then_public,
        pcrs,
        primary_alg: volume::PrimaryAlg::Ecc,
        policy_hash: object.policy_hash,
    };
    let psk = Psk::generate(&random()?);
    let files = [ContentFile {
        path: "/psk",
        mode: 0o400,
        data: Zeroizing::new(psk.expose(<[u8]>::to_vec)),
    }];
    let recipe = Recipe {
        uuid,
        label: "signalbox-test",
        size: SIZE,
        files: &files,
        existing: Existing::Refuse,
    };
    let target = File::options().read(true).write(true).create_new(true).open(path);
    let target = target.map_err(VmError::file(path))?;
    let key = VolumeKey::try_fill(fill)?;
    let mut entropy = urandom()?;
    // `fill` has read from the same device before; a device that ends would show in the volume's own check.
    let mut draw = |room: &mut [u8]| drop(entropy.read_exact(room));
    let created = volume::create_with(&target, &recipe, options, &key, &secret, &token, &mut draw)
        .map_err(|why| VmError::ours(&why))?;
    Ok(Sealed {
        path: path.to_owned(),
        psk: psk.digest().to_string(),
        volume_key: created.volume_key_digest,
    })
}

fn open(tcti: &str) -> Result<Tpm, VmError> {
    let tcti: Tcti = tcti.parse().map_err(|why| VmError::ours(&why))?;
    Tpm::open(&tcti).map_err(|why| VmError::ours(&why))
}

/// Bytes from the kernel.
///
/// # Errors
/// [`VmError::File`].
pub fn random<const N: usize>() -> Result<[u8; N], VmError> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn fill<const N: usize>(room: &mut [u8; N]) -> Result<(), VmError> {
    urandom()?.read_exact(room).map_err(VmError::file("/dev/urandom"))
}

fn urandom() -> Result<File, VmError> {
    File::open("/dev/urandom").map_err(VmError::file("/dev/urandom"))
}

fn manifest_text(tcti: &str) -> String {
    let pcrs = SEALED_TO.map(|pcr| pcr.to_string()).join(", ");
    format!(
        "version = 1\n\n[fleet]\nname = \"vm\"\naudience = \"https://llm.vm.example\"\nregistry = \"sqlite:registry.db\"\n\
         proxy = \"http://127.0.0.1:8080\"\n\n[policies.vm]\nmodels = [\"smollm2:135m\"]\n\n\
         [profiles.vm]\nkey-store = \"tpm\"\ntcti = \"{tcti}\"\nek = \"rsa-2048\"\nek-trust = \"first-use\"\nmeasured-boot = true\n\n\
         [profiles.vm.volume]\npath = \"{{device}}.luks\"\nsize = \"32MiB\"\nseal-bank = \"sha256\"\nseal-pcrs = [{pcrs}]\n\n\
         [[devices]]\nid = \"{DEVICE}\"\nprofile = \"vm\"\npolicy = \"vm\"\n"
    )
}
