//! Where the file of signatures over PCR policies is, and reading it with a bound.
//!
//! Owns: systemd's order of folders (`CONF_PATHS`), in which the first file that is there counts, sound or not. An attacker may have
//! written any of them: a wrong one releases nothing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use tpm::{InvalidSignatures, PolicySignatures};

/// Its name.
const NAME: &str = "tpm2-pcr-signature.json";
/// Where systemd looks for it, in this order (systemd-cryptsetup(8), `tpm2-signature=` in crypttab(5)).
const FOLDERS: [&str; 4] = [
    "etc/systemd",
    "run/systemd",
    "usr/local/lib/systemd",
    "usr/lib/systemd",
];
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a file of signatures cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignaturesError {
    /// It cannot be read.
    #[error("cannot read '{}'", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none.
    #[error("'{}' is no tpm2-pcr-signature.json of systemd's", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidSignatures,
    },
}

/// The file that is named, or the first of those that systemd would find; `None` where there is none of them.
///
/// # Errors
/// [`SignaturesError`]; a file that is named has to be there.
pub fn load(named: Option<&Path>) -> Result<Option<PolicySignatures>, SignaturesError> {
    match named.map(Path::to_owned).or_else(|| find(Path::new("/"))) {
        Some(path) => read(&path).map(Some),
        None => Ok(None),
    }
}

fn find(root: &Path) -> Option<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| root.join(folder).join(NAME))
        .find(|path| path.exists())
}

fn read(path: &Path) -> Result<PolicySignatures, SignaturesError> {
    let mut text = Vec::new();
    File::open(path)
        // One byte more than is allowed, so that it is told and not cut off.
        .and_then(|file| file.take(MAX_FILE.saturating_add(1)).read_to_end(&mut text))
        .map_err(|source| SignaturesError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    PolicySignatures::from_json(&text).map_err(|source| SignaturesError::Invalid {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_folder_of_systemds_order_wins() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path()), None);
        for folder in FOLDERS.iter().rev() {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(NAME), "{}").unwrap();
            assert_eq!(find(root.path()), Some(folder.join(NAME)));
        }
        assert!(
            find(root.path())
                .unwrap()
                .ends_with("etc/systemd/tpm2-pcr-signature.json")
        );
    }

    #[test]
    fn what_is_no_such_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signatures");
        assert!(matches!(
            load(Some(&path)),
            Err(SignaturesError::Unreadable { .. })
        ));
        for bad in ["[]".to_owned(), " ".repeat((1 << 20) + 1)] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(load(Some(&path)), Err(SignaturesError::Invalid { .. })));
        }
        // No file of any length is read to its end.
        let endless = load(Some(Path::new("/dev/zero")));
        assert!(matches!(
            endless,
            Err(SignaturesError::Invalid {
                source: InvalidSignatures::TooLong,
                ..
            })
        ));
        fs::write(&path, "{}").unwrap();
        assert_eq!(load(Some(&path)).unwrap(), Some(PolicySignatures::default()));
    }
}
