//! The configuration: a small TOML file, and the command line over it.
//!
//! Owns: which of the two wins (the command line), what is required, and the message for a mistake: file, line and
//! column, the line itself with the span underlined, and what would be accepted. Unknown keys are refused.
//! Both come from the operator of the device. Nothing secret is here.

use std::path::{Path, PathBuf};

use domain::VolumeKeyDigest;
use otp::KeyStore;
use serde::Deserialize;
use tpm::{InvalidTcti, Tcti};

use crate::{
    attachments::Attachments,
    cli::Place,
    closing::Extend,
    expected::{Counter, Expected, StorageKeys},
    keystore::{Given, Keys},
    origin::Origin,
    pin::PinSource,
};

/// Where the configuration is looked for.
pub(crate) const DEFAULT_PATH: &str = "/etc/signalbox/edge.toml";
/// The TPM of a Linux machine, behind the kernel's resource manager.
const DEFAULT_TCTI: &str = "device:/dev/tpmrm0";

/// What a command needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The sealed volume.
    pub(crate) volume: PathBuf,
    /// The TPM.
    pub(crate) tcti: Tcti,
    /// The raw OTP device key's file, if it is none of those that a Raspberry Pi's own kernel has.
    pub(crate) otp_nvmem: Option<PathBuf>,
    /// What the TPM may want to be shown.
    pub(crate) answers: Given,
    /// The proxy, if not the volume's.
    pub(crate) proxy: Option<Origin>,
    /// The model, if one is named.
    pub(crate) model: Option<String>,
    /// What volume and TPM must be.
    pub(crate) expected: Expected,
    /// What `unlock` extends afterwards, if the configuration says it.
    pub(crate) extend: Option<Extend>,
    /// Where the event log and the image statement are looked for.
    pub(crate) attachments: Attachments,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}:{line}:{column}: {message}\n  | {text}\n  | {underline}")]
    Invalid {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
        text: String,
        underline: String,
    },
    #[error("no volume is named")]
    NoVolume,
    #[error("`{text}` names no TPM: {source}")]
    Tcti {
        text: String,
        #[source]
        source: InvalidTcti,
    },
}

impl SettingsError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("name the configuration with --config, or volume and TPM with --volume and --tcti".to_owned()),
            Self::Invalid { .. } => Some(
                "the keys are volume = \"FILE\", and where needed tcti = \"device:/dev/tpmrm0\", otp-nvmem = \"FILE\", proxy = \"https://HOST\", model = \"NAME\", event-log = \"FILE\", image-statement = \"FILE\", volume-key-digest = \"HEX\", rollback-counter = \"0x01800020\", tpm2-signature = \"FILE\", extend-pcr = 15, [storage-keys]"
                    .to_owned(),
            ),
            Self::NoVolume => Some(format!("name it with --volume, or with `volume` in {DEFAULT_PATH}")),
            Self::Tcti { .. } => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    volume: Option<PathBuf>,
    tcti: Option<String>,
    otp_nvmem: Option<PathBuf>,
    proxy: Option<String>,
    model: Option<String>,
    event_log: Option<PathBuf>,
    image_statement: Option<PathBuf>,
    volume_key_digest: Option<VolumeKeyDigest>,
    rollback_counter: Option<Counter>,
    tpm2_signature: Option<PathBuf>,
    extend_pcr: Option<Extend>,
    storage_keys: Option<StorageKeys>,
}

impl Settings {
    /// Reads the file, if there is one, and puts the command line over it.
    pub(crate) fn load(place: &Place) -> Result<Self, crate::error::Error> {
        let raw = match &place.config {
            Some(path) => read(path)?,
            None => match read(Path::new(DEFAULT_PATH)) {
                Err(SettingsError::Unreadable { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Raw::default()
                }
                other => other?,
            },
        };
        let tcti = place
            .tcti
            .clone()
            .or(raw.tcti)
            .unwrap_or_else(|| DEFAULT_TCTI.to_owned());
        let tcti: Tcti = tcti
            .parse()
            .map_err(|source| SettingsError::Tcti { text: tcti, source })?;
        let attachments = Attachments::new(&tcti, raw.event_log, raw.image_statement);
        let proxy = match place.proxy.clone().or(raw.proxy) {
            Some(text) => Some(text.parse::<Origin>()?),
            None => None,
        };
        let expected = Expected {
            volume_key: place.volume_key_digest.or(raw.volume_key_digest),
            counter: raw.rollback_counter.map(|counter| counter.0),
            storage_keys: raw.storage_keys.unwrap_or_default().pins(),
        };
        Ok(Self {
            expected,
            extend: raw.extend_pcr,
            answers: Given {
                signatures: place.tpm2_signature.clone().or(raw.tpm2_signature),
                pin: PinSource::new(place.pin_file.as_deref()),
            },
            volume: place
                .volume
                .clone()
                .or(raw.volume)
                .ok_or(SettingsError::NoVolume)?,
            tcti,
            otp_nvmem: raw.otp_nvmem,
            proxy,
            model: place.model.clone().or(raw.model),
            attachments,
        })
    }
}

impl Settings {
    /// The key stores of this machine.
    pub(crate) fn keys(&self) -> Keys {
        let otp = KeyStore::of_this_machine();
        let otp = match &self.otp_nvmem {
            Some(file) => otp.with_fallback([file.clone()]),
            None => otp,
        };
        Keys::new(
            self.tcti.clone(),
            otp,
            self.expected.storage_keys.clone(),
            self.answers.clone(),
        )
    }
}

fn read(path: &Path) -> Result<Raw, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| invalid(path, &text, &error))
}

fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let span = error.span().unwrap_or(0..0);
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let source = text.lines().nth(line).unwrap_or_default();
    let marked = text
        .get(span)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .count();
    SettingsError::Invalid {
        path: path.to_owned(),
        line: line.saturating_add(1),
        column: column.saturating_add(1),
        message: error.message().lines().next().unwrap_or_default().to_owned(),
        text: source.to_owned(),
        underline: format!("{}{}", " ".repeat(column), "^".repeat(marked.max(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(config: Option<&Path>) -> Place {
        Place {
            config: config.map(Path::to_owned),
            volume: None,
            tcti: None,
            proxy: None,
            model: None,
            volume_key_digest: None,
            tpm2_signature: None,
            pin_file: None,
        }
    }

    fn load(text: &str, change: impl FnOnce(&mut Place)) -> Result<Settings, crate::error::Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        std::fs::write(&path, text).unwrap();
        let mut place = place(Some(&path));
        change(&mut place);
        Settings::load(&place)
    }

    #[test]
    fn the_command_line_wins() {
        let text = "volume = \"/v\"\ntcti = \"device:/dev/tpm0\"\nproxy = \"https://a\"\nmodel = \"m\"\nevent-log = \"/l\"\nimage-statement = \"/s\"\n";
        let settings = load(text, |_| ()).unwrap();
        assert_eq!(settings.attachments.event_log.as_deref(), Some(Path::new("/l")));
        assert_eq!(settings.attachments.image_statement, Path::new("/s"));
        assert_eq!(settings.volume, Path::new("/v"));
        assert_eq!(settings.tcti.to_string(), "device:/dev/tpm0");
        assert_eq!(settings.proxy.unwrap().to_string(), "https://a");
        assert_eq!(settings.model.as_deref(), Some("m"));
        let settings = load(text, |place| {
            place.volume = Some("/other".into());
            place.tcti = Some("swtpm:host=127.0.0.1,port=1".to_owned());
            place.proxy = Some("https://b".to_owned());
            place.model = Some("n".to_owned());
        })
        .unwrap();
        assert_eq!(settings.volume, Path::new("/other"));
        assert_eq!(settings.tcti.to_string(), "swtpm:host=127.0.0.1,port=1");
        assert_eq!(settings.proxy.unwrap().to_string(), "https://b");
        assert_eq!(settings.model.as_deref(), Some("n"));
    }

    #[test]
    fn what_is_expected_is_read_and_the_command_line_names_another_volume() {
        let (a, b) = ("ab".repeat(32), "cd".repeat(32));
        let text = format!(
            "volume = \"/v\"\nvolume-key-digest = \"{a}\"\nrollback-counter = \"0x01800021\"\nextend-pcr = 11\n\
             [storage-keys]\nsystemd-ecc = \"000b{b}\"\n"
        );
        let settings = load(&text, |_| ()).unwrap();
        let expected = &settings.expected;
        assert_eq!(expected.volume_key.unwrap().to_string(), a);
        assert_eq!(expected.counter.unwrap().get(), 0x0180_0021);
        assert_eq!(expected.storage_keys.len(), 1);
        assert_eq!(settings.extend, Some("11".parse().unwrap()));
        let settings = load(&text, |place| place.volume_key_digest = Some(b.parse().unwrap())).unwrap();
        assert_eq!(settings.expected.volume_key.unwrap().to_string(), b);
        let settings = load("volume = \"/v\"\nextend-pcr = \"none\"", |_| ()).unwrap();
        assert_eq!(settings.extend, Some(Extend::Nothing));
        for odd in [
            "volume-key-digest = \"ab\"",
            "rollback-counter = \"0x81000001\"",
            "rollback-counter = 25165856",
            "extend-pcr = 24",
            "extend-pcr = \"15\"",
            "[storage-keys]\ntcg-ecc = \"000bab\"",
            "[storage-keys]\ntcg-rsa = \"000b\"",
        ] {
            let error = load(&format!("volume = \"/v\"\n{odd}\n"), |_| ()).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Usage, "{odd}: {error}");
        }
    }

    #[test]
    fn a_volume_alone_is_enough() {
        let settings = load("volume = \"/v\"", |_| ()).unwrap();
        assert_eq!(settings.tcti.to_string(), DEFAULT_TCTI);
        assert!(settings.proxy.is_none() && settings.model.is_none());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let error = load("volume = \"/v\"\npsk = \"secret\"\n", |_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("edge.toml:2:1: unknown field `psk`"), "{error}");
        assert!(error.contains("  | psk = \"secret\"\n  | ^^^"), "{error}");
        let error = load("volume = 7\n", |_| ()).unwrap_err().to_string();
        assert!(error.contains("edge.toml:1:10: invalid type"), "{error}");
        let error = load("volume = \n", |_| ()).unwrap_err().to_string();
        assert!(error.contains("edge.toml:1:"), "{error}");
    }

    #[test]
    fn what_is_missing_or_odd_is_refused() {
        use crate::error::{Error, Exit};
        for (text, exit) in [
            ("", Exit::Usage),
            ("volume = \"/v\"\ntcti = \"usb:1\"", Exit::Usage),
            ("volume = \"/v\"\nproxy = \"llm\"", Exit::Usage),
            ("volume = \"/v\"\nproxy = \"http://llm.example\"", Exit::Refused),
        ] {
            let error = load(text, |_| ()).unwrap_err();
            assert_eq!(error.exit(), exit, "{text}");
        }
        let missing = Settings::load(&place(Some(Path::new("/nonexistent/edge.toml")))).unwrap_err();
        assert!(matches!(
            missing,
            Error::Settings(SettingsError::Unreadable { .. })
        ));
        assert!(missing.hint().is_some());
    }
}
