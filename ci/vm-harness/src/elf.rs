//! What a program needs to run: the libraries that it names, and those that they name.
//!
//! Owns: the search below a tree of packages, for any architecture. `ldd` would run the program; `readelf` reads it. Libraries that are opened
//! by name at run time are not seen: whoever knows of them names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::error::VmError;
use crate::run::succeed;

/// Libraries by the path that they have in a machine, with the file that holds each.
pub type Libraries = BTreeMap<String, PathBuf>;

/// Adds what `program` needs, found below `root`.
///
/// # Errors
/// A library that is not there; readelf fails.
pub fn close(arch: Arch, root: &Path, program: &Path, found: &mut Libraries) -> Result<(), VmError> {
    let mut left = vec![program.to_owned()];
    while let Some(file) = left.pop() {
        for name in needed(&file)? {
            let (place, library) = find(arch, root, &name)?;
            if found.insert(place, library.clone()).is_none() {
                left.push(library);
            }
        }
    }
    Ok(())
}

/// A library of this name: where it is in a machine, and the file.
///
/// # Errors
/// [`VmError::Missing`].
pub fn find(arch: Arch, root: &Path, name: &str) -> Result<(String, PathBuf), VmError> {
    let triplet = arch.triplet();
    for folder in ["lib", "usr/lib"] {
        for below in ["", "/systemd", "/cryptsetup"] {
            let file = root.join(format!("{folder}/{triplet}{below}/{name}"));
            if file.exists() {
                return Ok((format!("usr/lib/{triplet}{below}/{name}"), file));
            }
        }
    }
    Err(VmError::Missing(format!("{name} in {}", root.display())))
}

fn needed(file: &Path) -> Result<Vec<String>, VmError> {
    let text = succeed(Command::new("readelf").args(["--dynamic", "--wide"]).arg(file))?;
    Ok(names(&String::from_utf8_lossy(&text)))
}

/// ` 0x0000000000000001 (NEEDED)   Shared library: [libc.so.6]`
fn names(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_needs_libc_and_libc_its_linker() {
        let arch = if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else {
            Arch::X86_64
        };
        let mut found = Libraries::new();
        close(arch, Path::new("/"), Path::new("/bin/sh"), &mut found).unwrap();
        let libc = format!("usr/lib/{}/libc.so.6", arch.triplet());
        assert!(found.contains_key(&libc), "{found:?}");
        let (_, linker) = arch.linker();
        assert!(found.keys().any(|place| place.ends_with(linker)), "{found:?}");
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let text = find(Arch::X86_64, Path::new("/"), "libnone.so.1")
            .unwrap_err()
            .to_string();
        assert!(text.contains("libnone.so.1"), "{text}");
    }

    #[test]
    fn only_needed_libraries_count() {
        let text = " 0x1 (NEEDED)  Shared library: [libc.so.6]\n 0xe (SONAME) Library soname: [libx.so.1]\n";
        assert_eq!(names(text), ["libc.so.6"]);
    }
}
