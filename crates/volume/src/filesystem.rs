//! An ext4 file system made in memory: `mke2fs` and `debugfs` on anonymous files that never have a name on a disk.
//!
//! Owns: the two tools, how they are called, and the check that what they made is what was asked for. The image and
//! every content are memfds which the children inherit at fixed numbers; content is never in an argument, a pipe that
//! somebody could name, or a file. The same input makes the same image: features, UUIDs, hash seed and times are given.
//! No journal: a volume is written once and mounted read-only, and a journal would keep second copies of what is in it.
//! Limits: needs e2fsprogs and a mounted `/proc`; the image's pages are in memory until the volume is written, and
//! may be swapped out: operators encrypt swap.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use ext4_view::{Ext4, Ext4Error};
use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use crate::{
    content::{self, ContentFile, InvalidContent},
    reserve::within_limit,
    sectors::SectorSize,
};

/// Features of our own choice, so that a machine's `mke2fs.conf` changes nothing.
const FEATURES: &str = "none,extent,64bit,flex_bg,metadata_csum,dir_index,filetype,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,ext_attr";
/// Every time in the image, in seconds of the epoch: no machine's clock is before it.
pub(crate) const TIME: &str = "1";
/// Inodes of an image; more where a folder has more.
pub(crate) const MIN_INODES: u64 = 512;
/// The child's number of the image; a content follows it.
const IMAGE_FD: i32 = 3;
const CONTENT_FD: i32 = 4;
/// Mode of a folder, with its file type for `debugfs`.
const FOLDER: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
/// The smallest image, in bytes.
pub(crate) const MIN_LEN: u64 = 1 << 20;

/// Why the file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// A path or mode.
    #[error(transparent)]
    Content(#[from] InvalidContent),
    /// No memory file.
    #[error("no file in memory can be made")]
    Memory(#[source] std::io::Error),
    /// The tool is not there or cannot run.
    #[error("{tool} cannot be run; it is in the package e2fsprogs")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tool reports a failure.
    #[error("{tool} failed: {message}")]
    Failed {
        /// Its name.
        tool: &'static str,
        /// The end of what it said.
        message: String,
    },
    /// What was made does not read back.
    #[error("the file system that was made cannot be read back")]
    Unreadable(#[source] Ext4Error),
    /// A file is not what was asked for: mostly the content does not fit.
    #[error("{0:?} did not get into the volume whole; is there room for it?")]
    Incomplete(String),
    /// The folder cannot be walked through.
    #[error("{path:?} cannot be read")]
    Folder {
        /// Which file or folder below it.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A device, pipe or socket.
    #[error("{path:?} is {what}, which cannot go into a volume")]
    Special {
        /// Where it is.
        path: std::path::PathBuf,
        /// `a device`, `a pipe` or `a socket`.
        what: &'static str,
    },
    /// A folder with too many entries.
    #[error("the folder has more than {0} entries")]
    TooMany(u64),
}

/// Makes an image of `len` bytes with `files` in it, and reads it back.
pub(crate) fn make(
    files: &[ContentFile<'_>],
    len: u64,
    uuid: &str,
    hash_seed: &str,
) -> Result<File, FilesystemError> {
    content::folders(files)?;
    let image = memory_file("image", &[])?;
    within_limit(len)
        .and_then(|()| image.set_len(len))
        .map_err(FilesystemError::Memory)?;
    mke2fs(&image, uuid, hash_seed, MIN_INODES, None)?;
    add(&image, files)?;
    Ok(image)
}

/// Puts files into an image, and reads them back. A path that is there already is an error.
pub(crate) fn add(image: &File, files: &[ContentFile<'_>]) -> Result<(), FilesystemError> {
    for folder in content::folders(files)? {
        let commands = format!("mkdir {folder}\nset_inode_field {folder} mode 0{FOLDER:o}\n");
        debugfs(image, None, &commands)?;
    }
    for file in files {
        let (path, mode) = (file.path, file.mode | REGULAR);
        let content = memory_file("content", &file.data)?;
        // The owner and mode of the memory file are copied by some versions: both are set.
        let commands = format!(
            "write /proc/self/fd/{CONTENT_FD} {path}\nset_inode_field {path} mode 0{mode:o}\n\
             set_inode_field {path} uid 0\nset_inode_field {path} gid 0\n"
        );
        debugfs(image, Some(content), &commands)?;
    }
    verify(image, files)
}

/// Makes an empty file system, or one with the tree of a folder in it.
pub(crate) fn mke2fs(
    image: &File,
    uuid: &str,
    hash_seed: &str,
    inodes: u64,
    folder: Option<File>,
) -> Result<(), FilesystemError> {
    let mut command = tool("mke2fs");
    let block = SectorSize::B4096.bytes().to_string();
    let inodes = inodes.to_string();
    let extended = format!("hash_seed={hash_seed},root_owner=0:0,lazy_itable_init=0,nodiscard");
    command
        .args([
            "-q", "-F", "-O", FEATURES, "-b", &block, "-I", "256", "-N", &inodes, "-m", "0", "-U", uuid,
            "-E", &extended,
        ])
        .stdin(Stdio::null());
    if folder.is_some() {
        command.arg("-d").arg(format!("/proc/self/fd/{CONTENT_FD}"));
    }
    command.arg(format!("/proc/self/fd/{IMAGE_FD}"));
    run("mke2fs", command, image, folder).map(drop)
}

/// Runs commands on the image; the first that fails is the error.
pub(crate) fn debugfs(image: &File, content: Option<File>, commands: &str) -> Result<(), FilesystemError> {
    let mut script = memory_file("commands", commands.as_bytes())?;
    script.rewind().map_err(FilesystemError::Memory)?;
    let mut command = tool("debugfs");
    command
        .args(["-w", "-f", "-"])
        .arg(format!("/proc/self/fd/{IMAGE_FD}"))
        .stdin(Stdio::from(script));
    let said = run("debugfs", command, image, content)?;
    // Its exit code is 0 whatever a command did: beside its banner it is silent only when all went well.
    match said
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("debugfs "))
    {
        Some(line) => Err(FilesystemError::Failed {
            tool: "debugfs",
            message: line.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Runs a tool with the image and a content at their numbers; gives what it said on standard error.
fn run(
    tool: &'static str,
    mut command: Command,
    image: &File,
    content: Option<File>,
) -> Result<String, FilesystemError> {
    let failed = |source| FilesystemError::Tool { tool, source };
    let image: OwnedFd = image.try_clone().map_err(failed)?.into();
    let mut mappings = vec![FdMapping {
        parent_fd: image,
        child_fd: IMAGE_FD,
    }];
    mappings.extend(content.map(|file| FdMapping {
        parent_fd: file.into(),
        child_fd: CONTENT_FD,
    }));
    command
        .fd_mappings(mappings)
        .map_err(|e| failed(std::io::Error::other(e)))?;
    let output = command.output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines
            .iter()
            .rev()
            .take(3)
            .rev()
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        Err(FilesystemError::Failed { tool, message: last })
    }
}

/// A tool in its usual place, which is not in the search path of every user, with no environment but ours.
fn tool(name: &'static str) -> Command {
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
    let program = usual
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| name.into());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("E2FSPROGS_FAKE_TIME", TIME);
    command
}

pub(crate) fn memory_file(name: &str, content: &[u8]) -> Result<File, FilesystemError> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC).map_err(|e| FilesystemError::Memory(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(content).map_err(FilesystemError::Memory)?;
    Ok(file)
}

/// Reads every file back: `debugfs` stops in the middle of a file that does not fit.
fn verify(image: &File, files: &[ContentFile<'_>]) -> Result<(), FilesystemError> {
    let reader = image.try_clone().map_err(FilesystemError::Memory)?;
    let fs = Ext4::load(Box::new(reader)).map_err(FilesystemError::Unreadable)?;
    for file in files {
        let found = fs.read(file.path).map(Zeroizing::new);
        let mode = fs
            .metadata(file.path)
            .map(|metadata| u32::from(metadata.mode()) & 0o7777);
        let whole = found.is_ok_and(|found| *found == *file.data) && mode.is_ok_and(|mode| mode == file.mode);
        if !whole {
            return Err(FilesystemError::Incomplete(file.path.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const UUID: &str = "11111111-2222-4333-8444-555555555555";

    fn file(path: &str, len: usize) -> ContentFile<'_> {
        ContentFile {
            path,
            mode: 0o400,
            data: Zeroizing::new(vec![b'k'; len]),
        }
    }

    fn bytes(image: &File) -> Vec<u8> {
        let mut all = vec![0; 16 << 20];
        image.read_exact_at(&mut all, 0).unwrap();
        all
    }

    #[test]
    fn the_same_input_makes_the_same_image() {
        let files = [file("/psk", 47), file("/etc/a/conf", 100_000), file("/empty", 0)];
        let one = make(&files, 16 << 20, UUID, UUID).unwrap();
        let two = make(&files, 16 << 20, UUID, UUID).unwrap();
        assert!(bytes(&one) == bytes(&two));
        let other = make(&files, 16 << 20, UUID, "22222222-2222-4333-8444-555555555555").unwrap();
        assert!(bytes(&one) != bytes(&other));
    }

    #[test]
    fn e2fsck_finds_nothing_to_repair() {
        let image = make(&[file("/psk", 47), file("/a/b", 5000)], 16 << 20, UUID, UUID).unwrap();
        let mut command = tool("e2fsck");
        command.args(["-f", "-n", "/proc/self/fd/3"]);
        assert!(run("e2fsck", command, &image, None).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let too_much = make(&[file("/big", 2 << 20)], MIN_LEN, UUID, UUID);
        assert!(
            matches!(
                too_much,
                Err(FilesystemError::Incomplete(_) | FilesystemError::Failed { .. })
            ),
            "{too_much:?}"
        );
        let no_room = make(&[], 4096, UUID, UUID);
        assert!(
            matches!(no_room, Err(FilesystemError::Failed { tool: "mke2fs", .. })),
            "{no_room:?}"
        );
        let bad_path = make(&[file("psk", 1)], MIN_LEN, UUID, UUID);
        assert!(matches!(bad_path, Err(FilesystemError::Content(_))));
    }
}
