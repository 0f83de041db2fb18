//! This device: what its sealed volume holds, released by its own key store.
//!
//! Owns: the way from a volume's header over the key store to the pre-shared key and the device's configuration. Everything
//! here blocks (TPM, firmware, disk, key derivation): async code calls it in `spawn_blocking`.
//! Refuses: a volume that is sealed to nothing. An attacker may have written the volume; what it can hold then is
//! another device's identity, never this one's key.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use domain::{Psk, SealedSecret, Sha256Digest};
use opening::signatures::SignaturesError;
use protocol::{
    Subject,
    binding::{Binding, qualifying_data},
};
use tpm::{AkHandle, InvalidHandle, RollbackError, TpmError, UnsealError};
use volume::{ConfigError, DeviceConfig, Header, InspectError, OpenVolume};
use zeroize::Zeroizing;

use crate::{
    error::Exit,
    expected::{Expected, Unexpected},
    keystore::Keys,
    pin::PinError,
};

/// The longest file that is read of a mounted volume, in bytes.
const MAX_MOUNTED: u64 = 64 * 1024;

/// An opened device volume.
pub(crate) struct Device {
    /// What the volume says about the device.
    pub(crate) config: DeviceConfig,
    /// Where its attestation key is; a device without a TPM has none.
    pub(crate) ak: Option<AkHandle>,
    /// Its pre-shared key.
    pub(crate) psk: Psk,
}

/// Why the volume did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("cannot open the volume {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Header(#[from] InspectError),
    #[error("the volume is sealed neither to a TPM nor to a device key")]
    NotSealed,
    #[error("the volume's token cannot be used")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the volume has no UUID in the usual form")]
    Uuid,
    #[error("the device key does not give the volume's secret")]
    Otp(#[from] otp::DeriveError),
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error("the TPM does not release the volume's key")]
    Unseal(#[source] UnsealError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Signatures(#[from] SignaturesError),
    #[error("the volume does not open with what this device's key store released")]
    Open(#[from] volume::OpenError),
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    #[error("the firmware does not lock the device key")]
    Lock(#[from] otp::FirmwareError),
    #[error("cannot read {path} in the volume")]
    Read {
        path: &'static str,
        #[source]
        source: volume::ReadError,
    },
    #[error("the volume holds no usable pre-shared key")]
    Psk(#[from] domain::secret::InvalidPsk),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Handle(#[from] InvalidHandle),
    #[error("this device was provisioned without a TPM: it has no key to quote with")]
    NoAttestationKey,
    #[error("the work on the TPM was broken off")]
    BrokenOff,
}

impl DeviceError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("is --volume right, and may this user read it?".to_owned()),
            Self::NoAttestationKey => Some("its policy must be one that asks for no evidence".to_owned()),
            Self::NotSealed => Some("`provisioner apply` makes a volume that this device opens".to_owned()),
            Self::Tpm(error) => error.hint().map(str::to_owned),
            Self::Unseal(error) => error.hint().map(str::to_owned),
            Self::Pin(error) => error.hint().map(str::to_owned),
            Self::Otp(error) => error.hint().map(str::to_owned),
            Self::Unexpected(error) => error.hint(),
            Self::Lock(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }

    /// Another volume or TPM than the configuration names is refused; all else failed.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Unexpected(error) if error.is_refusal() => Exit::Refused,
            Self::Tpm(TpmError::AnotherSrk(_))
            | Self::Unseal(UnsealError::Tpm(TpmError::AnotherSrk(_)))
            | Self::Unexpected(Unexpected::Age(RollbackError::Tpm(TpmError::AnotherSrk(_)))) => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

/// Reads the header of the volume, without any secret.
pub(crate) fn inspect(path: &Path) -> Result<(File, Header), DeviceError> {
    let file = File::open(path).map_err(|source| DeviceError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let header = volume::inspect(&file)?;
    Ok((file, header))
}

/// The passphrase of the sealed keyslot, once the key store released the secret, the header proved authentic under it, and the
/// volume is the one that is expected.
pub(crate) fn release(
    path: &Path,
    keys: &mut Keys,
    expected: &Expected,
) -> Result<Zeroizing<Vec<u8>>, DeviceError> {
    let (_, secret) = unseal(path, keys, expected)?;
    Ok(volume::passphrase_of(&secret))
}

/// Opens the volume at `path` with what the key store releases, and goes no further where it is another one than expected.
fn unseal(
    path: &Path,
    keys: &mut Keys,
    expected: &Expected,
) -> Result<(OpenVolume, SealedSecret), DeviceError> {
    let (file, header) = inspect(path)?;
    let secret = keys.release(&header)?;
    let open = volume::open(file, &secret)?;
    expected.check(&open, || keys.tpm())?;
    Ok((open, secret))
}

/// A file of a volume that is mounted: `unlock` has judged it.
fn mounted(folder: &Path, path: &'static str) -> Result<Zeroizing<Vec<u8>>, DeviceError> {
    let place = folder.join(path.trim_start_matches('/'));
    let mut content = Zeroizing::new(Vec::new());
    // Room for all of it at once: what grows leaves copies behind.
    content.reserve_exact(usize::try_from(MAX_MOUNTED).unwrap_or_default());
    File::open(&place)
        .and_then(|file| file.take(MAX_MOUNTED).read_to_end(&mut content))
        .map_err(|source| DeviceError::Unreadable { path: place, source })?;
    Ok(content)
}

impl Device {
    /// Opens the volume at `path` through its key store; a folder is a volume that `unlock` and the kernel have opened.
    pub(crate) fn open(path: &Path, keys: &mut Keys, expected: &Expected) -> Result<Self, DeviceError> {
        if path.is_dir() {
            return Self::read(|file| mounted(path, file));
        }
        let (open, _) = unseal(path, keys, expected)?;
        Self::read(|path| {
            open.read(path)
                .map_err(|source| DeviceError::Read { path, source })
        })
    }

    fn read(
        read: impl Fn(&'static str) -> Result<Zeroizing<Vec<u8>>, DeviceError>,
    ) -> Result<Self, DeviceError> {
        let config = DeviceConfig::from_toml(&read("/device.toml")?)?;
        Ok(Self {
            ak: config.ak_handle.map(AkHandle::try_from).transpose()?,
            psk: Psk::parse(&read("/psk")?)?,
            config,
        })
    }

    /// Where the key is that makes quotes.
    pub(crate) fn attestation_key(&self) -> Result<AkHandle, DeviceError> {
        self.ak.ok_or(DeviceError::NoAttestationKey)
    }

    /// What a quote that answers `nonce` must be bound to.
    pub(crate) fn qualifying_data(&self, nonce: &[u8], binding: &Binding<'_>) -> [u8; 32] {
        let subject = Subject {
            fleet: &self.config.fleet,
            audience: &self.config.audience,
            device: &self.config.device,
            psk: &self.psk.digest(),
        };
        qualifying_data(&subject, nonce, binding)
    }

    /// As [`Device::qualifying_data`], for one request.
    pub(crate) fn qualifying_data_of(
        &self,
        nonce: &[u8],
        method: &str,
        target: &str,
        body: &[u8],
    ) -> [u8; 32] {
        let body = &Sha256Digest::of(body);
        self.qualifying_data(nonce, &Binding::Request { method, target, body })
    }
}
