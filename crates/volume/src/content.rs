//! The files that go into a volume.
//!
//! Owns: which paths are accepted. They are given to `debugfs` as text, so the grammar is narrow: absolute, at most
//! 8 components of letters, digits, `.`, `_` and `-`, none of which begins with a dot or a dash.

use zeroize::Zeroizing;

/// Most files of one volume.
pub(crate) const MAX_FILES: usize = 256;
/// The longest path, in bytes.
const MAX_PATH: usize = 255;
/// The deepest path, in components.
const MAX_DEPTH: usize = 8;
/// Permission bits; no set-id, no sticky.
const PERMISSIONS: u32 = 0o777;

/// A file that goes into a volume, owned by root.
pub struct ContentFile<'a> {
    /// Absolute path in the volume, such as `/psk`.
    pub path: &'a str,
    /// Permission bits, such as `0o400`.
    pub mode: u32,
    /// What it holds; wiped on drop.
    pub data: Zeroizing<Vec<u8>>,
}

/// Why a file cannot go into a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// Not a path of the grammar.
    #[error(
        "{0:?} is no path for a volume: absolute, of letters, digits, `.`, `_`, `-`, no part beginning with `.` or `-`"
    )]
    Path(String),
    /// Two files have one path, or a file is the folder of another.
    #[error("{0:?} is there twice, or is both a file and a folder")]
    Conflict(String),
    /// More than permission bits.
    #[error("{path:?} has the mode {mode:o}, only permission bits are accepted")]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// More than 256 files.
    #[error("{0} files are too many for a volume, {MAX_FILES} are possible")]
    TooMany(usize),
}

/// The folders that `files` need, parents first; checks every path on the way.
pub(crate) fn folders<'a>(files: &'a [ContentFile<'a>]) -> Result<Vec<&'a str>, InvalidContent> {
    if files.len() > MAX_FILES {
        return Err(InvalidContent::TooMany(files.len()));
    }
    let mut folders: Vec<&str> = Vec::new();
    for file in files {
        if !is_path(file.path) {
            return Err(InvalidContent::Path(file.path.to_owned()));
        }
        if file.mode & !PERMISSIONS != 0 {
            return Err(InvalidContent::Mode {
                path: file.path.to_owned(),
                mode: file.mode,
            });
        }
        let parents = file
            .path
            .match_indices('/')
            .skip(1)
            .filter_map(|(at, _)| file.path.get(..at));
        folders.extend(parents);
    }
    folders.sort_unstable();
    folders.dedup();
    let mut paths: Vec<&str> = files
        .iter()
        .map(|file| file.path)
        .chain(folders.iter().copied())
        .collect();
    paths.sort_unstable();
    match paths.array_windows().find(|[a, b]| a == b) {
        Some([twice, _]) => Err(InvalidContent::Conflict((*twice).to_owned())),
        None => Ok(folders),
    }
}

fn is_path(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH) else {
        return false;
    };
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    relative.split('/').count() <= MAX_DEPTH && relative.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> ContentFile<'_> {
        ContentFile {
            path,
            mode: 0o400,
            data: Zeroizing::default(),
        }
    }

    #[test]
    fn folders_come_parents_first_and_once() {
        let files = [file("/psk"), file("/etc/a/x"), file("/etc/a/y"), file("/etc/b")];
        assert_eq!(folders(&files).unwrap(), ["/etc", "/etc/a"]);
    }

    #[test]
    fn paths_keep_to_their_grammar() {
        let long = format!("/{}", "x".repeat(255));
        let deep = "/a".repeat(9);
        for bad in [
            "", "/", "psk", "//psk", "/psk/", "/..", "/a/../b", "/.x", "/-x", "/a b", "/a\nquit", "/ä",
            "/\"", &long, &deep,
        ] {
            assert!(
                matches!(folders(&[file(bad)]), Err(InvalidContent::Path(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn conflicts_modes_and_numbers_are_refused() {
        assert!(matches!(
            folders(&[file("/a"), file("/a")]),
            Err(InvalidContent::Conflict(_))
        ));
        assert!(matches!(
            folders(&[file("/a"), file("/a/b")]),
            Err(InvalidContent::Conflict(_))
        ));
        let setuid = ContentFile {
            mode: 0o4755,
            ..file("/a")
        };
        assert!(matches!(folders(&[setuid]), Err(InvalidContent::Mode { .. })));
        let many: Vec<_> = (0..257).map(|_| file("/a")).collect();
        assert!(matches!(folders(&many), Err(InvalidContent::TooMany(257))));
    }
}
