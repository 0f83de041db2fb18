//! The two kinds of machine: what Debian, UEFI and QEMU call them, and where their firmware is.

use std::fmt;

/// The processor of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// A PC: q35 with OVMF.
    X86_64,
    /// QEMU's `virt` with AAVMF.
    Aarch64,
}

impl Arch {
    /// Debian's name.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The folder of its libraries.
    #[must_use]
    pub const fn triplet(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// Where its programs find their dynamic linker, and what it links to.
    #[must_use]
    pub const fn linker(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("usr/lib64", "ld-linux-x86-64.so.2"),
            Self::Aarch64 => ("usr/lib", "ld-linux-aarch64.so.1"),
        }
    }

    /// The kernel: Debian's cloud flavour, which is half the size and has what we need.
    #[must_use]
    pub const fn kernel_package(self) -> &'static str {
        match self {
            Self::X86_64 => "linux-image-cloud-amd64",
            Self::Aarch64 => "linux-image-cloud-arm64",
        }
    }

    /// systemd's stub, which makes a kernel image out of kernel, command line and initramfs.
    #[must_use]
    pub const fn stub(self) -> &'static str {
        match self {
            Self::X86_64 => "linuxx64.efi.stub",
            Self::Aarch64 => "linuxaa64.efi.stub",
        }
    }

    /// What firmware boots from a disk without any entry (UEFI 3.5.1.1).
    #[must_use]
    pub const fn boot_file(self) -> &'static str {
        match self {
            Self::X86_64 => "BOOTX64.EFI",
            Self::Aarch64 => "BOOTAA64.EFI",
        }
    }

    /// The first serial line.
    #[must_use]
    pub const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0,115200",
            Self::Aarch64 => "ttyAMA0,115200",
        }
    }

    /// QEMU and the machine.
    #[must_use]
    pub const fn qemu(self) -> (&'static str, &'static [&'static str]) {
        match self {
            // SMM keeps the operating system away from the variables of Secure Boot.
            Self::X86_64 => (
                "qemu-system-x86_64",
                &[
                    "-machine",
                    "q35,smm=on,accel=tcg",
                    "-global",
                    "driver=cfi.pflash01,property=secure,value=on",
                ],
            ),
            Self::Aarch64 => (
                "qemu-system-aarch64",
                &["-machine", "virt,accel=tcg", "-cpu", "cortex-a72"],
            ),
        }
    }

    /// QEMU's TPM for it.
    #[must_use]
    pub const fn tpm_device(self) -> &'static str {
        match self {
            Self::X86_64 => "tpm-tis",
            Self::Aarch64 => "tpm-tis-device",
        }
    }

    /// The firmware's code.
    #[must_use]
    pub const fn firmware(self) -> &'static str {
        match self {
            Self::X86_64 => "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
            Self::Aarch64 => "/usr/share/AAVMF/AAVMF_CODE.fd",
        }
    }

    /// The firmware's variables: with Debian's snakeoil key enrolled, or with none.
    #[must_use]
    pub const fn variables(self, secure_boot: SecureBoot) -> &'static str {
        match (self, secure_boot) {
            (Self::X86_64, SecureBoot::On) => "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
            (Self::X86_64, SecureBoot::Off) => "/usr/share/OVMF/OVMF_VARS_4M.fd",
            (Self::Aarch64, SecureBoot::On) => "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd",
            (Self::Aarch64, SecureBoot::Off) => "/usr/share/AAVMF/AAVMF_VARS.fd",
        }
    }

    /// Debian's snakeoil key, whose certificate is in those variables; its passphrase is "snakeoil".
    #[must_use]
    pub const fn snakeoil(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => (
                "/usr/share/ovmf/PkKek-1-snakeoil.key",
                "/usr/share/ovmf/PkKek-1-snakeoil.pem",
            ),
            Self::Aarch64 => (
                "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.key",
                "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.pem",
            ),
        }
    }

    /// Whether our programs, built for the machine that runs this, run in it too.
    #[must_use]
    pub const fn runs_our_programs(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.debian())
    }
}

/// Whether the firmware verifies what it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// Debian's snakeoil key is the platform key and the only one that signs.
    On,
    /// No key is enrolled.
    Off,
}
