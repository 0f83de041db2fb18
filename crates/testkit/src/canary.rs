//! The search for a secret that must be nowhere.
//!
//! Owns: the forms in which a secret leaks: raw, hexadecimal in either case, base64 (standard and URL alphabet) at
//! each of the three alignments that it can have inside something longer, and Rust's and JSON's list of numbers.
//! Limits: not compressed, not encrypted, not split over two records.

use std::{
    fs,
    path::{Path, PathBuf},
};

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use memchr::memmem;

/// A secret under search. Long enough (8 bytes or more) that it is not found by chance.
#[derive(Debug)]
pub struct Canary {
    name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// Where a secret was found, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The file, or what the caller called the text.
    pub place: String,
    /// The form: `raw`, `hex`, `base64`, ..
    pub form: &'static str,
    /// Byte offset of the first find.
    pub offset: usize,
}

impl Canary {
    /// Prepares the search; `name` is what a report calls the secret.
    ///
    /// # Panics
    /// The secret is shorter than 8 bytes.
    #[must_use]
    pub fn new(name: &str, secret: &[u8]) -> Self {
        assert!(secret.len() >= 8, "{name}: too short to search for");
        let mut forms = vec![
            ("raw", secret.to_vec()),
            ("hex", HEXLOWER.encode(secret).into_bytes()),
            ("hex", HEXUPPER.encode(secret).into_bytes()),
            ("list", list(secret, ", ")),
            ("list", list(secret, ",")),
        ];
        for alignment in 0..3 {
            for (form, alphabet) in [("base64", BASE64), ("base64url", BASE64URL)] {
                forms.push((form, aligned(&alphabet, secret, alignment)));
            }
        }
        Self {
            name: name.to_owned(),
            forms,
        }
    }

    /// Every form in which the secret is in `data`.
    #[must_use]
    pub fn find_in(&self, place: &str, data: &[u8]) -> Vec<Sighting> {
        self.forms
            .iter()
            .filter_map(|(form, needle)| {
                memmem::find(data, needle).map(|offset| Sighting {
                    place: place.to_owned(),
                    form,
                    offset,
                })
            })
            .collect()
    }

    /// Every sighting in a file, or in all files below a folder; symbolic links are not followed.
    ///
    /// # Panics
    /// A file cannot be read: an unread file is no clean file.
    #[must_use]
    pub fn find_below(&self, path: &Path) -> Vec<Sighting> {
        files_below(path)
            .iter()
            .flat_map(|file| {
                let data = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                self.find_in(&file.display().to_string(), &data)
            })
            .collect()
    }

    /// Fails the test when the secret is in `data`.
    ///
    /// # Panics
    /// It is.
    pub fn assert_absent(&self, place: &str, data: impl AsRef<[u8]>) {
        let found = self.find_in(place, data.as_ref());
        assert!(found.is_empty(), "{} leaked: {found:?}", self.name);
    }

    /// Fails the test when the secret is in a file or below a folder.
    ///
    /// # Panics
    /// It is, or nothing is there to be searched.
    pub fn assert_absent_below(&self, path: &Path) {
        assert!(
            !files_below(path).is_empty(),
            "{}: nothing to search",
            path.display()
        );
        let found = self.find_below(path);
        assert!(found.is_empty(), "{} leaked: {found:?}", self.name);
    }
}

fn list(secret: &[u8], separator: &str) -> Vec<u8> {
    secret
        .iter()
        .map(u8::to_string)
        .collect::<Vec<_>>()
        .join(separator)
        .into_bytes()
}

/// The characters of a base64 text that depend on the secret alone, whatever stands before and after it.
fn aligned(alphabet: &data_encoding::Encoding, secret: &[u8], before: usize) -> Vec<u8> {
    let padded: Vec<u8> = [&vec![0; before][..], secret].concat();
    let text = alphabet.encode(&padded).into_bytes();
    let first = (before * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text[first..last].to_vec()
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if metadata.is_file() {
        return vec![path.to_owned()];
    }
    if !metadata.is_dir() {
        return vec![];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries
        .flat_map(|entry| files_below(&entry.expect("a folder's entry").path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"sbx_canary/\xfb\xff\xfe-in-the-mine";

    fn forms(data: &[u8]) -> Vec<&'static str> {
        Canary::new("psk", SECRET)
            .find_in("text", data)
            .into_iter()
            .map(|s| s.form)
            .collect()
    }

    #[test]
    fn every_form_is_seen() {
        assert_eq!(forms(&[b"head ", SECRET, b" tail"].concat()), ["raw"]);
        assert_eq!(
            forms(format!("x{}y", HEXLOWER.encode(SECRET)).as_bytes()),
            ["hex"]
        );
        assert_eq!(
            forms(format!("x{}y", HEXUPPER.encode(SECRET)).as_bytes()),
            ["hex"]
        );
        assert_eq!(forms(format!("{SECRET:?}").as_bytes()), ["list"]);
    }

    #[test]
    fn base64_is_seen_wherever_the_secret_begins_in_it() {
        for before in 0..7 {
            let longer = [&vec![b'#'; before][..], SECRET, b"#####"].concat();
            assert_eq!(forms(BASE64.encode(&longer).as_bytes()), ["base64"], "{before}");
            assert_eq!(
                forms(BASE64URL.encode(&longer).as_bytes()),
                ["base64url"],
                "{before}"
            );
        }
    }

    #[test]
    fn a_clean_text_is_clean_and_a_folder_is_searched_to_its_leaves() {
        assert!(forms(b"nothing to see").is_empty());
        let dir = tempfile::tempdir().unwrap();
        let canary = Canary::new("psk", SECRET);
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/clean"), b"clean").unwrap();
        canary.assert_absent_below(dir.path());
        fs::write(dir.path().join("a/b/log"), SECRET).unwrap();
        let found = canary.find_below(dir.path());
        assert_eq!(found.len(), 1);
        assert!(found[0].place.ends_with("a/b/log"));
        assert!(std::panic::catch_unwind(|| canary.assert_absent_below(dir.path())).is_err());
    }
}
