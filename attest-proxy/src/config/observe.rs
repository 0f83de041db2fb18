//! What the program writes down and tells others: the audit log, the snapshot on disk, traces.
//!
//! Owns: these sections, their defaults and ranges. Paths are made absolute by whoever knows the file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::units::{Size, duration};

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file.
    pub file: PathBuf,
    /// When lines are made durable.
    pub fsync: Fsync,
    /// What becomes of requests that cannot be written down.
    pub on_failure: OnFailure,
    /// Bytes of a file; then it is set aside and the next one begins.
    pub max_size: u64,
    /// Lines that may wait to be written.
    pub queue: usize,
    /// Whether bodies are written.
    pub prompts: bool,
    /// How much of a body, in bytes.
    pub prompt_bytes: usize,
}

/// When lines are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before the request is forwarded.
    Each,
    /// At the latest after this time.
    Every(Duration),
    /// When the system likes to.
    Never,
}

/// What becomes of requests that cannot be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// 503.
    Refuse,
    /// They go on, and are counted.
    Drop,
}

/// Traces.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// The collector.
    pub endpoint: Collector,
    /// Which share of requests, 0 to 1.
    pub sample: f64,
    /// Whether a client that says "sampled" is believed.
    pub follow_parent: bool,
}

/// A collector of OTLP over HTTP: `http://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// `host:port` to connect to.
    pub address: String,
    /// What goes into the `Host` header.
    pub authority: String,
    /// The path.
    pub path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAudit {
    file: PathBuf,
    #[serde(default = "default_fsync")]
    fsync: Fsync,
    #[serde(default = "default_on_failure")]
    on_failure: OnFailure,
    #[serde(default = "default_max_size")]
    max_size: Size,
    #[serde(default = "default_queue")]
    queue: u32,
    #[serde(default)]
    prompts: bool,
    #[serde(default = "default_prompt_bytes")]
    prompt_bytes: Size,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawTraces {
    endpoint: Collector,
    #[serde(default = "default_sample")]
    sample: f64,
    #[serde(default)]
    follow_parent: bool,
}

/// Where the registry's last snapshot is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSnapshot {
    pub(super) file: PathBuf,
}

const fn default_fsync() -> Fsync {
    Fsync::Every(Duration::from_secs(1))
}

const fn default_on_failure() -> OnFailure {
    OnFailure::Refuse
}

const fn default_max_size() -> Size {
    Size(256 << 20)
}

const fn default_queue() -> u32 {
    8192
}

const fn default_prompt_bytes() -> Size {
    Size(16 << 10)
}

const fn default_sample() -> f64 {
    0.01
}

impl RawAudit {
    /// The valid form, or the sentence that says what is out of range.
    pub(super) fn check(self, dir: &Path) -> Result<AuditSettings, &'static str> {
        if !(64..=1_000_000).contains(&self.queue) {
            return Err("`queue` is 64 to 1000000 lines");
        }
        if self.max_size.0 < (64 << 10) {
            return Err("`max-size` is at least 64KiB");
        }
        if self.prompt_bytes.0 > (256 << 10) {
            return Err("`prompt-bytes` is at most 256KiB");
        }
        Ok(AuditSettings {
            file: dir.join(self.file),
            fsync: self.fsync,
            on_failure: self.on_failure,
            max_size: u64::try_from(self.max_size.0).map_err(|_| "`max-size` is too large")?,
            queue: usize::try_from(self.queue).map_err(|_| "`queue` is too large")?,
            prompts: self.prompts,
            prompt_bytes: self.prompt_bytes.0,
        })
    }
}

impl RawTraces {
    /// The valid form, or the sentence that says what is out of range.
    pub(super) fn check(self) -> Result<TraceSettings, &'static str> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err("`sample` is 0 to 1");
        }
        Ok(TraceSettings {
            endpoint: self.endpoint,
            sample: self.sample,
            follow_parent: self.follow_parent,
        })
    }
}

impl<'de> Deserialize<'de> for Fsync {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Every(#[serde(deserialize_with = "duration")] Duration);
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "each" => Ok(Self::Each),
            "never" => Ok(Self::Never),
            other => {
                let every = Every::deserialize(serde::de::value::StrDeserializer::<D::Error>::new(other));
                every
                    .map(|Every(time)| Self::Every(time))
                    .map_err(|_| D::Error::custom("`fsync` is \"each\", \"never\", or a time like \"1s\""))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Collector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom("a collector is http://host:port/path, commonly http://127.0.0.1:4318/v1/traces")
        })
    }
}

impl Collector {
    fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') || uri.query().is_some() {
            return None;
        }
        Some(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            authority: authority.as_str().to_owned(),
            path: uri.path().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsync_is_a_word_or_a_time() {
        let read = |text: &str| {
            toml::from_str::<RawAudit>(&format!("file = \"a\"\nfsync = \"{text}\"")).map(|r| r.fsync)
        };
        assert_eq!(read("each").unwrap(), Fsync::Each);
        assert_eq!(read("never").unwrap(), Fsync::Never);
        assert_eq!(read("250ms").unwrap(), Fsync::Every(Duration::from_millis(250)));
        assert!(read("often").unwrap_err().to_string().contains("\"each\""));
    }

    #[test]
    fn out_of_range_is_named() {
        for (line, word) in [
            ("queue = 1", "queue"),
            ("max-size = \"1KiB\"", "max-size"),
            ("prompt-bytes = \"1MiB\"", "prompt-bytes"),
        ] {
            let raw: RawAudit = toml::from_str(&format!("file = \"a\"\n{line}")).unwrap();
            assert!(raw.check(Path::new("/")).unwrap_err().contains(word), "{line}");
        }
        let traces = |text: &str| toml::from_str::<RawTraces>(text).map(RawTraces::check);
        let good = "endpoint = \"http://[::1]:4318/v1/traces\"\n";
        let read = traces(good).unwrap().unwrap();
        assert_eq!(
            (read.endpoint.address.as_str(), read.endpoint.path.as_str()),
            ("[::1]:4318", "/v1/traces")
        );
        assert!(traces(&format!("{good}sample = 2.0")).unwrap().is_err());
        for bad in ["https://a/x", "a:4318", "http://u:p@a/", "http://a/?x"] {
            assert!(traces(&format!("endpoint = \"{bad}\"")).is_err(), "{bad}");
        }
    }
}
