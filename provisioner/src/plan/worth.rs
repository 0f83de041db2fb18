//! What the seal of a volume protects from and what not, in plain words: one line for what it is sealed to, one for what happens when
//! that is gone. Exact, because people decide by it; short, because they read it once a device.

use domain::{PcrIndex, PcrSelection};

use super::{Wanted, WantedTpm};

/// PCR 7: Secure Boot's state and keys.
const SECURE_BOOT: u8 = 7;
/// What is booted is measured into these: boot loader or unified kernel image, GRUB's commands and files, systemd-stub's image
/// (TCG PC Client Platform Firmware Profile 3.3.4; UAPI "Linux TPM PCR Registry").
const SYSTEM: [u8; 4] = [4, 8, 9, 11];

/// The lines for one device.
pub(super) fn protects(wanted: &Wanted) -> Vec<String> {
    let mut lines = match &wanted.tpm {
        Some(tpm) => sealed(tpm, wanted.measured_boot, wanted.force_uninitialised),
        None => vec![OTP.to_owned()],
    };
    if wanted.escrow.is_empty() {
        let gone = if wanted.tpm.is_some() {
            "the TPM is gone or cleared, or what is measured changes for good"
        } else {
            "the board is gone"
        };
        lines.push(format!(
            "no recovery key (no `fleet.escrow`): when {gone}, what is in the volume is lost"
        ));
    }
    lines
}

/// docs/otp-volumes.md says the same at length.
const OTP: &str = "a card or disk without the board does not open; the OTP key tells which board it is and not which software \
    runs: who starts a system of their own on the board (no Secure Boot), or becomes root on it, has the key; \
    lock_device_private_key=1 in a signed config.txt keeps the raw key from root, not its use";

fn sealed(tpm: &WantedTpm, measured_boot: bool, forced: bool) -> Vec<String> {
    let seal = &tpm.seal;
    let mut lines = Vec::new();
    if let Some(exact) = &seal.exact {
        lines.push(exact_words(exact, measured_boot, forced, seal.signed.is_some()));
    }
    if let Some((key, pcrs)) = &seal.signed {
        let also = if seal.exact.is_some() {
            "and only for"
        } else {
            "opens for"
        };
        let who = key.fingerprint().short();
        lines.push(if measured_boot {
            format!(
                "{also} a boot whose PCRs {pcrs} the holder of the key {who} signed, an older signed image too: sign nothing \
                 that hands out a shell"
            )
        } else {
            format!(
                "{also} values of PCRs {pcrs} that the holder of the key {who} signed; nothing measures this boot, so any \
                 program that runs first can put them there"
            )
        });
    }
    if seal.pin {
        lines.push(
            "and only with the PIN, of which the TPM takes a few wrong ones; the PIN is no part of a quote"
                .to_owned(),
        );
    }
    lines
}

fn has(pcrs: &PcrSelection, any: &[u8]) -> bool {
    pcrs.iter().any(|pcr| any.contains(&pcr.get()))
}

fn exact_words(pcrs: &PcrSelection, measured_boot: bool, forced: bool, beside_signed: bool) -> String {
    if forced {
        return format!(
            "a disk without its TPM does not open; PCRs {pcrs} may hold nothing (forced), and then keep nobody out who has both"
        );
    }
    if !measured_boot {
        return format!(
            "a disk without its TPM does not open; nothing measures this boot, so whoever starts a system of their own on the \
             machine can bring PCRs {pcrs} to these values and has the key"
        );
    }
    let only_secure_boot = pcrs.iter().map(PcrIndex::get).eq([SECURE_BOOT]);
    let blind = !has(pcrs, &SYSTEM) && !beside_signed;
    if blind && !has(pcrs, &[SECURE_BOOT]) {
        return format!(
            "a disk without its TPM does not open; PCRs {pcrs} say nothing of boot loader, kernel and command line: any system that \
             is started on this firmware has the key"
        );
    }
    if blind {
        return format!(
            "a disk without its TPM does not open, nor a boot with other Secure Boot keys; PCRs {pcrs} say nothing of kernel and \
             command line: what these keys let start has the key, and where Secure Boot is off, any SD card or USB stick"
        );
    }
    if only_secure_boot {
        return format!(
            "a disk without its TPM does not open, nor a boot with other Secure Boot keys (PCRs {pcrs})"
        );
    }
    format!(
        "a disk without its TPM does not open, nor a boot that measures anything else into PCRs {pcrs}: an update of what they \
         cover needs a new seal; who becomes root after a good boot has the key"
    )
}
