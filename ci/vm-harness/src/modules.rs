//! Kernel modules and the order in which they load.
//!
//! Owns: the modules that a machine needs for its disks, its TPM and its volumes, and what they depend on. The kernel package has no
//! `modules.dep`, which a hook would make; each module says itself what it depends on (`.modinfo`, "depends="). A module that is built into
//! the kernel is no file and needs none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::VmError;

/// What is wanted, of whatever is a module in this kernel.
const WANTED: [&str; 15] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    "efivarfs",
    "tpm_tis",
    "dm_mod",
    "dm_crypt",
    "ext4",
    // A template that xts asks for by name.
    "ecb",
    "xts",
    "adiantum",
    "nhpoly1305",
    "chacha_generic",
    "algif_skcipher",
    "aes_generic",
];

/// The modules below `folder` (`lib/modules/VERSION`) that are needed, each after those that it depends on.
///
/// # Errors
/// A module that another one depends on is not there.
pub fn needed(folder: &Path) -> Result<Vec<PathBuf>, VmError> {
    let mut all = BTreeMap::new();
    collect(folder, &mut all)?;
    let mut order = Vec::new();
    for name in WANTED {
        if all.contains_key(name) {
            load(name, &all, &mut order)?;
        }
    }
    Ok(order)
}

fn collect(folder: &Path, all: &mut BTreeMap<String, PathBuf>) -> Result<(), VmError> {
    for entry in fs::read_dir(folder).map_err(VmError::file(folder))? {
        let path = entry.map_err(VmError::file(folder))?.path();
        if path.is_dir() {
            collect(&path, all)?;
        } else if let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".ko"))
        {
            all.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn load(name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<PathBuf>) -> Result<(), VmError> {
    let path = all
        .get(name)
        .ok_or_else(|| VmError::Missing(format!("kernel module {name}")))?;
    if order.contains(path) {
        return Ok(());
    }
    let bytes = fs::read(path).map_err(VmError::file(path))?;
    // The kernel refuses circles when it is built.
    for other in depends(&bytes) {
        load(&other, all, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// `depends=a,b-c` between two NULs.
fn depends(module: &[u8]) -> Vec<String> {
    let entry = module
        .split(|byte| *byte == 0)
        .find_map(|text| text.strip_prefix(b"depends="));
    let text = String::from_utf8_lossy(entry.unwrap_or_default()).into_owned();
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("kernel");
        fs::create_dir(&below).unwrap();
        for (name, depends) in [
            ("dm-crypt", "dm-mod"),
            ("dm-mod", ""),
            ("virtio_pci", "virtio"),
            ("virtio_blk", "virtio"),
            ("virtio", ""),
            ("unwanted", ""),
        ] {
            let info = format!("\0license=GPL\0depends={depends}\0name=x\0");
            fs::write(below.join(format!("{name}.ko")), info).unwrap();
        }
        let order = needed(folder.path()).unwrap();
        let names: Vec<_> = order
            .iter()
            .map(|path| path.file_stem().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["virtio", "virtio_pci", "virtio_blk", "dm-mod", "dm-crypt"]
        );
    }

    #[test]
    fn a_dependency_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("xts.ko"), b"\0depends=gf128mul\0").unwrap();
        let text = needed(folder.path()).unwrap_err().to_string();
        assert!(text.contains("gf128mul"), "{text}");
    }
}
