//! A folder as an ext4 file system in memory: `mke2fs -d`, then every inode made independent of when and by whom the folder
//! was made.
//!
//! Owns: what may be in the folder, and that two folders with the same names, contents, modes and links make the same image:
//! owner and group become root (unless they are to be kept), every time becomes [`TIME`]. `mke2fs` sorts by name; sizes,
//! holes, hard links, symbolic links and extended attributes come along.
//! Refuses devices, pipes and sockets. Does not follow symbolic links. The folder is its owner's: nothing of it is hidden
//! from this machine, and it is not to be changed meanwhile.
//! Limits: the image's pages are in memory until the volume is written.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _},
    path::{Path, PathBuf},
};

use crate::{
    FilesystemError,
    filesystem::{MIN_INODES, TIME, debugfs, memory_file, mke2fs},
    reserve::within_limit,
};

/// Most entries of a folder, those below it counted.
const MAX_ENTRIES: u64 = 4_000_000;
/// Where a superblock is, and in it the counts of all inodes and of the free ones.
const SUPERBLOCK: u64 = 1024;
const FREE_INODES: usize = 16;
/// The root's inode, and the first that is not reserved.
const ROOT_INODE: u32 = 2;
const FIRST_INODE: u32 = 11;

/// Whose the files of a folder are in the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Root's, whoever made the folder.
    #[default]
    Root,
    /// The numbers that the files have here.
    Keep,
}

/// Makes an image of `len` bytes with the content of `folder`.
pub(crate) fn make(
    folder: &Path,
    owners: Owners,
    len: u64,
    uuid: &str,
    hash_seed: &str,
) -> Result<File, FilesystemError> {
    let unreadable = |path: &Path, source| FilesystemError::Folder {
        path: path.to_owned(),
        source,
    };
    let entries = count(folder)?;
    let opened = File::open(folder).map_err(|e| unreadable(folder, e))?;
    let image = memory_file("image", &[])?;
    within_limit(len)
        .and_then(|()| image.set_len(len))
        .map_err(FilesystemError::Memory)?;
    // Reserved inodes and `lost+found` beside the entries, and some air.
    let inodes = entries.saturating_add(64).max(MIN_INODES);
    mke2fs(&image, uuid, hash_seed, inodes, Some(opened))?;
    normalise(&image, owners)?;
    Ok(image)
}

/// Counts what is below a folder, and refuses what cannot go into a volume.
fn count(folder: &Path) -> Result<u64, FilesystemError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FilesystemError::Folder { path, source }
    };
    let mut entries = 0_u64;
    let mut rest: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(here) = rest.pop() {
        for entry in fs::read_dir(&here).map_err(failed(&here))? {
            let entry = entry.map_err(failed(&here))?;
            let kind = entry.file_type().map_err(failed(&entry.path()))?;
            let what = if kind.is_block_device() || kind.is_char_device() {
                "a device"
            } else if kind.is_fifo() {
                "a pipe"
            } else if kind.is_socket() {
                "a socket"
            } else {
                entries = entries.saturating_add(1);
                if entries > MAX_ENTRIES {
                    return Err(FilesystemError::TooMany(MAX_ENTRIES));
                }
                if kind.is_dir() {
                    rest.push(entry.path());
                }
                continue;
            };
            return Err(FilesystemError::Special {
                path: entry.path(),
                what,
            });
        }
    }
    Ok(entries)
}

/// Gives every inode the same times, and root as its owner.
fn normalise(image: &File, owners: Owners) -> Result<(), FilesystemError> {
    let used = used_inodes(image).map_err(FilesystemError::Memory)?;
    let mut commands = String::new();
    // mke2fs gives out inodes one after the other, so those in use have no gap.
    for inode in std::iter::once(ROOT_INODE).chain(FIRST_INODE..=used) {
        for field in ["atime", "ctime", "mtime", "crtime"] {
            // Writing to a String cannot fail.
            let _infallible = write!(
                commands,
                "set_inode_field <{inode}> {field} {TIME}\nset_inode_field <{inode}> {field}_extra 0\n"
            );
        }
        if owners == Owners::Root {
            let _infallible = write!(
                commands,
                "set_inode_field <{inode}> uid 0\nset_inode_field <{inode}> gid 0\n"
            );
        }
    }
    debugfs(image, None, &commands)
}

fn used_inodes(image: &File) -> io::Result<u32> {
    let mut superblock = [0; 32];
    image.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let word = |at: usize| {
        let bytes = superblock.get(at..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    Ok(word(0).saturating_sub(word(FREE_INODES)))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::SystemTime};

    use super::*;

    const UUID: &str = "11111111-2222-4333-8444-555555555555";

    /// A tree whose entries are made in the order of `names`, with times of `age` seconds.
    fn tree(names: &[&str], age: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a folder/b")).unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::write(&path, name.repeat(3000)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age);
            File::open(&path).unwrap().set_modified(time).unwrap();
        }
        let holes = File::create(folder.path().join("holes")).unwrap();
        holes.set_len(8 << 20).unwrap();
        holes.write_all_at(b"end", (8 << 20) - 3).unwrap();
        fs::hard_link(folder.path().join("one"), folder.path().join("same")).unwrap();
        symlink("/etc/passwd", folder.path().join("link")).unwrap();
        folder
    }

    fn bytes(image: &File) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(image.metadata().unwrap().len()).unwrap()];
        image.read_exact_at(&mut all, 0).unwrap();
        all
    }

    #[test]
    fn folders_that_differ_in_times_and_order_alone_make_the_same_image() {
        let one = tree(&["one", "two", "a folder/b/three", "\"quoted\" ä"], 1_000);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let two = tree(&["\"quoted\" ä", "a folder/b/three", "two", "one"], 2_000_000_000);
        let make =
            |folder: &tempfile::TempDir| make(folder.path(), Owners::Root, 16 << 20, UUID, UUID).unwrap();
        let (first, second) = (make(&one), make(&two));
        assert!(bytes(&first) == bytes(&second));
        fs::write(two.path().join("two"), "other").unwrap();
        assert!(bytes(&first) != bytes(&make(&two)));
    }

    #[test]
    fn names_contents_links_and_holes_come_along() {
        let folder = tree(&["one", "two", "a folder/b/three"], 1);
        let image = make(folder.path(), Owners::Root, 16 << 20, UUID, UUID).unwrap();
        let stored = rustix::fs::fstat(&image).unwrap().st_blocks * 512;
        assert!(
            stored < 4 << 20,
            "{stored} bytes in memory: the hole is one still"
        );
        let fs = ext4_view::Ext4::load(Box::new(image)).unwrap();
        assert_eq!(
            fs.read("/a folder/b/three").unwrap(),
            "a folder/b/three".repeat(3000).as_bytes()
        );
        assert_eq!(fs.read("/same").unwrap(), "one".repeat(3000).as_bytes());
        assert_eq!(fs.read_link("/link").unwrap(), "/etc/passwd");
        let holes = fs.read("/holes").unwrap();
        assert!(holes.len() == 8 << 20 && holes.ends_with(b"\0\0end"));
    }

    #[test]
    fn owners_are_kept_where_that_is_asked_for() {
        let folder = tree(&["one"], 1);
        std::os::unix::fs::chown(folder.path().join("one"), Some(1234), Some(70_000)).unwrap();
        for (owners, expected) in [(Owners::Root, (0, 0)), (Owners::Keep, (1234, 70_000))] {
            let image = make(folder.path(), owners, 16 << 20, UUID, UUID).unwrap();
            let fs = ext4_view::Ext4::load(Box::new(image)).unwrap();
            let found = fs.metadata("/one").unwrap();
            assert_eq!((found.uid(), found.gid()), expected);
        }
    }

    #[test]
    fn pipes_sockets_and_what_is_no_folder_are_refused_by_name() {
        let folder = tree(&["one"], 1);
        let pipe = folder.path().join("a folder/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        let refused = make(folder.path(), Owners::Root, 16 << 20, UUID, UUID);
        assert!(
            matches!(refused, Err(FilesystemError::Special { what: "a pipe", ref path }) if *path == pipe)
        );
        fs::remove_file(&pipe).unwrap();
        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = make(folder.path(), Owners::Root, 16 << 20, UUID, UUID);
        assert!(matches!(
            refused,
            Err(FilesystemError::Special { what: "a socket", .. })
        ));
        let devices = make(Path::new("/dev"), Owners::Root, 16 << 20, UUID, UUID);
        assert!(matches!(devices, Err(FilesystemError::Special { .. })));
        let none = make(&folder.path().join("one"), Owners::Root, 16 << 20, UUID, UUID);
        assert!(matches!(none, Err(FilesystemError::Folder { .. })));
    }

    #[test]
    fn a_folder_that_does_not_fit_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("big"), vec![1; 3 << 20]).unwrap();
        let refused = make(folder.path(), Owners::Root, 2 << 20, UUID, UUID);
        assert!(
            matches!(refused, Err(FilesystemError::Failed { tool: "mke2fs", .. })),
            "{refused:?}"
        );
    }
}
