//! What opens a volume: a TPM with all that its token asks for, OTP fuses, a recovery key or a passphrase.
//!
//! Owns: choosing among them (what the command line says, or else the volume's tokens, a TPM's first), and what is kept of the
//! opener so that the volume can be sealed anew. A PIN is asked for when a token wants one and not before.
//! Refuses headers that the opening secret does not authenticate, unless told by name to take them.
//! An attacker may have written the tokens: he chooses which of our questions is asked, and gets no answer. No MAC covers them: of all
//! tokens the one is believed under whose conditions the TPM released the secret that authenticates the header.

use std::{fs::File, path::Path};

use ::opening::{Answers, NotReleased};
use domain::{Pin, SealedSecret};
use otp::KeyStore;
use tpm::{Tcti, Tpm};
use volume::{Header, NotAuthentic, OpenError, OpenVolume, OtpToken, RecoveryKey, Tpm2Token};

use super::{header, unopened, usage};
use crate::{cli::OpenArgs, failure::Failure, report::Reporter, secrets, tokens};

/// The TPM of a machine, behind the kernel's resource manager.
const DEFAULT_TPM: &str = "device:/dev/tpmrm0";

/// What opened a volume.
pub(super) enum Key {
    /// What the TPM released or the fuses gave.
    Sealed(SealedSecret),
    /// A recovery key.
    Recovery(RecoveryKey),
    /// A passphrase.
    Passphrase,
}

/// An open volume.
pub(super) struct Opened {
    pub(super) volume: OpenVolume,
    pub(super) key: Key,
    /// The token under which the TPM released the secret; its conditions are those of the seal.
    pub(super) token: Option<Tpm2Token>,
    /// The PIN, where one was needed.
    pub(super) pin: Option<Pin>,
}

/// Opens a volume.
pub(super) fn open(path: &Path, args: &OpenArgs, reporter: &mut dyn Reporter) -> Result<Opened, Failure> {
    let (file, header) = header(path)?;
    if let Some(from) = &args.recovery_key_file {
        let key = secrets::recovery_key(from)?;
        let volume = volume::open_with_recovery_key(file, &key).map_err(|e| unopened(path, e))?;
        return Ok(Opened {
            volume: authentic(volume, path, args)?,
            key: Key::Recovery(key),
            token: None,
            pin: None,
        });
    }
    if let Some(from) = &args.passphrase_file {
        let passphrase = secrets::read(from)?;
        let volume = volume::open_with_passphrase(file, &passphrase).map_err(|e| unopened(path, e))?;
        if !args.unauthenticated {
            reporter.note("a passphrase authenticates no header: nothing proves that this volume is the one that was made");
        }
        return Ok(Opened {
            volume,
            key: Key::Passphrase,
            token: None,
            pin: None,
        });
    }
    let by_otp = args.otp || args.tcti.is_none() && header.sealed_tokens().is_empty();
    if by_otp && let Some(token) = header.otp_tokens().first() {
        let secret = derive(
            &header,
            token,
            &tokens::store(args.otp_nvmem.as_deref()),
            path,
            reporter,
        )?;
        return sealed(file, path, args, Released::derived(secret));
    }
    if header.sealed_tokens().is_empty() || args.otp {
        return Err(nothing(path, &header));
    }
    let released = release(path, &header, args)?;
    sealed(file, path, args, released)
}

/// A secret, and what it took.
struct Released {
    secret: SealedSecret,
    token: Option<Tpm2Token>,
    pin: Option<Pin>,
}

impl Released {
    const fn derived(secret: SealedSecret) -> Self {
        Self {
            secret,
            token: None,
            pin: None,
        }
    }
}

fn sealed(file: File, path: &Path, args: &OpenArgs, released: Released) -> Result<Opened, Failure> {
    let Released { secret, token, pin } = released;
    let opened = if args.unauthenticated {
        volume::open_unauthenticated(file, &secret)
    } else {
        volume::open(file, &secret)
    };
    let volume = opened.map_err(|e| match e {
        OpenError::NotAuthentic(NotAuthentic::Missing) => foreign(path),
        other => unopened(path, other),
    })?;
    Ok(Opened {
        volume,
        key: Key::Sealed(secret),
        token,
        pin,
    })
}

fn authentic(volume: OpenVolume, path: &Path, args: &OpenArgs) -> Result<OpenVolume, Failure> {
    if volume.is_authenticated() || args.unauthenticated {
        return Ok(volume);
    }
    Err(foreign(path))
}

fn foreign(path: &Path) -> Failure {
    Failure::Foreign {
        path: path.to_owned(),
    }
}

/// Why nothing of this machine opens the volume.
fn nothing(path: &Path, header: &Header) -> Failure {
    let unusable = header.unusable_tokens().first().map(ToString::to_string);
    let unusable = unusable.or_else(|| header.unusable_otp_tokens().first().map(ToString::to_string));
    let why = unusable.unwrap_or_else(|| "it has no token for that".to_owned());
    usage(
        format!(
            "'{}' cannot be opened by this machine's keys: {why}",
            path.display()
        ),
        "--recovery-key-file FILE or --passphrase-file FILE opens it all the same; `volume info` shows its tokens",
    )
}

/// Lets the TPM release the secret of the first token that it can.
fn release(path: &Path, header: &Header, args: &OpenArgs) -> Result<Released, Failure> {
    let mut tpm = open_tpm(args.tcti.as_ref())?;
    let answers = Answers {
        signatures: &mut || Ok(tokens::signatures(args.pcr_signature.as_deref())?),
        pin: &mut || Ok(secrets::pin(args.pin_file.as_deref())?),
    };
    match ::opening::release(&mut tpm, header.sealed_tokens(), answers) {
        Ok(released) => Ok(Released {
            secret: released.secret,
            token: Some(released.token),
            pin: released.pin,
        }),
        Err(Stopped::Answer(failure)) => Err(failure),
        Err(Stopped::Refused(NotReleased::Unseal(why))) => Err(Failure::Unseal(why)),
        Err(Stopped::Refused(NotReleased::PolicyKey(why))) => Err(tokens::no_policy_key(why)),
        Err(Stopped::Refused(NotReleased::NoToken)) => Err(nothing(path, header)),
    }
}

/// Why no secret came.
enum Stopped {
    Answer(Failure),
    Refused(NotReleased),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Answer(failure)
    }
}

impl From<NotReleased> for Stopped {
    fn from(refused: NotReleased) -> Self {
        Self::Refused(refused)
    }
}

/// The machine's TPM, unless another is named.
pub(super) fn open_tpm(tcti: Option<&Tcti>) -> Result<Tpm, Failure> {
    let tcti = match tcti {
        Some(tcti) => tcti.clone(),
        None => DEFAULT_TPM
            .parse()
            .map_err(|e: tpm::InvalidTcti| usage(e.to_string(), "name a TPM with --tcti"))?,
    };
    Tpm::open(&tcti).map_err(Failure::BareTpm)
}

fn derive(
    header: &Header,
    token: &OtpToken,
    store: &dyn Fn() -> KeyStore,
    path: &Path,
    reporter: &mut dyn Reporter,
) -> Result<SealedSecret, Failure> {
    let uuid = header
        .uuid_bytes()
        .ok_or_else(|| unopened(path, "its UUID is not one of the usual form"))?;
    let derived = tokens::derive(&mut store(), token, uuid)?;
    if let Some(warning) = derived.source.warning() {
        reporter.note(warning);
    }
    Ok(derived.secret)
}
