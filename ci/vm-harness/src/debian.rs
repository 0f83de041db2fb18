//! Packages of one architecture, from Debian's mirror, unpacked into a folder.
//!
//! Owns: a private apt for each architecture below the cache folder, so that nothing is installed, no hook runs and dpkg need not know a second
//! architecture. apt checks the signatures. `SIGNALBOX_DEBIAN_MIRROR` names another mirror than deb.debian.org; it holds `debian` and
//! `debian-security`. What was unpacked once is used again; removing the folder fetches the newest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::error::VmError;
use crate::run::succeed;

/// What a machine's first file system is made of, beside the kernel.
const PACKAGES: [&str; 4] = ["busybox-static", "cryptsetup-bin", "systemd", "systemd-boot-efi"];
/// What our programs link to.
const LIBRARIES: [&str; 5] = [
    "libssl3",
    "libtss2-esys-3.0.2-0",
    "libtss2-rc0",
    "libtss2-tctildr0",
    "libtss2-tcti-device0",
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacked packages.
#[derive(Debug)]
pub struct Tree {
    /// The folder that would be `/`.
    pub root: PathBuf,
    /// The kernel's version, as `uname -r` says it.
    pub kernel: String,
}

impl Tree {
    /// The packages of an architecture below `cache`, fetched if they are not there.
    ///
    /// # Errors
    /// The mirror cannot be reached, or apt refuses.
    pub fn fetch(arch: Arch, cache: &Path) -> Result<Self, VmError> {
        let home = cache.join(arch.debian());
        let root = home.join("root");
        // Written at the very end: what it names is there as a whole.
        let stamp = home.join("packages");
        let wanted = format!("{PACKAGES:?} {LIBRARIES:?} {}\n", arch.kernel_package());
        if fs::read_to_string(&stamp).unwrap_or_default() != wanted {
            let apt = Apt::new(arch, &home)?;
            if root.exists() {
                fs::remove_dir_all(&root).map_err(VmError::file(&root))?;
            }
            for archive in apt.download()? {
                succeed(Command::new("dpkg").arg("--extract").args([&archive, &root]))?;
            }
            fs::write(&stamp, wanted).map_err(VmError::file(&stamp))?;
        }
        let kernel = kernel_version(&root)?;
        Ok(Self { root, kernel })
    }

    /// A file of it.
    ///
    /// # Errors
    /// [`VmError::File`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, VmError> {
        let path = self.root.join(path);
        fs::read(&path).map_err(VmError::file(&path))
    }
}

fn kernel_version(root: &Path) -> Result<String, VmError> {
    let folder = root.join("lib/modules");
    let mut found = fs::read_dir(&folder).map_err(VmError::file(&folder))?;
    let first = found.next().and_then(Result::ok).map(|entry| entry.file_name());
    first
        .and_then(|name| name.into_string().ok())
        .ok_or_else(|| VmError::Missing(format!("kernel in {}", folder.display())))
}

struct Apt {
    arch: Arch,
    config: PathBuf,
    archives: PathBuf,
}

impl Apt {
    fn new(arch: Arch, home: &Path) -> Result<Self, VmError> {
        let home = home.join("apt");
        // What was fetched for another list, or an older kernel, must not be unpacked beside the new one.
        let archives = home.join("cache/archives");
        if archives.exists() {
            fs::remove_dir_all(&archives).map_err(VmError::file(&archives))?;
        }
        for folder in ["state/lists/partial", "cache/archives/partial", "parts"] {
            let folder = home.join(folder);
            fs::create_dir_all(&folder).map_err(VmError::file(&folder))?;
        }
        let mirror = std::env::var("SIGNALBOX_DEBIAN_MIRROR").unwrap_or("http://deb.debian.org".to_owned());
        let sources = format!(
            "deb [signed-by={KEYRING}] {mirror}/debian bookworm main\n\
             deb [signed-by={KEYRING}] {mirror}/debian-security bookworm-security main\n"
        );
        let at = home.display();
        // Our apt reads nothing of the machine's but how to reach the network.
        let config = format!(
            "Dir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
             Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"{at}/parts\";\n\
             Dir::Etc::preferences \"{at}/none\";\nDir::Etc::preferencesparts \"{at}/parts\";\n\
             APT::Architecture \"{arch}\";\n#clear APT::Architectures;\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\nAPT::Keep-Downloaded-Packages \"true\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n#clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n"
        );
        let apt = Self {
            arch,
            config: home.join("apt.conf"),
            archives,
        };
        for (name, text) in [
            ("sources.list", &*sources),
            ("apt.conf", &*config),
            ("status", ""),
        ] {
            let path = home.join(name);
            fs::write(&path, text).map_err(VmError::file(&path))?;
        }
        Ok(apt)
    }

    /// Fetches everything; returns the package files.
    fn download(&self) -> Result<Vec<PathBuf>, VmError> {
        succeed(self.command("apt-get").args(["--quiet=2", "update"]))?;
        succeed(
            self.command("apt-get")
                .args(["--quiet=2", "--yes", "--download-only", "install"])
                .args(PACKAGES)
                .args(LIBRARIES),
        )?;
        // Not what the kernel depends on: that is for installing it.
        let kernel = self.kernel_package()?;
        succeed(self.command("apt-get").current_dir(&self.archives).args([
            "--quiet=2",
            "download",
            &kernel,
        ]))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.archives).map_err(VmError::file(&self.archives))? {
            let path = entry.map_err(VmError::file(&self.archives))?.path();
            if path.extension().is_some_and(|end| end == "deb") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The package that today's kernel is in: what the one with the lasting name depends on.
    fn kernel_package(&self) -> Result<String, VmError> {
        let name = self.arch.kernel_package();
        let text = succeed(self.command("apt-cache").args(["depends", "--important", name]))?;
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|package| package.starts_with("linux-image-"))
            .map(str::to_owned)
            .ok_or_else(|| VmError::Missing(format!("kernel behind {name}")))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.config)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}
