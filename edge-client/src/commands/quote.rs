//! `edge-client quote`: evidence for one request by hand, in the form of headers and in that of tpm2-tools.
//!
//! Owns: what is written where. The pre-shared key is not among it: whoever makes the call by hand adds it. The same
//! rules hold as in a call: own audience, at least our own PCRs.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use domain::{PcrSelection, Sha256Digest};
use protocol::{headers, nonce::Opaque};
use serde_json::json;
use tpm::{Tpm, TpmError};

use super::Common;
use crate::{
    attachments::Attachments,
    attest,
    call::CallError,
    cli::Quote as Arguments,
    device::{Device, DeviceError},
    error::{Error, Exit},
    proxy::Proxy,
    report,
    session::Own,
};

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuoteError {
    #[error("a nonce is 64 hexadecimal digits")]
    Nonce,
    #[error("{0} is not a method in upper case and a path")]
    Request(String),
    #[error("this device's configuration names no PCRs to quote")]
    NoPcrs,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot read the body")]
    Body(#[source] std::io::Error),
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl QuoteError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Some("name a folder that does not exist yet".to_owned())
            }
            Self::NoPcrs => {
                Some("its policy asks for no evidence: the pre-shared key alone is enough".to_owned())
            }
            Self::Call(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Nonce | Self::Request(_) => Exit::Usage,
            Self::Call(error) => error.exit(),
            Self::NoPcrs | Self::Body(_) | Self::Write { .. } => Exit::Failed,
        }
    }
}

/// A quote and what it says.
struct Made {
    nonce: Opaque,
    qualifying_data: [u8; 32],
    quote: tpm::Quote,
    ak_public: Vec<u8>,
}

pub(crate) async fn run(common: &Common, arguments: Arguments) -> Result<Exit, Error> {
    let nonce = arguments.nonce.as_deref().map(parse_nonce).transpose()?;
    let well_formed =
        arguments.method.bytes().all(|b| b.is_ascii_uppercase()) && arguments.target.starts_with('/');
    if !well_formed {
        let request = format!("{} {}", arguments.method, arguments.target);
        return Err(QuoteError::Request(request).into());
    }
    let body = arguments
        .body
        .as_deref()
        .map(read_body)
        .transpose()?
        .unwrap_or_default();
    // Before the TPM is asked: a folder that exists is not written into.
    let folder = arguments.out.as_deref().map(Folder::create).transpose()?;
    let (device, origin) = common.open().await?;
    let own = Own {
        audience: device.config.audience.clone(),
        pcrs: device.config.pcrs,
    };
    let (nonce, selection) = match nonce {
        Some(nonce) => (nonce, own.pcrs),
        None => {
            let proxy = Proxy::new(origin, &device.psk).map_err(CallError::from)?;
            let (challenge, _) = proxy.challenge().await.map_err(CallError::from)?;
            let selection = own.judge(&challenge).map_err(CallError::Own)?;
            (challenge.nonce, selection)
        }
    };
    let selection = selection.ok_or(QuoteError::NoPcrs)?;
    let data = device.qualifying_data_of(nonce.as_bytes(), &arguments.method, &arguments.target, &body);
    let made = make(common, &device, nonce, data, selection).await?;
    if let Some(mut folder) = folder {
        save(&mut folder, &made)?;
        attach(&mut folder, &common.settings.attachments)?;
        folder.keep();
    }
    if common.json {
        report::line(&made.to_json(&arguments, &body).to_string())?;
    } else {
        report::data(&made.headers())?;
    }
    Ok(Exit::Done)
}

async fn make(
    common: &Common,
    device: &Device,
    nonce: Opaque,
    qualifying_data: [u8; 32],
    selection: PcrSelection,
) -> Result<Made, Error> {
    let (tcti, ak) = (common.settings.tcti.clone(), device.attestation_key()?);
    let (quote, info) = attest::blocking(move || {
        let mut tpm = Tpm::open(&tcti)?;
        let info = tpm.read_ak(ak)?.ok_or(DeviceError::Tpm(TpmError::NoAk(ak)))?;
        Ok((tpm.quote(ak, &qualifying_data, &selection)?, info))
    })
    .await?;
    Ok(Made {
        nonce,
        qualifying_data,
        quote,
        ak_public: info.public.as_bytes().to_vec(),
    })
}

impl Made {
    /// One header a line, as `curl -H @FILE` takes them.
    fn headers(&self) -> String {
        let fields = [
            ("TPM-Quote", self.quote.attest.as_slice()),
            ("TPM-Quote-Signature", &self.quote.signature),
            ("TPM-Quote-PCRs", self.quote.pcrs.as_bytes()),
            ("TPM-Quote-Nonce", self.nonce.as_bytes()),
        ];
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", headers::bytes(value)))
            .collect()
    }

    fn to_json(&self, arguments: &Arguments, body: &[u8]) -> serde_json::Value {
        let pcrs: serde_json::Map<_, _> = self
            .quote
            .pcrs
            .iter()
            .map(|(index, value)| (index.to_string(), json!(value.to_string())))
            .collect();
        json!({
            "quote": headers::bytes(&self.quote.attest),
            "signature": headers::bytes(&self.quote.signature),
            "pcrs": headers::bytes(self.quote.pcrs.as_bytes()),
            "nonce": headers::bytes(self.nonce.as_bytes()),
            "qualifying_data": HEXLOWER.encode(&self.qualifying_data),
            "selection": self.quote.pcrs.selection().to_string(),
            "values": pcrs,
            "request": {
                "method": arguments.method,
                "target": arguments.target,
                "body_sha256": Sha256Digest::of(body).to_string(),
            },
        })
    }
}

/// Files as `tpm2_checkquote -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -l sha256:7,11
/// -q $(cat qualifying-data)` takes them.
fn save(folder: &mut Folder, made: &Made) -> Result<(), QuoteError> {
    // A TPM2B_PUBLIC: the size, then the area.
    let size = u16::try_from(made.ak_public.len()).unwrap_or(u16::MAX);
    let ak = [&size.to_be_bytes()[..], &made.ak_public].concat();
    let qualifying_data = HEXLOWER.encode(&made.qualifying_data);
    let headers = made.headers();
    let files: [(&str, &[u8]); 6] = [
        ("quote.msg", &made.quote.attest),
        ("quote.sig", &made.quote.signature),
        ("quote.pcrs", made.quote.pcrs.as_bytes()),
        ("ak.pub", &ak),
        ("qualifying-data", qualifying_data.as_bytes()),
        ("headers", headers.as_bytes()),
    ];
    files
        .into_iter()
        .try_for_each(|(name, content)| folder.write(name, content))
}

/// What goes beside a quote in a session request, where this machine has it: for `provisioner evidence check`.
fn attach(folder: &mut Folder, places: &Attachments) -> Result<(), QuoteError> {
    for (name, found) in [
        ("event.log", places.event_log()),
        ("image-statement.json", places.image_statement()),
    ] {
        if let Some(bytes) = found.into_bytes() {
            folder.write(name, &bytes)?;
        }
    }
    Ok(())
}

/// A new folder that is taken away again with what was written into it, unless it is kept.
struct Folder {
    path: PathBuf,
    written: Vec<PathBuf>,
    kept: bool,
}

impl Folder {
    fn create(path: &Path) -> Result<Self, QuoteError> {
        fs::create_dir(path).map_err(|source| unwritten(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            written: Vec::new(),
            kept: false,
        })
    }

    fn write(&mut self, name: &str, content: &[u8]) -> Result<(), QuoteError> {
        let path = self.path.join(name);
        let mut file = fs::File::create_new(&path).map_err(|source| unwritten(&path, source))?;
        self.written.push(path.clone());
        file.write_all(content).map_err(|source| unwritten(&path, source))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing but our own files goes; a folder with others in it stays.
            for path in &self.written {
                let _ = fs::remove_file(path);
            }
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn unwritten(path: &Path, source: std::io::Error) -> QuoteError {
    QuoteError::Write {
        path: path.to_owned(),
        source,
    }
}

fn parse_nonce(text: &str) -> Result<Opaque, QuoteError> {
    let bytes = HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map_err(|_| QuoteError::Nonce)?;
    Opaque::try_from(bytes).map_err(|_| QuoteError::Nonce)
}

fn read_body(path: &Path) -> Result<Vec<u8>, QuoteError> {
    if path == Path::new("-") {
        let mut body = Vec::new();
        return std::io::stdin()
            .read_to_end(&mut body)
            .map(|_| body)
            .map_err(QuoteError::Body);
    }
    fs::read(path).map_err(QuoteError::Body)
}
