//! Unified kernel images: systemd's stub with command line, initramfs and kernel as further PE sections.
//!
//! Owns: adding sections to a PE32+ image (Microsoft PE/COFF specification; UAPI group, "Unified Kernel Image"). Debian's objcopy knows the PE
//! images of its own architecture only; this knows both. Refuses a stub whose headers have no room for more sections. The image is not
//! signed here.

use crate::error::VmError;

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's stub.
    pub stub: &'a [u8],
    /// The kernel, itself a PE image.
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initrd: &'a [u8],
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Text in the form of `/etc/os-release`.
    pub os_release: &'a str,
}

/// Offsets from "PE\0\0" on.
const SECTIONS: usize = 6;
const OPTIONAL_LEN: usize = 20;
const OPTIONAL: usize = 24;
/// Offsets in the optional header.
const FILE_ALIGNMENT: usize = OPTIONAL + 36;
const IMAGE_LEN: usize = OPTIONAL + 56;
const HEADERS_LEN: usize = OPTIONAL + 60;
/// Bytes of an entry of the section table.
const ENTRY: usize = 40;
/// Sections begin on pages in memory.
const PAGE: u32 = 4096;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;

/// Makes the image.
///
/// # Errors
/// [`VmError::Image`].
pub fn make(parts: &Parts<'_>) -> Result<Vec<u8>, VmError> {
    let mut image = Image::new(parts.stub)?;
    image.add(b".osrel\0\0", parts.os_release.as_bytes())?;
    image.add(b".cmdline", parts.command_line.as_bytes())?;
    image.add(b".initrd\0", parts.initrd)?;
    image.add(b".linux\0\0", parts.kernel)?;
    Ok(image.bytes)
}

struct Image {
    bytes: Vec<u8>,
    /// Where "PE\0\0" is.
    pe: usize,
}

impl Image {
    fn new(stub: &[u8]) -> Result<Self, VmError> {
        let mut image = Self {
            bytes: stub.to_vec(),
            pe: 0,
        };
        image.pe = to_usize(image.long(0x3c)?)?;
        let signed = image
            .bytes
            .get(image.pe..)
            .unwrap_or_default()
            .starts_with(b"PE\0\0");
        // 0x20b: PE32+.
        if !signed || image.short(image.pe + OPTIONAL)? != 0x20b {
            return Err(VmError::Image("it is no PE32+ image"));
        }
        Ok(image)
    }

    fn add(&mut self, name: &[u8; 8], content: &[u8]) -> Result<(), VmError> {
        let count = self.short(self.pe + SECTIONS)?;
        let table = self.pe + OPTIONAL + usize::from(self.short(self.pe + OPTIONAL_LEN)?);
        let entry = table + usize::from(count) * ENTRY;
        let headers = to_usize(self.long(self.pe + HEADERS_LEN)?)?;
        // What lies there is padding: zeros, or instructions that do nothing in the stub for arm64.
        if entry + ENTRY > headers {
            return Err(VmError::Image("its headers have no room for another section"));
        }
        let len = u32::try_from(content.len()).map_err(|_| TOO_LARGE)?;
        let address = self
            .long(self.pe + IMAGE_LEN)?
            .checked_next_multiple_of(PAGE)
            .ok_or(TOO_LARGE)?;
        let end = address
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(PAGE));
        let alignment = to_usize(self.long(self.pe + FILE_ALIGNMENT)?.max(1))?;
        let start = self.bytes.len().next_multiple_of(alignment);
        let padded = content.len().next_multiple_of(alignment);

        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(start + padded, 0);
        let short = |n: usize| u32::try_from(n).map_err(|_| TOO_LARGE);
        let mut header = name.to_vec();
        for field in [len, address, short(padded)?, short(start)?, 0, 0, 0, DATA] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        self.put(entry, &header)?;
        self.put(self.pe + SECTIONS, &(count + 1).to_le_bytes())?;
        self.put(self.pe + IMAGE_LEN, &end.ok_or(TOO_LARGE)?.to_le_bytes())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<(), VmError> {
        self.bytes
            .get_mut(at..at + bytes.len())
            .ok_or(SHORT)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn short(&self, at: usize) -> Result<u16, VmError> {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|two| u16::from_le_bytes(*two)).ok_or(SHORT)
    }

    fn long(&self, at: usize) -> Result<u32, VmError> {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|four| u32::from_le_bytes(*four)).ok_or(SHORT)
    }
}

const SHORT: VmError = VmError::Image("it ends within its headers");
const TOO_LARGE: VmError = VmError::Image("it would be too large");

fn to_usize(n: u32) -> Result<usize, VmError> {
    usize::try_from(n).map_err(|_| TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::run::succeed;

    fn stub() -> Vec<u8> {
        std::fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
            .expect("apt-get install systemd-boot-efi")
    }

    fn parts(stub: &[u8]) -> Parts<'_> {
        Parts {
            stub,
            kernel: b"a kernel",
            initrd: b"an initramfs",
            command_line: "console=ttyS0",
            os_release: "ID=test\n",
        }
    }

    #[test]
    fn the_stock_tool_finds_what_was_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("uki.efi"), folder.path().join("section"));
        std::fs::write(&path, make(&parts(&stub())).unwrap()).unwrap();
        for (section, content) in [
            (".cmdline", &b"console=ttyS0"[..]),
            (".initrd", b"an initramfs"),
            (".linux", b"a kernel"),
            (".osrel", b"ID=test\n"),
        ] {
            succeed(
                Command::new("objcopy")
                    .arg(format!("--dump-section={section}={}", out.display()))
                    .args([&path, &folder.path().join("copy")]),
            )
            .unwrap();
            let found = std::fs::read(&out).unwrap();
            assert!(
                found.starts_with(content),
                "{section}: {:?}",
                &found[..content.len().min(found.len())]
            );
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let refused = |stub: &[u8]| make(&parts(stub)).unwrap_err().to_string();
        assert!(refused(b"").contains("ends within"));
        assert!(refused(&[0; 4096]).contains("no PE32+"));
        assert!(refused(stub().get(..0x90).unwrap()).contains("ends within"));
        // Headers that end where the section table does.
        let mut full = stub();
        let image = Image::new(&full).unwrap();
        let at = image.pe + HEADERS_LEN;
        full[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
        assert!(refused(&full).contains("no room"));
    }
}
