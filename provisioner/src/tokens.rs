//! What this machine has to answer a volume's token with: signatures that approve of PCR values, OTP keys. What the token asks for, in the
//! words of the TPM, is `opening`'s.
//!
//! Called by whoever opens or seals a volume. An attacker may have written the token; a wrong one makes unsealing fail.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use opening::signatures::SignaturesError;
pub(crate) use opening::{conditions, object};
use otp::{Derived, KeyId, KeyStore, Recipe};
use tpm::{InvalidPolicyKey, PolicyKey, PolicySignatures};
use volume::{OtpToken, Tpm2Token};

use crate::failure::Failure;

/// The longest public file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What approves of PCR values: the file that is named, or the first that systemd would find.
pub(crate) fn signatures(named: Option<&Path>) -> Result<Option<PolicySignatures>, Failure> {
    opening::signatures::load(named).map_err(|error| match error {
        SignaturesError::Unreadable { path, source } => Failure::ReadFile { path, source },
        SignaturesError::Invalid { path, source } => Failure::NotEvidence {
            what: "tpm2-pcr-signature.json of systemd's",
            path,
            source: source.into(),
        },
    })
}

/// A file that holds no secret.
pub(crate) fn public_file(path: &Path) -> Result<Vec<u8>, Failure> {
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
pub(crate) fn policy_key(token: &Tpm2Token) -> Result<Option<PolicyKey>, Failure> {
    opening::policy_key(token).map_err(no_policy_key)
}

/// A token that names no key which could approve of anything.
pub(crate) fn no_policy_key(why: InvalidPolicyKey) -> Failure {
    usage(
        format!("the volume's token: {why}"),
        "open it with its recovery key",
    )
}

/// This machine's OTP keys.
pub(crate) fn store(nvmem: Option<&Path>) -> impl Fn() -> KeyStore + use<> {
    let nvmem: Option<PathBuf> = nvmem.map(Path::to_owned);
    move || {
        let store = KeyStore::of_this_machine();
        match &nvmem {
            Some(file) => store.with_fallback([file.clone()]),
            None => store,
        }
    }
}

/// What opens a volume with an OTP token: derived from the key that the token names.
pub(crate) fn derive(store: &mut KeyStore, token: &OtpToken, volume: [u8; 16]) -> Result<Derived, Failure> {
    let Some(key) = KeyId::new(token.key_id) else {
        return Err(usage(
            "the volume's token names a key that no firmware has",
            "open it with its recovery key",
        ));
    };
    let recipe = Recipe {
        device: &token.device,
        volume,
        salt: &token.salt,
    };
    store.derive(key, &recipe).map_err(Failure::Otp)
}

/// As [`derive`], twice: a firmware that is not sure of itself makes no volume.
pub(crate) fn derive_twice(
    store: &mut KeyStore,
    token: &OtpToken,
    volume: [u8; 16],
) -> Result<Derived, Failure> {
    let first = derive(store, token, volume)?;
    let second = derive(store, token, volume)?;
    if first.secret.ct_eq(&second.secret) {
        return Ok(first);
    }
    Err(usage(
        "the OTP device key gave two different secrets for one message",
        "this board's firmware cannot be relied on",
    ))
}

/// The policy key in a file.
pub(crate) fn read_policy_key(path: &Path) -> Result<PolicyKey, Failure> {
    PolicyKey::from_pem(&public_file(path)?).map_err(|e| Failure::NotEvidence {
        what: "policy key",
        path: path.to_owned(),
        source: e.into(),
    })
}

fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::Usage(what.into(), Some(hint.to_owned()))
}
