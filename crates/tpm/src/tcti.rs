//! Where the TPM is, in tpm2-tss form.
//!
//! Owns: the grammar: `device:PATH`, `swtpm:host=..,port=..`, `mssim:host=..,port=..`, `tabrmd:..`. It is stricter than
//! tss-esapi, which takes any key it does not know and then talks to localhost: here that is an error.
//! The text comes from a manifest or the command line, so from the operator.

use std::{fmt, path::PathBuf, str::FromStr};

use tss_esapi::tcti_ldr::TctiNameConf;

/// How the TPM is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcti {
    text: Box<str>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Device(PathBuf),
    Socket,
    Tabrmd,
}

/// Why a text does not name a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTcti {
    /// None of the kinds that we know.
    #[error("a TPM is one of device:PATH, swtpm:host=HOST,port=PORT, mssim:host=HOST,port=PORT, tabrmd:")]
    Kind,
    /// `device:` without an absolute path.
    #[error("device: wants an absolute path, such as device:/dev/tpmrm0")]
    Path,
    /// Not exactly a host and a port.
    #[error("a TPM on a socket wants both, host=HOST,port=PORT, and nothing else")]
    Socket,
    /// Not what the resource manager daemon takes.
    #[error("tabrmd: takes bus_name=NAME,bus_type=system|session or nothing")]
    Tabrmd,
}

impl Tcti {
    pub(crate) const fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn conf(&self) -> Result<TctiNameConf, InvalidTcti> {
        // tss-esapi spells the daemon's default without the colon.
        let text = self.text.strip_suffix(':').unwrap_or(&self.text);
        TctiNameConf::from_str(text).map_err(|_| InvalidTcti::Kind)
    }
}

impl FromStr for Tcti {
    type Err = InvalidTcti;

    fn from_str(text: &str) -> Result<Self, InvalidTcti> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let kind = match kind {
            "device" if rest.starts_with('/') => Kind::Device(PathBuf::from(rest)),
            "device" => return Err(InvalidTcti::Path),
            "swtpm" | "mssim" => socket(rest)?,
            "tabrmd" => Kind::Tabrmd,
            _ => return Err(InvalidTcti::Kind),
        };
        let tcti = Self {
            text: text.into(),
            kind,
        };
        match tcti.conf() {
            Ok(_) => Ok(tcti),
            Err(_) if tcti.kind == Kind::Tabrmd => Err(InvalidTcti::Tabrmd),
            Err(_) => Err(InvalidTcti::Socket),
        }
    }
}

fn socket(rest: &str) -> Result<Kind, InvalidTcti> {
    let (mut host, mut port) = (None, None);
    for part in rest.split(',') {
        let twice = match part.split_once('=') {
            Some(("host", value)) if !value.is_empty() => host.replace(value).is_some(),
            Some(("port", value)) if value.parse::<u16>().is_ok_and(|p| p > 0) => {
                port.replace(value).is_some()
            }
            _ => true,
        };
        if twice {
            return Err(InvalidTcti::Socket);
        }
    }
    host.and(port).map(|_| Kind::Socket).ok_or(InvalidTcti::Socket)
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_four_kinds_and_prints_them_back() {
        for good in [
            "device:/dev/tpmrm0",
            "swtpm:host=127.0.0.1,port=2321",
            "swtpm:port=2321,host=localhost",
            "mssim:host=::1,port=2321",
            "tabrmd:",
            "tabrmd",
            "tabrmd:bus_name=com.example.Tabrmd,bus_type=session",
        ] {
            assert_eq!(good.parse::<Tcti>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn refuses_what_would_silently_reach_another_tpm() {
        let err = |text: &str| text.parse::<Tcti>().unwrap_err();
        assert_eq!(err(""), InvalidTcti::Kind);
        assert_eq!(err("cmd:sh -c id"), InvalidTcti::Kind);
        assert_eq!(err("/dev/tpm0"), InvalidTcti::Kind);
        assert_eq!(err("device"), InvalidTcti::Path);
        assert_eq!(err("device:dev/tpm0"), InvalidTcti::Path);
        for socket in [
            "swtpm",
            "swtpm:path=/run/swtpm.sock",
            "swtpm:host=127.0.0.1",
            "swtpm:port=1",
            "swtpm:host=127.0.0.1,port=0",
            "swtpm:host=127.0.0.1,port=99999",
            "swtpm:host=127.0.0.1,port=1,port=2",
            "swtpm:host=127.0.0.1,port=1,x=y",
            "mssim:host=bad host,port=1",
        ] {
            assert_eq!(err(socket), InvalidTcti::Socket, "{socket}");
        }
        assert_eq!(err("tabrmd:bus_type=other"), InvalidTcti::Tabrmd);
    }
}
