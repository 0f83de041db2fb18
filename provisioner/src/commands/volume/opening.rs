//! What opens a volume: a TPM with all that its token asks for, OTP fuses, a recovery key or a passphrase.
//!
//! Owns: choosing among them (what the command line says, or else the volume's tokens, a TPM's first), and what is kept of the
//! opener so that the volume can be sealed anew. A PIN is asked for when a token wants one and not before.
//! Refuses headers that the opening secret does not authenticate, unless told by name to take them.
//! An attacker may have written the tokens: he chooses which of our questions is asked, and gets no answer.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use domain::{Pin, SealedSecret};
use otp::{KeyId, KeyStore, Recipe};
use tpm::{Conditions, PinAuth, PinSalt, PolicyKey, PolicySignatures, SealedObject, SignedPcrs, Tcti, Tpm};
use volume::{Header, NotAuthentic, OpenError, OpenVolume, OtpToken, RecoveryKey, TokenPin, Tpm2Token};

use super::{header, secrets, unopened, usage};
use crate::{cli::OpenArgs, failure::Failure, report::Reporter};

/// Where systemd looks for what approves of PCR values (systemd-cryptenroll(1), `--tpm2-signature=`).
const SIGNATURES: [&str; 3] = [
    "/etc/systemd/tpm2-pcr-signature.json",
    "/run/systemd/tpm2-pcr-signature.json",
    "/usr/lib/systemd/tpm2-pcr-signature.json",
];
/// The TPM of a machine, behind the kernel's resource manager.
const DEFAULT_TPM: &str = "device:/dev/tpmrm0";
/// The longest public file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

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
            pin: None,
        });
    }
    let by_otp = args.otp || args.tcti.is_none() && header.sealed_tokens().is_empty();
    if by_otp && let Some(token) = header.otp_tokens().first() {
        let secret = derive(&header, token, &store(args.otp_nvmem.as_deref()), path, reporter)?;
        return sealed(file, path, args, secret, None);
    }
    if header.sealed_tokens().is_empty() || args.otp {
        return Err(nothing(path, &header));
    }
    let (secret, pin) = release(path, &header, args)?;
    sealed(file, path, args, secret, pin)
}

fn sealed(
    file: File,
    path: &Path,
    args: &OpenArgs,
    secret: SealedSecret,
    pin: Option<Pin>,
) -> Result<Opened, Failure> {
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
fn release(path: &Path, header: &Header, args: &OpenArgs) -> Result<(SealedSecret, Option<Pin>), Failure> {
    let mut tpm = open_tpm(args.tcti.as_ref())?;
    let signatures = signatures(args.pcr_signature.as_deref())?;
    let mut pin = None;
    let mut refused = None;
    for token in header.sealed_tokens() {
        if token.pin != TokenPin::None && pin.is_none() {
            pin = Some(secrets::pin(args.pin_file.as_deref())?);
        }
        let key = policy_key(token)?;
        let conditions = conditions(token, key.as_ref(), signatures.as_ref(), pin.as_ref());
        match tpm.unseal_with(&object(token), &conditions) {
            Ok(secret) => return Ok((secret, pin)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or_else(|| nothing(path, header), Failure::Unseal))
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

/// What approves of PCR values: the file that is named, or the first that systemd would find.
pub(super) fn signatures(named: Option<&Path>) -> Result<Option<PolicySignatures>, Failure> {
    let found = || SIGNATURES.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = named.or_else(found) else {
        return Ok(None);
    };
    let text = public_file(path)?;
    let signatures = PolicySignatures::from_json(&text).map_err(|e| Failure::NotEvidence {
        what: "tpm2-pcr-signature.json of systemd's",
        path: path.to_owned(),
        source: e.into(),
    })?;
    Ok(Some(signatures))
}

/// A file that holds no secret.
pub(super) fn public_file(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let unread = |source| Failure::ReadFile {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    let most = MAX_FILE.saturating_add(1);
    let len = file.take(most).read_to_end(&mut bytes).map_err(unread)?;
    if u64::try_from(len).is_ok_and(|len| len <= MAX_FILE) {
        return Ok(bytes);
    }
    Err(usage(
        format!("'{}' has more than {MAX_FILE} bytes", path.display()),
        "this is another file than the one that is wanted",
    ))
}

/// The key that a token with a signed policy names.
pub(super) fn policy_key(token: &Tpm2Token) -> Result<Option<PolicyKey>, Failure> {
    let signed = token.signed.as_ref();
    let key = signed
        .map(|signed| PolicyKey::from_pem(&signed.key_pem))
        .transpose();
    key.map_err(|e| {
        usage(
            format!("the volume's token: {e}"),
            "open it with its recovery key",
        )
    })
}

/// What a token asks for.
pub(super) fn conditions<'a>(
    token: &Tpm2Token,
    key: Option<&'a PolicyKey>,
    signatures: Option<&'a PolicySignatures>,
    pin: Option<&'a Pin>,
) -> Conditions<'a> {
    let salt = match token.pin {
        TokenPin::Salted(salt) => Some(PinSalt(salt)),
        TokenPin::None | TokenPin::Plain => None,
    };
    let signed = token.signed.as_ref().zip(key);
    Conditions {
        exact: token.exact,
        signed: signed.map(|(signed, key)| SignedPcrs {
            key,
            pcrs: signed.pcrs,
            signatures,
        }),
        pin: pin
            .filter(|_| token.pin != TokenPin::None)
            .map(|pin| PinAuth { pin, salt }),
    }
}

/// The object in a token, as the TPM takes it.
pub(super) fn object(token: &Tpm2Token) -> SealedObject {
    SealedObject {
        private_then_public: token.blob.clone(),
        policy_hash: token.policy_hash,
        primary_alg: match token.primary_alg {
            volume::PrimaryAlg::Ecc => tpm::PrimaryAlg::Ecc,
            volume::PrimaryAlg::Rsa => tpm::PrimaryAlg::Rsa,
        },
    }
}

/// This machine's OTP keys.
pub(super) fn store(nvmem: Option<&Path>) -> impl Fn() -> KeyStore + use<> {
    let nvmem: Option<PathBuf> = nvmem.map(Path::to_owned);
    move || {
        let store = KeyStore::of_this_machine();
        match &nvmem {
            Some(file) => store.with_fallback([file.clone()]),
            None => store,
        }
    }
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
    let recipe = Recipe {
        device: &token.device,
        volume: uuid,
        salt: &token.salt,
    };
    let key = KeyId::new(token.key_id)
        .ok_or_else(|| unopened(path, "its token names a key that no firmware has"))?;
    let derived = store().derive(key, &recipe).map_err(Failure::Otp)?;
    if let Some(warning) = derived.source.warning() {
        reporter.note(warning);
    }
    Ok(derived.secret)
}
