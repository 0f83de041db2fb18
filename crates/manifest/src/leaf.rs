//! The leaves of a manifest: names, sizes, durations, handles and addresses, each with its finding and its pattern.
//!
//! Owns: the text forms that are the manifest's own (`32MiB`, `10m`, `0x81010020`); the grammar of names and digests
//! is `domain`'s. An attacker who writes the manifest controls every text.

use std::time::Duration;

use domain::{Audience, DeviceId, FleetName, HashAlg, PcrIndex, PolicyName, ProfileName};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    fleet::{DEVICE_PLACEHOLDER, EkKind, SectorSize, Srk},
    hint::nearest_or_list,
    walk::{Findings, Key, Read, Value, wrong_type},
};

/// What is wrong with a leaf: message and hint.
pub(crate) type Wrong = (String, Option<String>);

/// Reads a string leaf by `parse`.
pub(crate) fn text_leaf<T>(
    value: &Value<'_>,
    findings: &mut Findings,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    let Some(text) = value.get_ref().as_str() else {
        wrong_type(value, "a string", findings);
        return None;
    };
    parse(text)
        .map_err(|(message, hint)| findings.push(value.span(), message, hint))
        .ok()
}

const ID_PATTERN: &str = "^[a-z0-9-]{1,63}$";

macro_rules! identifiers {
    ($($name:ident),*) => { $(
        impl Read for $name {
            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": ID_PATTERN })
            }

            fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
                text_leaf(value, findings, <Self as Key>::parse)
            }
        }

        impl Key for $name {
            const PATTERN: &'static str = ID_PATTERN;

            fn parse(text: &str) -> Result<Self, Wrong> {
                text.parse().map_err(|wrong: domain::id::InvalidId| (wrong.to_string(), None))
            }
        }
    )* };
}
identifiers!(FleetName, PolicyName, ProfileName, DeviceId);

impl Read for Audience {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!-~]{1,255}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: domain::audience::InvalidAudience| {
                let hint = "the service's origin is a good one, as in \"https://llm.example\"";
                (wrong.to_string(), Some(hint.to_owned()))
            })
        })
    }
}

/// The one version of the format.
#[derive(Debug)]
pub(crate) struct VersionOne;

impl Read for VersionOne {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        match u64::read(value, findings)? {
            1 => Some(Self),
            other => {
                let hint = Some("write `version = 1`, or use a newer provisioner".to_owned());
                findings.push(value.span(), format!("version {other} is not known here"), hint);
                None
            }
        }
    }
}

/// One word out of a fixed list.
fn word_leaf<T: Copy>(
    what: &str,
    words: &[(&str, T)],
    value: &Value<'_>,
    findings: &mut Findings,
) -> Option<T> {
    text_leaf(value, findings, |text| {
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let hint = nearest_or_list(text, words.iter().map(|(word, _)| *word));
                Err((format!("`{text}` is not {what}"), hint))
            }
        }
    })
}

fn word_schema<T>(words: &[(&str, T)]) -> Schema {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    json_schema!({ "enum": words })
}

macro_rules! words {
    ($name:ident, $what:literal, [$(($word:literal, $meaning:expr)),*]) => {
        impl Read for $name {
            fn schema(_: &mut SchemaGenerator) -> Schema {
                word_schema::<Self>(&[$(($word, $meaning)),*])
            }

            fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
                word_leaf($what, &[$(($word, $meaning)),*], value, findings)
            }
        }
    };
}

/// The kinds of key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyStoreName {
    Tpm,
    Otp,
}

/// The ciphers of a volume's data.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CipherName {
    AesXts,
    Adiantum,
}

words!(
    CipherName,
    "a cipher",
    [
        ("aes-xts", CipherName::AesXts),
        ("adiantum", CipherName::Adiantum)
    ]
);
words!(
    KeyStoreName,
    "a key store",
    [("tpm", KeyStoreName::Tpm), ("otp", KeyStoreName::Otp)]
);
words!(
    Srk,
    "a storage key",
    [
        ("systemd-252", Srk::Systemd252),
        ("systemd-252-rsa", Srk::Systemd252Rsa),
        ("tcg", Srk::Tcg)
    ]
);
words!(
    EkKind,
    "a kind of endorsement key",
    [("rsa-2048", EkKind::Rsa2048), ("ecc-p256", EkKind::EccP256)]
);
words!(
    HashAlg,
    "a PCR bank",
    [
        ("sha1", HashAlg::Sha1),
        ("sha256", HashAlg::Sha256),
        ("sha384", HashAlg::Sha384)
    ]
);

impl Read for PcrIndex {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": 23 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let number = u64::read(value, findings)?;
        Self::try_from(number)
            .map_err(|wrong| findings.push(value.span(), wrong.to_string(), pcr_hint()))
            .ok()
    }
}

impl Key for PcrIndex {
    const PATTERN: &'static str = "^(1?[0-9]|2[0-3])$";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        // One way to write each, so that no PCR is there twice as `7` and `07`.
        let plain = digits && (text == "0" || !text.starts_with('0'));
        let number = text.parse::<u64>().ok().filter(|_| plain);
        let number = number.ok_or_else(|| {
            let hint = Some("a PCR is a number from 0 to 23, as in `7 = \"…\"`".to_owned());
            (format!("`{text}` is not a PCR"), hint)
        })?;
        Self::try_from(number).map_err(|wrong| (wrong.to_string(), pcr_hint()))
    }
}

fn pcr_hint() -> Option<String> {
    Some("7 is Secure Boot, 4 the boot loader, 11 the unified kernel image".to_owned())
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionTtl(pub(crate) Duration);

impl SessionTtl {
    pub(crate) const DEFAULT: Self = Self(Duration::from_secs(600));
    const MIN: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(3600);
}

impl Read for SessionTtl {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["10m"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let hint = || Some("1m to 1h in whole seconds, as in \"10m\"".to_owned());
            let ttl = humantime::parse_duration(text)
                .map_err(|_| (format!("`{text}` is not a duration"), hint()))?;
            if !(Self::MIN..=Self::MAX).contains(&ttl) || ttl.subsec_nanos() != 0 {
                return Err((format!("a session cannot last {text}"), hint()));
            }
            Ok(Self(ttl))
        })
    }
}

/// A number of bytes, written with a binary unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteSize(pub(crate) u64);

impl Read for ByteSize {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB)$", "examples": ["32MiB"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
            let unit: Option<u64> = match unit.trim_start() {
                "KiB" => Some(1024),
                "MiB" => Some(1024 * 1024),
                "GiB" => Some(1024 * 1024 * 1024),
                _ => None,
            };
            unit.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit))
                .map(Self)
                .ok_or_else(|| {
                    let hint = Some("a number and KiB, MiB or GiB, as in \"32MiB\"".to_owned());
                    (format!("`{text}` is not a size"), hint)
                })
        })
    }
}

impl Read for SectorSize {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [512, 4096] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        match u64::read(value, findings)? {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            other => {
                let hint = Some("512 or 4096; 4096 is the faster one".to_owned());
                findings.push(value.span(), format!("sectors cannot have {other} bytes"), hint);
                None
            }
        }
    }
}

/// A persistent handle of the owner's range (TPM 2.0 Library part 2, 7.5; TCG registry of reserved handles).
#[derive(Debug, Clone, Copy)]
pub(crate) struct AkHandle(pub(crate) u32);

/// Where the TCG's storage root key is persistent.
const SRK_HANDLE: u32 = 0x8100_0001;

impl AkHandle {
    pub(crate) const DEFAULT: Self = Self(0x8101_0020);
}

impl Read for AkHandle {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x81[0-7][0-9a-fA-F]{5}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.strip_prefix("0x")
                .filter(|digits| digits.len() == 8)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .filter(|handle| (0x8100_0000..=0x817f_ffff).contains(handle) && *handle != SRK_HANDLE)
                .map(Self)
                .ok_or_else(|| {
                    let hint = Some("\"0x81000000\" to \"0x817fffff\", as in \"0x81010020\"".to_owned());
                    (format!("`{text}` is not a persistent handle"), hint)
                })
        })
    }
}

/// An NV index of the owner's range (TCG registry of reserved TPM 2.0 handles).
#[derive(Debug, Clone, Copy)]
pub(crate) struct CounterIndex(pub(crate) u32);

impl Read for CounterIndex {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x01[89abAB][0-9a-fA-F]{5}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.strip_prefix("0x")
                .filter(|digits| digits.len() == 8)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .filter(|index| (0x0180_0000..=0x01bf_ffff).contains(index))
                .map(Self)
                .ok_or_else(|| {
                    let hint = Some("\"0x01800000\" to \"0x01bfffff\", as in \"0x01800020\"".to_owned());
                    (format!("`{text}` is not an NV index of the owner"), hint)
                })
        })
    }
}

/// A TCTI in tpm2-tss form: `name` or `name:configuration`.
#[derive(Debug)]
pub(crate) struct TctiText(pub(crate) String);

impl TctiText {
    pub(crate) const DEFAULT: &'static str = "device:/dev/tpmrm0";
    const NAMES: [&'static str; 4] = ["device", "swtpm", "mssim", "tabrmd"];
}

impl Read for TctiText {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(device|swtpm|mssim|tabrmd):" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let Some((name, _)) = text.split_once(':') else {
                let hint =
                    Some("as in \"device:/dev/tpmrm0\" or \"swtpm:host=127.0.0.1,port=2321\"".to_owned());
                return Err((format!("`{text}` does not say how to reach a TPM"), hint));
            };
            if !Self::NAMES.contains(&name) {
                let hint = nearest_or_list(name, Self::NAMES);
                return Err((format!("`{name}` is not a way to reach a TPM"), hint));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

/// A registry's address; `registry` reads it, this looks at its scheme alone.
#[derive(Debug)]
pub(crate) struct RegistryText(pub(crate) String);

impl Read for RegistryText {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(sqlite:.+|etcd://.+)$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let rest = text
                .strip_prefix("etcd://")
                .or_else(|| text.strip_prefix("sqlite:"));
            match rest {
                Some(rest) if !rest.is_empty() => Ok(Self(text.to_owned())),
                _ => {
                    let hint = Some("\"sqlite:registry.db\" or \"etcd://host:2379,host2:2379\"".to_owned());
                    Err((format!("`{text}` is not a registry"), hint))
                }
            }
        })
    }
}

/// Where devices find the proxy.
#[derive(Debug)]
pub(crate) struct ProxyUrl(pub(crate) String);

impl Read for ProxyUrl {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let hint = Some("as in \"https://llm.example\"".to_owned());
            let not_a_url = || (format!("`{text}` is not the URL of a proxy"), hint.clone());
            let (scheme, rest) = text.split_once("://").ok_or_else(not_a_url)?;
            let authority = rest.split('/').next().unwrap_or_default();
            let visible = text.bytes().all(|b| b.is_ascii_graphic());
            if !visible || authority.is_empty() || authority.contains('@') || rest.contains(['?', '#']) {
                return Err(not_a_url());
            }
            match scheme {
                "https" => Ok(Self(text.to_owned())),
                "http" if is_loopback(authority) => Ok(Self(text.to_owned())),
                "http" => Err((
                    "plain http would send the pre-shared key in clear".to_owned(),
                    Some("use https://, or a proxy on loopback".to_owned()),
                )),
                _ => Err(not_a_url()),
            }
        })
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    host == "localhost" || host.parse::<core::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A path in which `{device}` may stand for the device id.
fn device_path(text: &str, what: &str, example: &str, is_one: bool) -> Result<String, Wrong> {
    let rest = text.replace(DEVICE_PLACEHOLDER, "");
    let hint = Some(format!(
        "a path in which `{{device}}` stands for the device id, as in \"{example}\""
    ));
    if rest.contains(['{', '}']) {
        return Err((format!("`{text}` has a placeholder that is not known"), hint));
    }
    if text.is_empty() || text.chars().any(char::is_control) || !is_one {
        return Err((format!("{text:?} is not the path of a {what}"), hint));
    }
    Ok(text.to_owned())
}

/// Where a volume or an escrow file is written.
#[derive(Debug)]
pub(crate) struct VolumePath(pub(crate) String);

impl Read for VolumePath {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": ["out/{device}.luks"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let names_a_file = !text.ends_with('/') && !text.ends_with("..");
            device_path(text, "file", "out/{device}.luks", names_a_file).map(Self)
        })
    }
}

/// A folder that goes into volumes.
#[derive(Debug)]
pub(crate) struct ContentPath(pub(crate) String);

impl Read for ContentPath {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": ["content"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            device_path(text, "folder", "content/{device}", true).map(Self)
        })
    }
}

/// A file that is read.
#[derive(Debug)]
pub(crate) struct FilePath(pub(crate) String);

impl Read for FilePath {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            if text.is_empty() || text.ends_with('/') || text.chars().any(char::is_control) {
                let hint = Some("from the manifest's folder, as in \"keys/pcr-policy.pem\"".to_owned());
                return Err((format!("{text:?} is not the path of a file"), hint));
            }
            Ok(Self(text.to_owned()))
        })
    }
}
