//! What each PCR holds, in words.
//!
//! Owns: the table. PCRs 0 to 7 are the firmware's (PC Client Platform Firmware Profile, 3.3.4), 8 to 15 the operating
//! system's: 8, 9 and 14 as GRUB and shim use them, 11 to 13 and 15 as the UAPI group's Linux TPM PCR Registry says.

use domain::PcrIndex;

/// What a PCR is for.
pub(crate) const fn pcr_meaning(pcr: PcrIndex) -> &'static str {
    match pcr.get() {
        0 => "the firmware itself; changes with every firmware update",
        1 => "the firmware's configuration: settings, boot order, tables",
        2 => "drivers and option ROMs of added hardware",
        3 => "configuration of added hardware",
        4 => {
            "boot loaders that were started, and attempts to boot; changes with boot loader and kernel updates"
        }
        5 => "boot loader configuration and the partition table (GPT)",
        6 => "events of the machine's maker",
        7 => {
            "Secure Boot: whether it is on, its keys (PK, KEK, db, dbx), and who vouched for what was started"
        }
        8 => "GRUB: its commands and the kernel's command line",
        9 => "GRUB: the files it read; Linux: the initial RAM disk",
        10 => "Linux IMA: the files that ran; rarely the same twice",
        11 => "systemd: the unified kernel image and the boot's phases",
        12 => "systemd: kernel command line and credentials from outside the image",
        13 => "systemd: system extensions",
        14 => "shim: the machine owner's keys (MOK)",
        15 => "systemd: machine id, root file system and volume keys",
        16 => "debugging: any program can reset it",
        17..=22 => "dynamic launch (DRTM)",
        _ => "applications: any program can reset it",
    }
}
