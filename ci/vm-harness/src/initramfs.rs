//! The first and only file system of a machine: busybox, cryptsetup with systemd's TPM token, our client, and `guest/init`.
//!
//! Owns: what goes in, found in Debian's packages and in the folder of our programs. There is no shell to reach and nothing that a disk could
//! say is run: `init` knows some verbs, powers off after the last one, and a panic is a reboot, which QEMU makes an end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arch::Arch;
use crate::cpio::Archive;
use crate::debian::Tree;
use crate::elf::{self, Libraries};
use crate::error::VmError;
use crate::modules;
use crate::run::{filter, succeed};

const INIT: &str = include_str!("../guest/init");
/// What `libcryptsetup` and systemd's token open by name.
const BY_NAME: [&str; 4] = [
    "libcryptsetup-token-systemd-tpm2.so",
    "libtss2-esys.so.0",
    "libtss2-rc.so.0",
    "libtss2-tcti-device.so.0",
];

/// Makes it, compressed. `programs` has our own, of which `ours` go in, for machines that run them.
///
/// # Errors
/// A file is missing, a tool fails.
pub fn make(
    arch: Arch,
    tree: &Tree,
    programs: &Path,
    ours: &[&str],
    scratch: &Path,
) -> Result<Vec<u8>, VmError> {
    let mut files: Vec<(String, bool, Vec<u8>)> = vec![
        ("init".to_owned(), true, INIT.as_bytes().to_vec()),
        ("usr/bin/busybox".to_owned(), true, tree.read("bin/busybox")?),
        (
            "usr/bin/cryptsetup".to_owned(),
            true,
            tree.read("sbin/cryptsetup")?,
        ),
    ];
    let mut libraries = Libraries::new();
    elf::close(
        arch,
        &tree.root,
        &tree.root.join("sbin/cryptsetup"),
        &mut libraries,
    )?;
    for name in BY_NAME {
        let (place, file) = elf::find(arch, &tree.root, name)?;
        elf::close(arch, &tree.root, &file, &mut libraries)?;
        libraries.insert(place, file);
    }
    for name in ours.iter().filter(|_| arch.runs_our_programs()) {
        let (built, stripped) = (programs.join(name), scratch.join(name));
        if !built.is_file() {
            return Err(VmError::NotBuilt(built));
        }
        succeed(Command::new("strip").arg("-o").args([&stripped, &built]))?;
        elf::close(arch, &tree.root, &stripped, &mut libraries)?;
        let content = fs::read(&stripped).map_err(VmError::file(&stripped))?;
        files.push((format!("usr/bin/{name}"), true, content));
    }
    for (place, file) in libraries {
        files.push((place, true, fs::read(&file).map_err(VmError::file(&file))?));
    }
    let mut order = String::new();
    for module in modules::needed(&tree.root.join("lib/modules").join(&tree.kernel))? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        order.push_str(&format!("{name}\n"));
        let content = fs::read(&module).map_err(VmError::file(&module))?;
        files.push((format!("modules/{name}"), false, content));
    }
    files.push(("modules/order".to_owned(), false, order.into_bytes()));
    // The kernel's zstd is as quick as its gzip is slow, which counts twice under emulation.
    filter(
        Command::new("zstd").args(["-q", "-12", "-c", "-"]),
        &pack(arch, &files),
    )
}

fn pack(arch: Arch, files: &[(String, bool, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    let mut folders: BTreeSet<String> = [
        "dev",
        "etc",
        "mnt",
        "out",
        "proc",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
    ]
    .map(str::to_owned)
    .into();
    let named: Vec<&str> = files.iter().map(|(path, ..)| path.as_str()).collect();
    let (at, linker) = arch.linker();
    folders.insert(at.to_owned());
    for path in named
        .iter()
        .copied()
        .chain(folders.clone().iter().map(String::as_str))
    {
        let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        folders.extend(parents.map(str::to_owned));
    }
    for folder in &folders {
        archive.folder(folder);
    }
    archive.characters("dev/console", 5, 1);
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/sbin", "bin"),
        ("usr/bin/sh", "busybox"),
    ] {
        archive.link(link, target);
    }
    archive.link(
        &format!("{at}/{linker}"),
        &format!("/usr/lib/{}/{linker}", arch.triplet()),
    );
    for (path, executable, content) in files {
        archive.file(path, *executable, content);
    }
    archive.finish()
}
