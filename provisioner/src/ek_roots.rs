//! The operator's folder of TPM makers' certificates.
//!
//! Owns: which files of it are read: all but hidden ones, in the order of their names, none longer than certificates are;
//! folders in it are left out. Who is believed is `evidence`'s to say. Nothing is fetched.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use crate::failure::Failure;

/// The longest file that is read, in bytes: a bundle of hundreds of certificates.
const MAX_FILE: u64 = 1 << 20;

/// Names and contents.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::ReadFile { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread(folder))? {
        let entry = entry.map_err(unread(folder))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !path.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(unread(&path))?;
        let len = file
            .take(MAX_FILE.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(unread(&path))?;
        if u64::try_from(len).is_ok_and(|len| len > MAX_FILE) {
            let hint = Some("the folder is for certificates alone".to_owned());
            return Err(Failure::Usage(
                format!("'{}' has more than {MAX_FILE} bytes", path.display()),
                hint,
            ));
        }
        files.push((name, bytes));
    }
    files.sort();
    Ok(files)
}
