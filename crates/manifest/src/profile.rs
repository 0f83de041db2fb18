//! From a raw profile to a valid one: which keys belong to which key store, and what a volume is sealed to.
//!
//! Owns: the bounds of a volume, and that whoever seals to nothing, to what any program can reset, or with a key store that has no
//! use for a key, is told. An attacker who writes the manifest controls every value.

use domain::{HashAlg, PcrIndex, PcrSelection};

use crate::{
    evidence::refuse_resettable,
    fleet::{Cipher, EkKind, KeyStore, Profile, SectorSize, SignedSeal, Srk, TpmSeal, TpmStore, VolumeSpec},
    leaf::{AkHandle, ByteSize, CipherName, KeyStoreName, TctiText},
    raw,
    walk::{Findings, Spot, Tried},
};

const MIB: u64 = 1024 * 1024;
/// The smallest volume: the LUKS2 header takes 16 MiB.
const MIN_VOLUME: u64 = 20 * MIB;
/// The largest volume: it is made in memory.
const MAX_VOLUME: u64 = 4 * 1024 * MIB;
/// The PCR of a unified kernel image, which systemd's tools sign by default.
const KERNEL_IMAGE: u64 = 11;

pub(crate) fn profile(raw: &Spot<raw::ProfileSection>, findings: &mut Findings) -> Option<Profile> {
    let section = &raw.value;
    let volume = section
        .volume
        .as_ref()
        .and_then(|volume| volume_spec(&volume.value, findings));
    let (key_store, measured_boot) = match section.key_store.as_ref()?.value {
        KeyStoreName::Tpm => {
            let store = tpm_store(raw, findings);
            let measured_boot = needed(
                &raw.span,
                "measured-boot",
                section.measured_boot.as_ref(),
                "whether the firmware measures the boot into the TPM; without it a quote tells which TPM answered, not which \
                 software runs",
                findings,
            );
            (KeyStore::Tpm(Box::new(store?)), *measured_boot?)
        }
        KeyStoreName::Otp => {
            no_tpm(section, findings);
            (KeyStore::Otp, false)
        }
    };
    Some(Profile {
        key_store,
        measured_boot,
        volume: volume?,
    })
}

/// A key that this key store needs; `None` when there is a finding about it.
fn needed<'a, T>(
    section: &std::ops::Range<usize>,
    key: &str,
    value: Option<&'a Spot<Tried<T>>>,
    hint: &str,
    findings: &mut Findings,
) -> Option<&'a T> {
    if value.is_none() {
        findings.push(
            section.clone(),
            format!("`{key}` is missing here"),
            Some(hint.to_owned()),
        );
    }
    value?.value.0.as_ref()
}

fn tpm_store(raw: &Spot<raw::ProfileSection>, findings: &mut Findings) -> Option<TpmStore> {
    let section = &raw.value;
    let ek_trust = needed(
        &raw.span,
        "ek-trust",
        section.ek_trust.as_ref(),
        "why an endorsement key is believed: by its certificate (roots), by a list (allow), or \"first-use\"",
        findings,
    );
    let seal = section.volume.as_ref().and_then(|volume| seal(volume, findings));
    let tcti = section
        .tcti
        .as_ref()
        .map_or(TctiText::DEFAULT, |tcti| tcti.value.0.as_str());
    Some(TpmStore {
        tcti: tcti.to_owned(),
        ak_handle: section
            .ak_handle
            .as_ref()
            .map_or(AkHandle::DEFAULT, |handle| handle.value)
            .0,
        ek: section.ek.as_ref().map_or(EkKind::Rsa2048, |ek| ek.value),
        ek_trust: ek_trust?.clone(),
        seal: seal?,
    })
}

fn seal(raw: &Spot<raw::VolumeSection>, findings: &mut Findings) -> Option<TpmSeal> {
    let section = &raw.value;
    let bank = section
        .seal_bank
        .as_ref()
        .map_or(HashAlg::Sha256, |bank| bank.value);
    if let Some(spot) = section
        .seal_bank
        .as_ref()
        .filter(|bank| bank.value == HashAlg::Sha1)
    {
        let hint = Some("use \"sha256\"".to_owned());
        findings.push(spot.span.clone(), "nothing is sealed to SHA-1", hint);
    }
    if section.seal_pcrs.is_none() && section.seal_signed.is_none() {
        let hint = "the PCRs that must stay as they are, as in [7]; or `seal-signed`, the key whose holder approves of their values";
        findings.push(
            raw.span.clone(),
            "`seal-pcrs` is missing here",
            Some(hint.to_owned()),
        );
        return None;
    }
    let exact = section.seal_pcrs.as_ref().map(|pcrs| {
        let list = pcrs.value.0.as_deref()?;
        selection(bank, list, &pcrs.span, findings)
    });
    let signed = section.seal_signed.as_ref().map(|signed| {
        let section = signed.value.0.as_ref()?;
        let pcrs = match &section.pcrs {
            Some(pcrs) => selection(bank, &pcrs.value, &pcrs.span, findings)?,
            None => PcrSelection::new(bank, PcrIndex::try_from(KERNEL_IMAGE)).ok()?,
        };
        Some(SignedSeal {
            public_key: section.public_key.as_ref()?.value.0.clone(),
            pcrs,
        })
    });
    // There, and not to be read: there is a finding about it.
    let whole = |there: bool, read: bool| !there || read;
    if !whole(exact.is_some(), exact.as_ref().is_some_and(Option::is_some))
        || !whole(signed.is_some(), signed.as_ref().is_some_and(Option::is_some))
    {
        return None;
    }
    Some(TpmSeal {
        bank,
        exact: exact.flatten(),
        signed: signed.flatten(),
        pin: section.pin.as_ref().is_some_and(|pin| pin.value),
        rollback_counter: section.rollback_counter.as_ref().map(|index| index.value.0),
        srk: section.srk.as_ref().map_or(Srk::Systemd252, |srk| srk.value),
    })
}

fn selection(
    bank: HashAlg,
    list: &[Spot<PcrIndex>],
    span: &std::ops::Range<usize>,
    findings: &mut Findings,
) -> Option<PcrSelection> {
    for index in list {
        refuse_resettable(index, findings);
    }
    PcrSelection::new(bank, list.iter().map(|index| index.value))
        .map_err(|wrong| findings.push(span.clone(), wrong.to_string(), None))
        .ok()
}

/// Keys that say something of a TPM, in a profile without one.
fn no_tpm(section: &raw::ProfileSection, findings: &mut Findings) {
    let mut alien = |key: &str, span: Option<std::ops::Range<usize>>, accepted: &str| {
        if let Some(span) = span {
            let message = format!("`{key}` belongs to `key-store = \"tpm\"`, and this profile has no TPM");
            findings.push(span, message, Some(accepted.to_owned()));
        }
    };
    let in_profile = "with `key-store = \"otp\"` a profile has `volume` and nothing else";
    alien(
        "tcti",
        section.tcti.as_ref().map(|spot| spot.span.clone()),
        in_profile,
    );
    alien(
        "ak-handle",
        section.ak_handle.as_ref().map(|spot| spot.span.clone()),
        in_profile,
    );
    alien(
        "ek",
        section.ek.as_ref().map(|spot| spot.span.clone()),
        in_profile,
    );
    alien(
        "ek-trust",
        section.ek_trust.as_ref().map(|spot| spot.span.clone()),
        in_profile,
    );
    let measured = section.measured_boot.as_ref();
    // That nothing is measured is true.
    let measured = measured.filter(|measured| measured.value.0 != Some(false));
    alien(
        "measured-boot",
        measured.map(|spot| spot.span.clone()),
        in_profile,
    );
    let Some(volume) = section.volume.as_ref().map(|volume| &volume.value) else {
        return;
    };
    let in_volume = "with `key-store = \"otp\"` a volume has `path`, `size`, `cipher`, `sector-size`, `content` and `escrow-path`";
    alien(
        "seal-bank",
        volume.seal_bank.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
    alien(
        "seal-pcrs",
        volume.seal_pcrs.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
    alien(
        "seal-signed",
        volume.seal_signed.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
    alien(
        "pin",
        volume.pin.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
    alien(
        "rollback-counter",
        volume.rollback_counter.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
    alien(
        "srk",
        volume.srk.as_ref().map(|spot| spot.span.clone()),
        in_volume,
    );
}

fn volume_spec(raw: &raw::VolumeSection, findings: &mut Findings) -> Option<VolumeSpec> {
    let size = raw.size.as_ref().and_then(|size| volume_size(size, findings));
    Some(VolumeSpec {
        path: raw.path.as_ref()?.value.0.clone(),
        size: size?,
        cipher: raw
            .cipher
            .as_ref()
            .map_or(Cipher::AesXts, |cipher| match cipher.value {
                CipherName::AesXts => Cipher::AesXts,
                CipherName::Adiantum => Cipher::Adiantum,
            }),
        sector_size: raw
            .sector_size
            .as_ref()
            .map_or(SectorSize::B4096, |size| size.value),
        content: raw.content.as_ref().map(|path| path.value.0.clone()),
        escrow_path: raw.escrow_path.as_ref().map(|path| path.value.0.clone()),
    })
}

fn volume_size(size: &Spot<ByteSize>, findings: &mut Findings) -> Option<u64> {
    let ByteSize(bytes) = size.value;
    if (MIN_VOLUME..=MAX_VOLUME).contains(&bytes) && bytes.is_multiple_of(MIB) {
        return Some(bytes);
    }
    let hint = Some("20MiB to 4GiB, in whole MiB; 32MiB is plenty for a key".to_owned());
    findings.push(size.span.clone(), "a volume cannot have this size", hint);
    None
}
