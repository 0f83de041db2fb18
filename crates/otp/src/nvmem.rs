//! The raw device key out of its nvmem file: the way around a firmware that has no cryptography.
//!
//! Owns: the order of the bytes. The driver (raspberrypi/linux `drivers/nvmem/raspberrypi-otp.c`) hands out the OTP rows
//! as words in the machine's order, the key is their big-endian text in the order of the rows: on a little-endian machine
//! each four bytes are turned around. HMAC-SHA256 under that key is what the firmware computes (`rpifwcrypto/README.md`,
//! "OpenSSL equivalents").
//! Refuses a key that the firmware would refuse: a volume that opens this way opens by the firmware too.
//! Limits: the key is in this process's memory for the moment; that this file can be read at all means that root can read it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use ring::hmac;
use zeroize::Zeroizing;

use crate::{
    error::NvmemError,
    scalar::{self, Scalar},
};

/// Where kernels have it: the name is that of the device-tree node, `nvmem_priv` in Raspberry Pi's own trees.
pub(crate) const FILES: [&str; 2] = [
    "/sys/bus/nvmem/devices/nvmem_priv0/nvmem",
    "/sys/bus/nvmem/devices/rpi-otp-private-key0/nvmem",
];
/// Bytes of a key: rows 56 to 63 of a BCM2711.
const LEN: usize = 32;
/// A BCM2712 has twice as many rows for keys.
const LONGEST: usize = 64;

/// HMAC-SHA256 of a message under the raw key in the first of `files` that is there.
pub(crate) fn hmac(files: &[PathBuf], message: &[u8]) -> Result<Zeroizing<[u8; 32]>, NvmemError> {
    let key = key(files)?;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), message);
    let mut value = Zeroizing::new([0; 32]);
    value
        .iter_mut()
        .zip(tag.as_ref())
        .for_each(|(to, from)| *to = *from);
    Ok(value)
}

fn key(files: &[PathBuf]) -> Result<Zeroizing<[u8; LEN]>, NvmemError> {
    let mut rows = Zeroizing::new([0; LONGEST + 1]);
    let len = read(files, rows.as_mut_slice())?;
    let (key, rest) = rows.split_at(LEN);
    // More rows than a key's must be empty: two keys would leave open which one the firmware means.
    if !(len == LEN || len == LONGEST && rest.iter().all(|byte| *byte == 0)) {
        return Err(NvmemError::Length(len));
    }
    let mut turned = Zeroizing::new([0; LEN]);
    let (to, _) = turned.as_chunks_mut::<4>();
    let (from, _) = key.as_chunks::<4>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = u32::from_ne_bytes(*from).to_be_bytes();
    }
    match scalar::judge(&turned) {
        Scalar::Valid => Ok(turned),
        Scalar::Zero => Err(NvmemError::NotProgrammed),
        Scalar::TooLarge => Err(NvmemError::NotAScalar),
    }
}

/// Fills the room from the first file that is there, and says how many bytes it had.
fn read(files: &[PathBuf], room: &mut [u8]) -> Result<usize, NvmemError> {
    let mut missing = NvmemError::Read {
        path: PathBuf::new(),
        source: io::ErrorKind::NotFound.into(),
    };
    for path in files {
        match File::open(path).and_then(|file| fill(file, room)) {
            Ok(len) => return Ok(len),
            Err(source) => {
                let gone = source.kind() == io::ErrorKind::NotFound;
                let path = path.clone();
                missing = NvmemError::Read { path, source };
                if !gone {
                    break;
                }
            }
        }
    }
    Err(missing)
}

/// Not `read_to_end`: a vector that grows leaves copies of the key behind.
fn fill(mut file: File, room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = room.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len = len.saturating_add(more),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}
