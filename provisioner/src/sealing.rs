//! To what a volume's secret is sealed in a TPM, here or elsewhere, and the token that says so.
//!
//! Owns: the way from command line or token to a policy, what fits which systemd (252 has its own storage key and hashes a PIN
//! without salt; later ones have the TCG's key, a salt, and the policy key's Name with a zero for its exponent), and the words for a
//! person. That the secret comes back out is seen before anyone relies on it, where this machine can see it.

use std::{borrow::Cow, path::Path};

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValues, Pin, SealedSecret};
use tpm::{
    Conditions, KeyForm, PinAuth, PinSalt, PolicyKey, PolicySignatures, PrimaryAlg, ReadBack, SealEntropy,
    SealOptions, SealedObject, SignedPcrs, StorageKey, StorageTemplate, seal_for, srk_to_token,
};
use volume::{KeyslotId, TokenPin, TokenSigned, Tpm2Token};

use crate::{
    cli::{SealArgs, Srk},
    failure::Failure,
    ports::Tpm,
    secrets, tokens,
};

/// Any program resets these, and extends them to what it likes (TCG PC Client Platform TPM Profile 4.6); manifests refuse them too.
const RESETTABLE: [u8; 2] = [16, 23];

/// To what somebody wishes a secret to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealWish {
    /// The PCRs that must stay as they are.
    pub(crate) exact: Option<PcrSelection>,
    /// Whose holder approves of which PCRs' values.
    pub(crate) signed: Option<(PolicyKey, PcrSelection)>,
    /// Whether a PIN is wanted too.
    pub(crate) pin: bool,
    /// Under which storage key.
    pub(crate) srk: Srk,
    /// The bank of all PCRs here.
    pub(crate) bank: HashAlg,
}

/// To what a secret is sealed, with all that the TPM must be shown.
pub(crate) struct Seal<'a> {
    wish: SealWish,
    signatures: Option<Cow<'a, PolicySignatures>>,
    pin: Option<Shown<'a>>,
    force: bool,
}

/// A PIN of our own, or somebody's.
enum Shown<'a> {
    Own(Pin),
    Lent(&'a Pin),
}

impl SealWish {
    /// Whether a token says the same.
    pub(crate) fn is_of(&self, token: &Tpm2Token) -> bool {
        let signed = match (&self.signed, &token.signed) {
            (None, None) => true,
            (Some((key, pcrs)), Some(theirs)) => *pcrs == theirs.pcrs && key.pem() == theirs.key_pem,
            _ => false,
        };
        signed
            && self.exact == token.exact
            && self.pin == (token.pin != TokenPin::None)
            && (self.srk == Srk::Tcg) == token.srk.is_some()
    }

    /// Under which storage key.
    pub(crate) const fn template(&self) -> StorageTemplate {
        match self.srk {
            Srk::Systemd => StorageTemplate::SystemdEcc,
            Srk::SystemdRsa => StorageTemplate::SystemdRsa,
            Srk::Tcg => StorageTemplate::TcgEcc,
        }
    }

    /// For a person.
    pub(crate) fn words(&self) -> String {
        let exact = self.exact.map(|pcrs| format!("the values of {pcrs}"));
        let signed = self
            .signed
            .as_ref()
            .map(|(key, pcrs)| format!("values of {pcrs} that the key {} approves", key.fingerprint()));
        let pin = self.pin.then(|| "a PIN".to_owned());
        let all: Vec<String> = [signed, exact, pin].into_iter().flatten().collect();
        format!("{}, under {}", all.join(" and "), self.template())
    }
}

impl serde::Serialize for SealWish {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words())
    }
}

impl<'a> Seal<'a> {
    /// What a plan asks for.
    pub(crate) fn new(
        wish: SealWish,
        pin: Option<&'a Pin>,
        signatures: Option<&'a PolicySignatures>,
        force: bool,
    ) -> Self {
        Self {
            // Without a signed policy nothing is to be approved of.
            signatures: signatures.filter(|_| wish.signed.is_some()).map(Cow::Borrowed),
            wish,
            pin: pin.map(Shown::Lent),
            force,
        }
    }

    /// What the command line asks for; asks for the PIN.
    pub(crate) fn of_args(args: &SealArgs, signature: Option<&Path>) -> Result<Self, Failure> {
        let bank = args.seal_bank;
        let in_bank = |list: &crate::cli::PcrList| {
            list.of(bank)
                .map_err(|e| usage(e, "PCRs are numbers from 0 to 23, for example 7,11"))
        };
        let exact = args.seal_pcrs.as_ref().map(in_bank).transpose()?;
        let signed = match &args.seal_public_key {
            Some(path) => Some((
                tokens::read_policy_key(path)?,
                in_bank(&args.seal_public_key_pcrs)?,
            )),
            None => None,
        };
        if exact.is_none() && signed.is_none() {
            return Err(usage(
                "nothing says to what the volume is sealed",
                "--seal-pcrs 7,11, or --seal-public-key FILE, or --otp on a Raspberry Pi",
            ));
        }
        let resettable = exact
            .iter()
            .flat_map(PcrSelection::iter)
            .find(|pcr| RESETTABLE.contains(&pcr.get()));
        if let Some(pcr) = resettable.filter(|_| !args.force_uninitialised_pcrs) {
            return Err(usage(
                format!("PCR {pcr} can be reset by any program: sealing to it protects nothing"),
                "16 and 23 are for debugging and applications; choose others, or --force-uninitialised-pcrs",
            ));
        }
        let wish = SealWish {
            exact,
            signed,
            pin: args.pin || args.new_pin_file.is_some(),
            srk: args.srk,
            bank: bank.alg(),
        };
        let signatures = signatures(&wish, signature)?;
        let pin = wish.pin.then(|| secrets::new_pin(args.new_pin_file.as_deref()));
        Ok(Self {
            wish,
            signatures: signatures.map(Cow::Owned),
            pin: pin.transpose()?.map(Shown::Own),
            force: args.force_uninitialised_pcrs,
        })
    }

    /// What a volume is sealed to already, with the present values of its PCRs. `pin`: the one that opened it.
    pub(crate) fn as_before(
        token: &Tpm2Token,
        pin: Option<Pin>,
        args: &SealArgs,
        signature: Option<&Path>,
    ) -> Result<Self, Failure> {
        let key = tokens::policy_key(token)?;
        let signed = token.signed.as_ref().zip(key);
        let pin = match (token.pin, pin) {
            (TokenPin::None, _) => None,
            (_, Some(pin)) => Some(pin),
            (_, None) => Some(secrets::new_pin(None)?),
        };
        let srk = match (&token.srk, token.primary_alg) {
            _ if args.srk != Srk::default() => args.srk,
            (Some(_), _) => Srk::Tcg,
            (None, volume::PrimaryAlg::Ecc) => Srk::Systemd,
            (None, volume::PrimaryAlg::Rsa) => Srk::SystemdRsa,
        };
        let wish = SealWish {
            exact: token.exact,
            signed: signed.map(|(signed, key)| (key, signed.pcrs)),
            pin: pin.is_some(),
            srk,
            bank: token.bank,
        };
        let signatures = signatures(&wish, signature)?;
        Ok(Self {
            wish,
            signatures: signatures.map(Cow::Owned),
            pin: pin.map(Shown::Own),
            force: args.force_uninitialised_pcrs,
        })
    }

    /// Seals in a TPM that is here. `salt` is random: a PIN's, where one is wanted.
    pub(crate) fn here(
        &self,
        tpm: &mut dyn Tpm,
        secret: &SealedSecret,
        salt: [u8; 32],
    ) -> Result<(Tpm2Token, ReadBack), Failure> {
        let pin = self.token_pin(salt);
        let (object, read_back) = tpm
            .seal_with(secret, &self.conditions(pin), self.options())
            .map_err(Failure::SealHere)?;
        let srk = match self.wish.srk {
            Srk::Tcg => {
                let persistent = tpm.persistent_storage_key().map_err(Failure::BareTpm)?;
                let key = match persistent {
                    Some(key) => key,
                    None => tpm
                        .storage_key(StorageTemplate::TcgEcc)
                        .map_err(Failure::BareTpm)?,
                };
                Some(srk_to_token(&key).map_err(Failure::BareTpm)?)
            }
            Srk::Systemd | Srk::SystemdRsa => None,
        };
        Ok((self.token(object, pin, srk), read_back))
    }

    /// Seals to a TPM that is not here; `values` are those that its exact PCRs will have. `salt` as in [`Seal::here`].
    pub(crate) fn away(
        &self,
        srk: &StorageKey,
        values: Option<&PcrValues>,
        secret: &SealedSecret,
        salt: [u8; 32],
        entropy: SealEntropy,
    ) -> Result<Tpm2Token, Failure> {
        let pin = self.token_pin(salt);
        let object = seal_for(
            srk,
            secret,
            &self.conditions(pin),
            values,
            self.options(),
            entropy,
        )
        .map_err(Failure::SealHere)?;
        let token_srk = match srk.template() {
            StorageTemplate::TcgEcc => Some(srk_to_token(srk).map_err(Failure::BareTpm)?),
            StorageTemplate::SystemdEcc | StorageTemplate::SystemdRsa => None,
        };
        Ok(self.token(object, pin, token_srk))
    }

    /// What was wished for.
    pub(crate) const fn wish(&self) -> &SealWish {
        &self.wish
    }

    fn options(&self) -> SealOptions {
        SealOptions {
            parent: self.wish.template(),
            form: match self.wish.srk {
                Srk::Systemd | Srk::SystemdRsa => KeyForm::Explicit,
                Srk::Tcg => KeyForm::Default,
            },
            force_uninitialised: self.force,
            cap: cap(),
        }
    }

    const fn token_pin(&self, salt: [u8; 32]) -> TokenPin {
        match (&self.pin, self.wish.srk) {
            (None, _) => TokenPin::None,
            (Some(_), Srk::Tcg) => TokenPin::Salted(salt),
            (Some(_), Srk::Systemd | Srk::SystemdRsa) => TokenPin::Plain,
        }
    }

    fn conditions(&self, pin: TokenPin) -> Conditions<'_> {
        let salt = match pin {
            TokenPin::Salted(salt) => Some(PinSalt(salt)),
            TokenPin::None | TokenPin::Plain => None,
        };
        Conditions {
            exact: self.wish.exact,
            signed: self.wish.signed.as_ref().map(|(key, pcrs)| SignedPcrs {
                key,
                pcrs: *pcrs,
                signatures: self.signatures.as_deref(),
            }),
            pin: self.pin.as_ref().map(|pin| PinAuth {
                pin: match pin {
                    Shown::Own(pin) => pin,
                    Shown::Lent(pin) => pin,
                },
                salt,
            }),
        }
    }

    fn token(&self, object: SealedObject, pin: TokenPin, srk: Option<Vec<u8>>) -> Tpm2Token {
        Tpm2Token {
            keyslot: KeyslotId::SEALED,
            blob: object.private_then_public,
            bank: self.wish.bank,
            exact: self.wish.exact,
            signed: self.wish.signed.as_ref().map(|(key, pcrs)| TokenSigned {
                pcrs: *pcrs,
                key_pem: key.pem().to_vec(),
            }),
            pin,
            primary_alg: match object.primary_alg {
                PrimaryAlg::Ecc => volume::PrimaryAlg::Ecc,
                PrimaryAlg::Rsa => volume::PrimaryAlg::Rsa,
            },
            policy_hash: object.policy_hash,
            srk,
        }
    }
}

/// What approves of the PCRs of a signed policy, where there is one.
fn signatures(wish: &SealWish, named: Option<&Path>) -> Result<Option<PolicySignatures>, Failure> {
    wish.signed
        .as_ref()
        .and_then(|_| tokens::signatures(named).transpose())
        .transpose()
}

fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::Usage(what.into(), Some(hint.to_owned()))
}

/// The options that seal as a token says, for a person who can judge whether it says the truth.
pub(crate) fn options(token: &Tpm2Token) -> String {
    let list = |pcrs: &PcrSelection| {
        let all: Vec<String> = pcrs.iter().map(|pcr| pcr.to_string()).collect();
        all.join(",")
    };
    let mut all = Vec::new();
    if let Some(exact) = &token.exact {
        all.push(format!("--seal-pcrs {}", list(exact)));
    }
    if let Some(signed) = &token.signed {
        all.push(format!(
            "--seal-public-key FILE --seal-public-key-pcrs {}",
            list(&signed.pcrs)
        ));
    }
    if token.pin != TokenPin::None {
        all.push("--pin".to_owned());
    }
    if token.srk.is_some() {
        all.push("--srk tcg".to_owned());
    }
    if token.bank != HashAlg::Sha256 {
        all.push(format!("--seal-bank {}", token.bank));
    }
    all.join(" ")
}

/// The PCR that `edge-client unlock` extends behind a volume: a seal that covers it is made while it is zero, beside others that are not.
pub(crate) fn cap() -> Option<PcrIndex> {
    PcrIndex::try_from(15).ok()
}

/// What was seen of a seal, for a person.
pub(crate) const fn seen(read_back: Option<ReadBack>) -> &'static str {
    match read_back {
        Some(ReadBack::Compared) => "unsealed once and compared",
        Some(ReadBack::NotApprovedNow) => {
            "loaded once; not unsealed, since no signature approves of this machine's state"
        }
        None => "for a TPM that is not here: the device's first opening is the proof",
    }
}
