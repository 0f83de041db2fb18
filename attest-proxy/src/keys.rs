//! The fleet's root keys, read from their files.
//!
//! Owns: the file's format (base64 of 32 bytes and at most one line end) and who may read it: the owner alone.
//! Refuses: to keep the root; only the keys derived from it leave this module: those of the contract (`protocol`), and two
//! for what this program keeps on disk, each by HKDF-SHA256 (RFC 5869, empty salt) under a label of its own.
//! An attacker controls nothing here, unless the file lies open: then it is refused.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::BASE64;
use domain::{FleetRoot, KeyId};
use protocol::{FleetKeys, KeyRing};
use ring::{aead, hkdf, hmac};
use zeroize::Zeroizing;

use crate::config::{FleetKeyFile, Settings};

/// Base64 of 32 bytes, and room to notice that there is more.
const MAX_FILE: u64 = 64;
/// HKDF `info` of the key under which lines of the audit log are authenticated.
const AUDIT_LABEL: &[u8] = b"signalbox/audit-key/1";
/// HKDF `info` of the key that seals the registry's snapshot on disk.
const SNAPSHOT_LABEL: &[u8] = b"signalbox/snapshot-key/1";

/// Why there is no key ring. The text never has any of the file's content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the fleet key {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("the fleet key {} is open to others (mode {mode:04o})\nhint: chmod 600 it", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not the base64 text of 32 bytes.
    #[error("the fleet key {} is not the base64 text of 32 bytes\nhint: openssl rand -base64 32", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// One value all over: never the output of a random generator.
    #[error("the fleet key {} is one byte repeated\nhint: openssl rand -base64 32", path.display())]
    Trivial {
        /// The file.
        path: PathBuf,
    },
}

/// All that is derived from a fleet's roots.
pub struct Loaded {
    /// The keys of the wire contract.
    pub ring: KeyRing,
    /// The keys for what is on disk: those of the current root first.
    pub storage: Vec<Arc<StorageKeys>>,
}

/// The keys of one root for what this program keeps on disk.
pub struct StorageKeys {
    id: KeyId,
    audit: hmac::Key,
    snapshot: aead::LessSafeKey,
}

impl StorageKeys {
    /// Derives the keys of `root`, which the operator named `id`.
    #[must_use]
    pub fn derive(id: KeyId, root: &FleetRoot) -> Self {
        let prk = root.expose(|bytes| hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(bytes));
        let audit = hmac::Key::new(hmac::HMAC_SHA256, expand(&prk, AUDIT_LABEL).as_slice());
        let snapshot = expand(&prk, SNAPSHOT_LABEL);
        #[expect(clippy::expect_used, reason = "a key of AES-256 has 32 bytes")]
        let snapshot =
            aead::UnboundKey::new(&aead::AES_256_GCM, snapshot.as_slice()).expect("a key of 32 bytes");
        Self {
            id,
            audit,
            snapshot: aead::LessSafeKey::new(snapshot),
        }
    }

    /// Reads a root from its file and derives the keys.
    ///
    /// # Errors
    /// [`KeyError`], naming the file.
    pub fn read(key: &FleetKeyFile) -> Result<Self, KeyError> {
        Ok(Self::derive(key.id.clone(), &read(&key.file)?))
    }

    /// The root's name.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Authenticates lines of the audit log.
    #[must_use]
    pub const fn audit(&self) -> &hmac::Key {
        &self.audit
    }

    /// Seals the registry's snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &aead::LessSafeKey {
        &self.snapshot
    }
}

impl std::fmt::Debug for StorageKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StorageKeys({})", self.id)
    }
}

/// Reads the current and, if there is one, the previous root, and derives the keys.
///
/// # Errors
/// [`KeyError`], naming the file.
pub fn load(settings: &Settings) -> Result<Loaded, KeyError> {
    let (current, storage) = derive(&settings.fleet_key)?;
    let mut storage = vec![Arc::new(storage)];
    let previous = match &settings.previous_fleet_key {
        Some(previous) => {
            let (keys, old) = derive(&previous.key)?;
            storage.push(Arc::new(old));
            Some((keys, previous.until))
        }
        None => None,
    };
    Ok(Loaded {
        ring: KeyRing::new(current, previous),
        storage,
    })
}

fn derive(key: &FleetKeyFile) -> Result<(FleetKeys, StorageKeys), KeyError> {
    let root = read(&key.file)?;
    Ok((
        FleetKeys::derive(key.id.clone(), &root),
        StorageKeys::derive(key.id.clone(), &root),
    ))
}

fn expand(prk: &hkdf::Prk, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA256 gives up to 255 * 32 bytes; 32 are asked for"
    )]
    prk.expand(&[label], hmac::HMAC_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .expect("32 bytes of HKDF-SHA256");
    key
}

fn read(path: &Path) -> Result<FleetRoot, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // The open file is asked, not the name: nothing can be swapped in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::OpenToOthers {
            path: path.into(),
            mode,
        });
    }
    let bad = || KeyError::Format { path: path.into() };
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    file.take(MAX_FILE).read_to_end(&mut text).map_err(failed)?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    // 44 digits decode into 33 bytes of room, the padding makes it 32.
    let mut room = Zeroizing::new([0; 33]);
    if digits.len() != 44 || BASE64.decode_mut(digits, room.as_mut_slice()) != Ok(FleetRoot::LEN) {
        return Err(bad());
    }
    let bytes = room.get(..FleetRoot::LEN).ok_or_else(bad)?;
    if bytes.windows(2).all(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(KeyError::Trivial { path: path.into() });
    }
    FleetRoot::copy_from(bytes).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn with(content: &str, mode: u32) -> Result<FleetRoot, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    }

    fn good() -> String {
        let mut bytes = [7; 32];
        bytes[0] = 1;
        BASE64.encode(&bytes)
    }

    #[test]
    fn a_key_is_44_digits_and_one_line_end() {
        assert!(with(&good(), 0o600).is_ok());
        assert!(with(&format!("{}\n", good()), 0o400).is_ok());
        for bad in [
            String::new(),
            "x".repeat(44),
            format!("{}\n\n", good()),
            format!("{} ", good()),
            BASE64.encode(&[1; 31]),
            BASE64.encode(&[1; 33]),
        ] {
            assert!(
                matches!(with(&bad, 0o600), Err(KeyError::Format { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(
            with(&BASE64.encode(&[9; 32]), 0o600),
            Err(KeyError::Trivial { .. })
        ));
    }

    #[test]
    fn an_open_key_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o610] {
            let Err(error) = with(&good(), mode) else {
                panic!("mode {mode:o} was taken")
            };
            assert!(matches!(error, KeyError::OpenToOthers { .. }));
            assert!(error.to_string().contains("chmod 600"));
        }
    }

    #[test]
    fn a_missing_key_is_named_and_errors_show_no_content() {
        let Err(error) = read(Path::new("/nonexistent/key")) else {
            panic!("there is no such file")
        };
        assert!(error.to_string().contains("/nonexistent/key"));
        let Err(error) = with("hunter2-hunter2", 0o600) else {
            panic!("that is no key")
        };
        assert!(!error.to_string().contains("hunter2"));
    }
}
