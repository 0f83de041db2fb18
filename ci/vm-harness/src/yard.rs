//! What all machines of one architecture share: packages, the first file system, signed and other images; and one device.
//!
//! Owns: making each once, and where it lies below `target/vm`. The device is provisioned as in a factory: a first boot shows what is measured,
//! then TPM and volumes are made from outside; see [`crate::factory`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arch::{Arch, SecureBoot};
use crate::debian::Tree;
use crate::error::VmError;
use crate::factory::{self, Device};
use crate::guest::Verb;
use crate::initramfs;
use crate::machine::{Boot, Machine};
use crate::signing::Signer;
use crate::swtpm::TpmState;
use crate::uki::{self, Parts};

/// Images of which the firmware starts some.
#[derive(Debug)]
pub struct Images {
    /// What the device is made for.
    pub good: PathBuf,
    /// Signed as well, with another command line and `provisioner` in it: another release, and a factory's own.
    pub other: PathBuf,
    /// As `good`, without its signature.
    pub unsigned: PathBuf,
    /// As `good`, with one bit of the initramfs changed after signing.
    pub tampered: PathBuf,
}

/// Everything for machines of one architecture.
#[derive(Debug)]
pub struct Yard {
    /// The architecture.
    pub arch: Arch,
    /// Our programs.
    pub programs: PathBuf,
    /// The images.
    pub images: Images,
    /// Where boots leave their folders.
    pub runs: PathBuf,
    /// Where files are kept for others.
    pub artefacts: PathBuf,
    /// The first boot, of a TPM that nobody had used.
    pub first: Boot,
    /// What was made from it.
    pub device: Device,
    boots: AtomicU32,
}

impl Yard {
    /// Makes everything below `cache`.
    ///
    /// # Errors
    /// Whatever is missing or does not work.
    pub fn build(arch: Arch, cache: &Path, programs: &Path, say: &dyn Fn(&str)) -> Result<Self, VmError> {
        let here = cache.join(arch.debian());
        fs::create_dir_all(&here).map_err(VmError::file(&here))?;
        say("packages");
        let tree = Tree::fetch(arch, cache)?;
        say("images");
        let images = Images::make(arch, &tree, programs, &here)?;
        let runs = here.join("runs");
        if runs.exists() {
            fs::remove_dir_all(&runs).map_err(VmError::file(&runs))?;
        }
        say("first boot");
        let tpm = TpmState::manufacture(&runs.join("tpm"))?;
        let first = Machine {
            arch,
            secure_boot: SecureBoot::On,
            image: &images.good,
            tpm: &tpm,
            disks: &[],
            job: &[],
        }
        .boot(&runs.join("first"))?;
        if !first.console.done() {
            return Err(unfinished(&runs.join("first")));
        }
        say("provisioning");
        let device = factory::provision(programs, &first, tpm, &runs)?;
        Ok(Self {
            arch,
            programs: programs.to_owned(),
            images,
            runs,
            artefacts: here.join("artefacts"),
            first,
            device,
            boots: AtomicU32::new(0),
        })
    }

    /// Boots the device, with a copy of its TPM, and does `job`.
    ///
    /// # Errors
    /// The machine does not work. That an image was refused is no error here.
    pub fn boot(
        &self,
        image: &Path,
        secure_boot: SecureBoot,
        disks: &[(&'static str, &Path)],
        job: &[Verb],
    ) -> Result<Boot, VmError> {
        let number = self.boots.fetch_add(1, Ordering::Relaxed);
        let name = image.file_stem().unwrap_or_default().to_string_lossy();
        let folder = self.runs.join(format!("{number}-{name}"));
        let tpm = self.device.tpm.copy(&self.runs.join(format!("{number}-tpm")))?;
        let machine = Machine {
            arch: self.arch,
            secure_boot,
            image,
            tpm: &tpm,
            disks,
            job,
        };
        let boot = machine.boot(&folder)?;
        if boot.console.booted() && !boot.console.done() {
            return Err(unfinished(&folder));
        }
        Ok(boot)
    }
}

fn unfinished(folder: &Path) -> VmError {
    let serial = folder.join("serial.log");
    let said = fs::read(&serial).unwrap_or_default();
    let tail = said.len().saturating_sub(3_000);
    VmError::Failed {
        program: serial.display().to_string(),
        status: "the machine did not come to its end".to_owned(),
        words: String::from_utf8_lossy(said.get(tail..).unwrap_or_default()).into_owned(),
    }
}

impl Images {
    fn make(arch: Arch, tree: &Tree, programs: &Path, folder: &Path) -> Result<Self, VmError> {
        let initrd = initramfs::make(arch, tree, programs, &["edge-client"], folder)?;
        let factory = initramfs::make(arch, tree, programs, &["edge-client", "provisioner"], folder)?;
        let stub = tree.read(&format!("usr/lib/systemd/boot/efi/{}", arch.stub()))?;
        let kernel = tree.read(&format!("boot/vmlinuz-{}", tree.kernel))?;
        let os_release = format!("ID=signalbox-test\nVERSION_ID={}\n", tree.kernel);
        let write = |name: &str, initrd: &[u8], more: &str| {
            let command_line = format!("console={} loglevel=3 panic=-1{more}", arch.console());
            let image = uki::make(&Parts {
                stub: &stub,
                kernel: &kernel,
                initrd,
                command_line: &command_line,
                os_release: &os_release,
            })?;
            let path = folder.join(name);
            fs::write(&path, image).map_err(VmError::file(&path))?;
            Ok(path)
        };
        let signer = Signer::new(arch, folder)?;
        let unsigned = write("unsigned.efi", &initrd, "")?;
        let other_unsigned = write("other-unsigned.efi", &factory, " signalbox.release=2")?;
        let [good, other, tampered] = ["good.efi", "other.efi", "tampered.efi"].map(|name| folder.join(name));
        signer.sign(&unsigned, &good)?;
        signer.sign(&other_unsigned, &other)?;

        let mut bytes = fs::read(&good).map_err(VmError::file(&good))?;
        let middle = initrd.get(initrd.len() / 2..).and_then(<[u8]>::first_chunk::<32>);
        let at = middle.and_then(|wanted| bytes.windows(32).position(|window| window == wanted));
        let byte = at.and_then(|at| bytes.get_mut(at));
        *byte.ok_or(VmError::Missing("initramfs in the image".to_owned()))? ^= 1;
        fs::write(&tampered, bytes).map_err(VmError::file(&tampered))?;
        Ok(Self {
            good,
            other,
            unsigned,
            tampered,
        })
    }
}
