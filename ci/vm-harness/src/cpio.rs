//! The archive that a kernel unpacks into its first file system: cpio, "newc".
//!
//! Owns: the format (`Documentation/driver-api/early-userspace/buffer-format.rst` of Linux). The same entries make the same bytes: owner 0,
//! time 0, numbers in order. What goes in is ours, so a name that does not fit is an error of ours.

/// An archive that grows.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTERS: u32 = 0o020_000;
const END: &str = "TRAILER!!!";

impl Archive {
    /// Adds a folder. Parents come first.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, executable: bool, content: &[u8]) {
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn characters(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTERS | 0o600, (major, minor), &[]);
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let number = if path == END { 0 } else { self.entries };
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let fields = [
            number,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0, // device
            0,
            major,
            minor,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0, // no checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        let len = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(len, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::run::filter;

    #[test]
    fn the_stock_tool_reads_it() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.characters("dev/console", 5, 1);
        archive.file("init", true, b"#!/bin/sh\n");
        archive.file("odd", false, b"123");
        archive.link("lib", "usr/lib");
        let bytes = archive.finish();
        let list = filter(Command::new("cpio").args(["-itv", "--quiet"]), &bytes).unwrap();
        let list = String::from_utf8(list).unwrap();
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(lines.len(), 5, "{list}");
        for (line, (mode, end)) in lines.iter().zip([
            ("drwxr-xr-x", "dev"),
            ("crw-------", "dev/console"),
            ("-rwxr-xr-x", "init"),
            ("-rw-r--r--", "odd"),
            ("lrwxrwxrwx", "lib -> usr/lib"),
        ]) {
            assert!(line.starts_with(mode) && line.ends_with(end), "{line}");
        }
        let odd = filter(
            Command::new("cpio").args(["-i", "--quiet", "--to-stdout", "odd"]),
            &bytes,
        );
        assert_eq!(odd.unwrap(), b"123");
    }
}
