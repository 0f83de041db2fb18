//! What must hold in a machine. Each scenario boots its own, with a copy of the provisioned device.
//!
//! Owns: the list, and what each of them expects. A refusal counts only with the reason that is meant: a machine on which nothing works would
//! refuse as well.

mod checks;
mod disks;
mod evidence;
mod null_cipher;
mod swapped;

use crate::arch::{Arch, SecureBoot};
use crate::error::VmError;
use crate::guest::{Opener, Verb};
use crate::yard::Yard;
use checks::{Expect as _, expect, image_refused, opened, refused};

/// Names of disks.
const AES: &str = "aes";
const ADIANTUM: &str = "adiantum";

/// Something that must hold.
pub struct Scenario {
    /// Its name; that of the architecture stands before it.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// On which machines.
    pub on: &'static [Arch],
    run: fn(&Yard) -> Result<(), VmError>,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Errors
    /// It does not hold, or a machine does not work.
    pub fn run(&self, yard: &Yard) -> Result<(), VmError> {
        (self.run)(yard)
    }
}

const BOTH: &[Arch] = &[Arch::X86_64, Arch::Aarch64];
const PC: &[Arch] = &[Arch::X86_64];

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "measured",
        shows: "Secure Boot is on, and the event log replays to the PCRs that the kernel shows",
        on: BOTH,
        run: evidence::measured,
    },
    Scenario {
        name: "opens",
        shows: "dm-crypt opens both volumes with what the TPM released; a quote from inside is good; with one PCR extended neither opens",
        on: BOTH,
        run: opens,
    },
    Scenario {
        name: "swapped",
        shows: "a volume with the same UUID that somebody else made does not open, sealed to this TPM or not; nor an older one of the device",
        on: PC,
        run: swapped::swapped,
    },
    Scenario {
        name: "null-cipher",
        shows: "edge-client refuses the volume's own header with the null cipher for all of its ciphers",
        on: PC,
        run: null_cipher::refused,
    },
    Scenario {
        name: "other-image",
        shows: "under another signed image PCR 11 differs and the volumes do not open; one written there straight to a disk does, and nothing is written to disks that hold something",
        on: PC,
        run: other_image,
    },
    Scenario {
        name: "no-secure-boot",
        shows: "with Secure Boot off PCR 7 differs, the volumes do not open, and a quote with its log breaks the policy's rule",
        on: PC,
        run: no_secure_boot,
    },
    Scenario {
        name: "unsigned",
        shows: "the firmware starts no image without a signature",
        on: BOTH,
        run: |yard| image_refused(yard, &yard.images.unsigned),
    },
    Scenario {
        name: "tampered",
        shows: "the firmware starts no image that was changed after signing",
        on: PC,
        run: |yard| image_refused(yard, &yard.images.tampered),
    },
];

/// Who can open volumes in a machine of this kind.
fn openers(arch: Arch) -> &'static [Opener] {
    if arch.runs_our_programs() {
        &[Opener::Ours, Opener::Stock]
    } else {
        &[Opener::Stock]
    }
}

/// Both volumes, by everyone who can.
fn unlock_all(arch: Arch) -> Vec<Verb> {
    let both = |opener: &Opener| [AES, ADIANTUM].map(|disk| Verb::Unlock(*opener, disk));
    openers(arch).iter().flat_map(both).collect()
}

fn opens(yard: &Yard) -> Result<(), VmError> {
    let device = &yard.device;
    let disks = [
        (AES, device.aes.path.as_path()),
        (ADIANTUM, &device.adiantum.path),
    ];
    let ours = yard.arch.runs_our_programs();
    let nonce = evidence::nonce()?;
    let all = unlock_all(yard.arch);
    let mut job = all.clone();
    if ours {
        job.push(Verb::Quote(nonce.clone(), AES));
    }
    job.push(Verb::Extend(11));
    job.extend(all.clone());
    let boot = yard.boot(&yard.images.good, SecureBoot::On, &disks, &job)?;

    for verb in &all {
        let Verb::Unlock(_, disk) = verb else { continue };
        let psk = if *disk == AES {
            &device.aes.psk
        } else {
            &device.adiantum.psk
        };
        opened(&boot.console, verb, 0, psk)?;
        refused(&boot.console, verb, 1)?;
    }
    // TPM_RC_SUCCESS: what was refused was refused because of it.
    expect(&boot.console, &Verb::Extend(11), 0)?.is("00000000")?;
    if ours {
        expect(&boot.console, &Verb::Quote(nonce, AES), 0)?.is("made")?;
        evidence::quote_from_inside(yard, &boot)?;
    }
    Ok(())
}

fn other_image(yard: &Yard) -> Result<(), VmError> {
    let device = &yard.device;
    let written = disks::Disks::make(yard)?;
    let mut all_disks = vec![
        (AES, device.aes.path.as_path()),
        (ADIANTUM, &device.adiantum.path),
    ];
    all_disks.extend(written.named());
    let all = unlock_all(yard.arch);
    let job: Vec<Verb> = all.iter().cloned().chain(disks::job()).collect();
    let boot = yard.boot(&yard.images.other, SecureBoot::On, &all_disks, &job)?;
    checks::secure_boot(&boot, true)?;
    checks::only_differs(yard, &boot, 11)?;
    all.iter().try_for_each(|verb| refused(&boot.console, verb, 0))?;
    written.check(&boot.console)
}

fn no_secure_boot(yard: &Yard) -> Result<(), VmError> {
    let device = &yard.device;
    let disks = [
        (AES, device.aes.path.as_path()),
        (ADIANTUM, &device.adiantum.path),
    ];
    let all = unlock_all(yard.arch);
    let boot = yard.boot(&yard.images.good, SecureBoot::Off, &disks, &all)?;
    checks::secure_boot(&boot, false)?;
    checks::only_differs(yard, &boot, 7)?;
    all.iter().try_for_each(|verb| refused(&boot.console, verb, 0))?;
    evidence::insecure_log_is_refused(yard, &boot)
}
