//! A header that encrypts nothing, in front of the device's data (CVE-2025-59054, CVE-2025-58356).
//!
//! Owns: writing it, as somebody would who has the disk in hand: the true header with its token and UUID, all ciphers replaced by the null
//! cipher, its checksums right. A client that took it would write secrets in clear, or read an attacker's file system as its own. It is held
//! to our client alone: Debian's cloud kernel has no null cipher, so that cryptsetup's refusal would show nothing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use domain::Sha256Digest;
use serde_json::Value;

use super::AES;
use super::checks::{Expect as _, expect, opened, unless};
use super::swapped::cryptsetup;
use crate::arch::SecureBoot;
use crate::error::VmError;
use crate::guest::{Opener, Verb};
use crate::run::succeed;
use crate::yard::Yard;

const NULLED: &str = "nulled";
const NULL_CIPHER: &str = "cipher_null-ecb";
/// Bytes of a binary header, which the JSON area follows (LUKS2 On-Disk Format Specification, 2.1).
const BINARY: usize = 4096;
/// Where it has its length, and its checksum, over header and JSON area with these 64 bytes zero.
const LENGTH_AT: u64 = 8;
const CHECKSUM: std::ops::Range<usize> = 448..512;

pub(super) fn refused(yard: &Yard) -> Result<(), VmError> {
    let device = &yard.device;
    let nulled = nulled(yard)?;
    let disks = [(AES, device.aes.path.as_path()), (NULLED, &nulled)];
    let [wrong, right] = [NULLED, AES].map(|disk| Verb::Unlock(Opener::Ours, disk));
    let job = [wrong.clone(), right.clone()];
    let boot = yard.boot(&yard.images.good, SecureBoot::On, &disks, &job)?;
    expect(&boot.console, &wrong, 0)?.begins("refused ", &[NULL_CIPHER])?;
    // The machine is in the state in which the true one opens.
    opened(&boot.console, &right, 0, &device.aes.psk)
}

fn nulled(yard: &Yard) -> Result<PathBuf, VmError> {
    let path = yard.runs.join("nulled.luks");
    fs::copy(&yard.device.aes.path, &path).map_err(VmError::file(&path))?;
    let file = File::options().read(true).write(true).open(&path);
    let file = file.map_err(VmError::file(&path))?;
    let mut length = [0; 8];
    file.read_exact_at(&mut length, LENGTH_AT)
        .map_err(VmError::file(&path))?;
    let length = u64::from_be_bytes(length);
    for at in [0, length] {
        rewrite(&file, &path, at, length)?;
    }
    // cryptsetup takes it for a good header: it is refused for its cipher, not for a slip of ours.
    let dump = succeed(cryptsetup(&["luksDump"]).arg(&path))?;
    let dump = String::from_utf8_lossy(&dump).into_owned();
    unless(
        dump.contains(&format!("cipher: {NULL_CIPHER}")) && dump.contains("systemd-tpm2"),
        || format!("a valid header with {NULL_CIPHER} and the device's token"),
        || dump.clone(),
    )?;
    Ok(path)
}

/// One of the two headers.
fn rewrite(file: &File, path: &Path, at: u64, length: u64) -> Result<(), VmError> {
    let no_header = || VmError::Missing(format!("LUKS2 header in {}", path.display()));
    let length = usize::try_from(length).ok().filter(|length| *length <= 4 << 20);
    let mut bytes = vec![0; length.ok_or_else(no_header)?];
    file.read_exact_at(&mut bytes, at).map_err(VmError::file(path))?;
    nullify(&mut bytes).ok_or_else(no_header)?;
    file.write_all_at(&bytes, at).map_err(VmError::file(path))
}

/// `None` if there is no header.
fn nullify(bytes: &mut [u8]) -> Option<()> {
    let (binary, area) = bytes.split_at_mut_checked(BINARY)?;
    let text = area.split(|byte| *byte == 0).next()?;
    let mut metadata: Value = serde_json::from_slice(text).ok()?;
    for segment in metadata.get_mut("segments")?.as_object_mut()?.values_mut() {
        *segment.get_mut("encryption")? = NULL_CIPHER.into();
    }
    for keyslot in metadata.get_mut("keyslots")?.as_object_mut()?.values_mut() {
        *keyslot.get_mut("area")?.get_mut("encryption")? = NULL_CIPHER.into();
    }
    let text = metadata.to_string();
    area.fill(0);
    area.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    binary.get_mut(CHECKSUM)?.fill(0);
    let checksum = Sha256Digest::of(bytes);
    let place = bytes.get_mut(CHECKSUM)?.first_chunk_mut::<32>()?;
    *place = *checksum.as_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cipher_is_replaced_and_the_checksum_is_right() {
        let text =
            br#"{"keyslots":{"0":{"area":{"encryption":"aes"}}},"segments":{"0":{"encryption":"aes"}}}"#;
        let mut bytes = vec![0; 8192];
        bytes[BINARY..BINARY + text.len()].copy_from_slice(text);
        bytes[CHECKSUM].fill(7);
        nullify(&mut bytes).unwrap();
        let said = String::from_utf8_lossy(&bytes[BINARY..]).into_owned();
        assert_eq!(said.matches(NULL_CIPHER).count(), 2, "{said}");
        assert!(!said.contains("aes"), "{said}");
        let found = bytes[CHECKSUM].to_vec();
        bytes[CHECKSUM].fill(0);
        assert_eq!(found[..32], Sha256Digest::of(&bytes).as_bytes()[..]);
        assert_eq!(found[32..], [0; 32]);
    }

    #[test]
    fn what_is_no_header_is_told() {
        assert!(nullify(&mut [0; 100]).is_none());
        assert!(nullify(&mut [0; 8192]).is_none());
    }
}
